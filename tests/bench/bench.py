#!/usr/bin/env python3
"""Compares sluice-proxy with nginx, HAProxy and, where installed, Envoy: CPU time and requests per second for the same work.

Each proxy has one core, the load generator (wrk) and the backend (nginx) another. Rounds are interleaved, so that what
disturbs the machine disturbs all of them. The result is Markdown on the standard output; progress goes to the standard error.
Run tests/bench/prerequisites first, and build with: cargo build --release -p sluice-proxy
"""

import sys

sys.dont_write_bytecode = True

import argparse
import datetime
import http.client
import json
import os
import platform
import shutil
import signal
import ssl
import statistics
import subprocess
import tempfile
import time

import change
import memory
from material import Material
from measure import BenchError, eventually, load, wrk_argv
from proxies import BACKEND_ADDRESS, Backend, Envoy, Haproxy, Nginx, require
from report import render
from scenarios import SCENARIOS
from sluice import Sluice

ROOT = os.path.realpath(os.path.join(os.path.dirname(__file__), "../.."))
PEERS = [Nginx, Haproxy, Envoy]


def say(text):
    print(text, file=sys.stderr, flush=True)


class Client:
    """A persistent connection that returns single responses."""

    def __init__(self, proxy, trust=None):
        self.scenario = proxy.scenario
        if proxy.scenario.tls:
            context = ssl.create_default_context(cafile=trust)
            self.connection = http.client.HTTPSConnection("localhost", proxy.port, timeout=10, context=context)
        else:
            self.connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)

    def send(self, path, headers):
        self.connection.request(self.scenario.method, path, headers=headers, body=self.scenario.payload or None)
        response = self.connection.getresponse()
        return response.status, len(response.read()), response.headers.get("X-Served")


def preflight(proxy):
    """Checks that the proxy does all the work of the scenario. Called until the proxy is ready."""
    scenario = proxy.scenario
    listing = scenario.requests(proxy.material)
    client = Client(proxy, proxy.material.ca)
    responses = [client.send(*listing[0]) for _ in range(4)]
    status, length, _ = responses[-1]
    if status != scenario.status:
        raise BenchError(f"{proxy.name} returns status {status}, not {scenario.status}, in scenario {scenario.name}")
    if status == 200:
        if length != scenario.body:
            raise BenchError(f"{proxy.name} returns {length} bytes, not {scenario.body}, in scenario {scenario.name}")
        marks = [mark for _, _, mark in responses]
        if (len(set(marks)) == len(marks)) == scenario.cache or None in marks:
            raise BenchError(f"{proxy.name} {'does not cache' if scenario.cache else 'caches'} in scenario {scenario.name}: {marks}")
        # The last route and the last client are served as well.
        if client.send(*listing[-1])[0] != 200:
            raise BenchError(f"{proxy.name} rejects the last request of scenario {scenario.name}")
        # The function of the benchmark accepts every token.
        for header in ("X-Api-Key",) if scenario.function else ("Authorization", "X-Api-Key"):
            if header in listing[0][1] and client.send(listing[0][0], {**listing[0][1], header: "Bearer wrong"})[0] not in (401, 403):
                raise BenchError(f"{proxy.name} accepts a wrong {header} in scenario {scenario.name}")
    return True


def one_round(proxy, core, seconds, connections):
    """One round of load: CPU time per request, requests per second, latency."""
    scenario = proxy.scenario
    argv = wrk_argv(proxy.directory, scenario, proxy.material, proxy.url(), seconds, connections)
    before = proxy.process.cpu_us()
    seen = load(argv, core, seconds)
    spent = proxy.process.cpu_us() - before
    wrong = seen["requests"] - seen["non_2xx"] if scenario.status == 429 else seen["non_2xx"]
    if seen["requests"] == 0 or wrong > (1 if scenario.status == 429 else 0) or seen["socket_errors"]:
        raise BenchError(f"{proxy.name}, scenario {scenario.name}: of {seen['requests']} requests {wrong} had another status than expected, "
                         f"{seen['socket_errors']} socket errors\n{proxy.process.tail()}")
    return {"cpu_us": spent / seen["requests"], "rps": seen["requests"] / seen["seconds"], "p99_ms": seen["p99_ms"],
            "requests": seen["requests"]}


def baseline(scenario):
    """Another scenario once more, in the rounds of one that is compared with it."""
    return type("Baseline", (Sluice,), {"name": scenario.name, "work": scenario})


def measure(scenario, kinds, material, backend, directory, options):
    """Measures all proxies in one scenario. A proxy that fails has an error instead of rounds."""
    place = os.path.join(directory, scenario.name)
    os.mkdir(place)
    running, result = [], {}
    if Sluice in kinds:
        named = [against for against, _ in scenario.goals]
        kinds = [*kinds, *(baseline(other) for other in SCENARIOS if other.name in named)]
    try:
        for kind in kinds:
            if not kind.can(scenario):
                result[kind.name] = {"none": "no equivalent"}
                continue
            work = getattr(kind, "work", scenario)
            proxy = kind(work, material, backend, place, options.proxy_core)
            running.append(proxy)
            try:
                proxy.start()
                eventually(30, lambda: preflight(proxy), f"it serves scenario {scenario.name}", proxy.process)
                one_round(proxy, options.load_core, 1, options.connections)
                if not scenario.status == 429:
                    eventually(15, proxy.logged, "it writes its access log", proxy.process)
                result[kind.name] = {"rounds": []}
            except BenchError as error:
                say(f"  {kind.name}: {error}")
                result[kind.name] = {"failed": str(error)}
        for number in range(options.rounds):
            turn = number % len(running) if running else 0
            for proxy in running[turn:] + running[:turn]:
                if "rounds" not in result[proxy.name]:
                    continue
                try:
                    seen = one_round(proxy, options.load_core, options.seconds, options.connections)
                    result[proxy.name]["rounds"].append(seen)
                    say(f"  {scenario.name} {number + 1}/{options.rounds} {proxy.name}: {seen['cpu_us']:.1f} µs, {seen['rps']:.0f}/s")
                except BenchError as error:
                    say(f"  {proxy.name}: {error}")
                    result[proxy.name] = {"failed": str(error)}
                proxy.tidy()
        for proxy in running:
            if "rounds" in result[proxy.name]:
                result[proxy.name]["log_lines_dropped"] = proxy.shortfall()
    finally:
        for proxy in running:
            proxy.stop()
        shutil.rmtree(place, ignore_errors=True)
    for seen in result.values():
        if "rounds" in seen:
            for metric in ("cpu_us", "rps", "p99_ms"):
                values = [r[metric] for r in seen["rounds"] if r[metric] is not None]
                seen[metric] = statistics.median(values) if values else None
    return result


def versions(kinds):
    found = {}
    for kind in kinds:
        done = subprocess.run(kind.version(), capture_output=True, text=True, timeout=20, check=False)
        lines = (done.stdout or done.stderr).strip().splitlines()
        found[kind.name] = " ".join(lines[0].replace(kind.program, "").split()) if lines else "unknown"
    return found


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def arguments():
    names = [s.name for s in SCENARIOS] + ["memory", "change"]
    cores = sorted(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenario", action="append", choices=names, metavar="NAME",
                        help=f"one of {', '.join(names)}; may be given several times; default: all. "
                             "Scenarios with a goal against another one measure that in their own rounds")
    parser.add_argument("--rounds", type=int, default=5, help="rounds per scenario (1 to 100, default 5)")
    parser.add_argument("--seconds", type=int, default=5, help="seconds per round (1 to 60, default 5)")
    parser.add_argument("--connections", type=int, default=50, help="connections of the load generator (1 to 1000, default 50)")
    parser.add_argument("--json", metavar="FILE", help="writes every round there as well")
    parser.add_argument("--sluice", metavar="PROGRAM", default=os.path.join(ROOT, "target/release/sluice-proxy"),
                        help="default: target/release/sluice-proxy; 'none' measures the others only")
    parser.add_argument("--proxy-core", type=int, default=cores[0], help=f"default {cores[0]}")
    parser.add_argument("--load-core", type=int, default=cores[-1], help=f"load generator and backend, default {cores[-1]}")
    options = parser.parse_args()
    for name, most in (("rounds", 100), ("seconds", 60), ("connections", 1000)):
        if not 1 <= getattr(options, name) <= most:
            parser.error(f"--{name} must be between 1 and {most}")
    if options.proxy_core == options.load_core:
        parser.error("proxy and load generator need a core each: this machine allows only one")
    chosen = set(options.scenario or names)
    options.chosen = [name for name in names if name in chosen]
    return options


def enter_own_network(program=__file__):
    """Runs the program again in a network namespace that has a loopback device only, so that no traffic leaves it and no other
    traffic is measured. The backend has another address there, because sluice-proxy forwards nothing to 127.0.0.1."""
    if os.environ.get("SLUICE_BENCH_NETWORK") != "own":
        os.environ["SLUICE_BENCH_NETWORK"] = "own"
        how = ["--net"] if os.geteuid() == 0 else ["--net", "--user", "--map-current-user", "--keep-caps"]
        os.execvp("unshare", ["unshare", *how, sys.executable, os.path.realpath(program), *sys.argv[1:]])
    for command in (["ip", "link", "set", "lo", "up"], ["ip", "address", "add", f"{BACKEND_ADDRESS}/32", "dev", "lo"]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        if done.returncode != 0:
            raise BenchError(f"cannot set up a network of its own, {' '.join(command)}: {done.stderr.strip()}")


def main():
    options = arguments()
    require("nginx", "wrk", "openssl", "taskset", "unshare", "ip")
    enter_own_network()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    kinds = [kind for kind in PEERS if kind.program]
    if options.sluice != "none":
        Sluice.program = shutil.which(options.sluice)
        if not Sluice.program:
            raise BenchError(f"no program {options.sluice}: run cargo build --release -p sluice-proxy")
        kinds.insert(0, Sluice)
    results = {
        "date": datetime.date.today().isoformat(), "processor": processor(), "cores": os.cpu_count(), "kernel": platform.release(),
        "rounds": options.rounds, "seconds": options.seconds, "connections": options.connections,
        "load_average": os.getloadavg()[0], "versions": versions(kinds), "scenarios": {},
    }
    directory = tempfile.mkdtemp(prefix="sluice-bench-")
    os.chmod(directory, 0o755)
    backend = None
    try:
        material = Material(directory)
        backend = Backend(directory, options.load_core)
        for scenario in SCENARIOS:
            if scenario.name in options.chosen:
                say(f"{scenario.name}: {scenario.title}")
                results["scenarios"][scenario.name] = measure(scenario, kinds, material, backend, directory, options)
        if "memory" in options.chosen:
            say("memory")
            results["memory"] = memory.measure(kinds, material, backend, directory, options, preflight, say)
        if "change" in options.chosen and Sluice in kinds:
            say("change: one among 10,000 routes")
            results["change"] = change.measure(material, backend, directory, options, say)
    finally:
        if backend:
            backend.stop()
        shutil.rmtree(directory, ignore_errors=True)
        if options.json:
            with open(options.json, "w", encoding="utf-8") as file:
                json.dump(results, file, indent=1)
    print(render(results))
    broken = [name for name, seen in results["scenarios"].items() if "failed" in seen.get("Sluice", {})]
    broken += [name for name in ("memory", "change") if "failed" in results.get(name, {}).get("Sluice", {})]
    if broken:
        raise BenchError(f"Sluice could not be measured in: {', '.join(broken)}")


if __name__ == "__main__":
    try:
        main()
    except BenchError as error:
        sys.exit(f"bench: {error}")
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
