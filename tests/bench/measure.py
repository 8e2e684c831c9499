"""Runs processes on chosen cores, measures their CPU time and memory, and runs the load generator. proxies.py configures them."""

import os
import re
import shutil
import signal
import socket
import subprocess
import time

TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """An error message for the person who runs the benchmark."""


def free_port(address="127.0.0.1"):
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def program(name, *more):
    """The path of a program, or None."""
    for candidate in (name, *more):
        found = shutil.which(candidate) or shutil.which(candidate, path="/usr/sbin:/usr/local/sbin")
        if found:
            return found
    return None


class Process:
    """One program with its children, on one core. `stop` ends all of them."""

    def __init__(self, argv, core, output, env=None):
        # Appending, so that truncating a log between rounds leaves no hole.
        with open(output, "ab") as out:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(core), *argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, env={**os.environ, **(env or {})},
            )
        self.name = os.path.basename(argv[0])
        self.output = output

    def alive(self):
        return self.process.poll() is None

    def tail(self):
        with open(self.output, "rb") as file:
            file.seek(max(0, os.path.getsize(self.output) - 2000))
            return file.read().decode(errors="replace").strip()

    def tree(self):
        """Its process id and those of its descendants."""
        children = {}
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = stat_fields(entry)
                if fields:
                    children.setdefault(int(fields[1]), []).append(int(entry))
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            todo.extend(children.get(pid, []))
        return found

    def cpu_us(self):
        """User and system time of the whole tree so far, in microseconds."""
        fields = (stat_fields(pid) for pid in self.tree())
        return sum((int(f[11]) + int(f[12])) * TICK_US for f in fields if f)

    def memory_mb(self):
        """(resident, proportional) memory of the whole tree in MB of 10^6 bytes."""
        resident = proportional = 0
        for pid in self.tree():
            with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
                text = file.read()
            resident += int(re.search(r"^Rss:\s+(\d+)", text, re.M)[1])
            proportional += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1])
        return resident * 1024 / 1e6, proportional * 1024 / 1e6

    def stop(self):
        for sign, timeout in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
            try:
                os.killpg(self.process.pid, sign)  # its own session, with no other process
            except ProcessLookupError:
                pass
            try:
                self.process.wait(timeout)
                return
            except subprocess.TimeoutExpired:
                continue


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


LUA = """
-- Sends the lines of a file in turn: a path, then headers, separated by tabs. All have the same method and body.
local requests, at = {}, 0
function init(args)
  for line in io.lines(args[1]) do
    local path, headers = nil, {}
    for name, value in pairs(wrk.headers) do headers[name] = value end
    for field in line:gmatch("[^\\t]+") do
      if path then
        local name, value = field:match("^([^:]+): (.*)$")
        headers[name] = value
      else
        path = field
      end
    end
    requests[#requests + 1] = wrk.format(args[2], path, headers, args[3])
  end
end
function request()
  at = at % #requests + 1
  return requests[at]
end
"""


def wrk_argv(directory, scenario, material, url, seconds, connections):
    """Writes the request list once per directory."""
    script, listing = os.path.join(directory, "load.lua"), os.path.join(directory, "requests.tsv")
    if not os.path.exists(script):
        with open(listing, "w", encoding="ascii") as file:
            for path, headers in scenario.requests(material):
                file.write("\t".join([path, *(f"{name}: {value}" for name, value in headers.items())]) + "\n")
        with open(script, "w", encoding="ascii") as file:
            file.write(LUA)
    return ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", script, url, "--", listing, scenario.method, *filter(None, [scenario.payload])]


def load(argv, core, seconds):
    """Runs wrk to its end and reads its report."""
    try:
        done = subprocess.run(
            ["taskset", "-c", str(core), *argv], capture_output=True, text=True, timeout=seconds + 60, check=False,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"wrk did not end within {seconds + 60} seconds") from error
    report = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", done.stdout)
    if done.returncode != 0 or not report:
        raise BenchError(f"wrk failed: {done.stdout}{done.stderr}")
    unit = {"ms": 0.001, "s": 1.0, "m": 60.0}[report[3]]
    non_2xx = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    return {
        "requests": int(report[1]),
        "seconds": float(report[2]) * unit,
        "non_2xx": int(non_2xx[1]) if non_2xx else 0,
        "socket_errors": sum(map(int, errors.groups())) if errors else 0,
        "p99_ms": float(p99[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[p99[2]] if p99 else None,
    }


def eventually(seconds, attempt, what, process):
    """Repeats `attempt` until it returns something true; raises the last error after the deadline."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        if not process.alive():
            raise BenchError(f"{process.name} ended while waiting until {what}:\n{process.tail()}")
        try:
            result = attempt()
            if result:
                return result
        except (OSError, BenchError) as error:
            last = error
        time.sleep(0.02)
    raise BenchError(f"{process.name}: not within {seconds} seconds: {what} ({last})\n{process.tail()}")
