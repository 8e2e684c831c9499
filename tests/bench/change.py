"""Measures how long it takes under load until a changed route is enforced. The script is the operator; its stream is in stream.py."""

import http.client
import os
import shutil
import subprocess
import threading
import time

from measure import BenchError, eventually, wrk_argv
from scenarios import SCENARIOS
from sluice import Sluice, Version, parts, policy, route
from stream import Operator

NONE = "0" * 64
CHANGES = 100
FEWEST = 20  # with fewer changes the percentiles mean nothing
CHANGE_TIMEOUT_S = 10.0


class Streamed(Sluice):
    """A proxy that is configured by a stream instead of a file."""

    operator = None

    def source(self):
        secret = os.path.join(self.directory, "secret")
        with open(secret, "w", encoding="ascii") as file:
            file.write("s" * 32)
        return ["--operator", f"https://localhost:{self.operator.port}", "--operator-ca", self.material.ca, "--secret-file", secret]


class Configuration:
    """The current parts, and the delta that changes one of them."""

    def __init__(self, everything):
        self.parts = Version({p["name"]: p["hash"] for p in everything})
        self.version = self.parts.text()
        self.everything = everything

    def first(self):
        return {"Delta": {"base": NONE, "version": self.version, "upsert": self.everything, "remove": []}}

    def changed(self, part):
        base = self.version
        self.parts.set(part["name"], part["hash"])
        self.version = self.parts.text()
        return {"Delta": {"base": base, "version": self.version, "upsert": [part], "remove": []}}


def status_of(connection, path):
    connection.request("GET", path)
    response = connection.getresponse()
    response.read()
    return response.status


def one(operator, configuration, connection, scenario, number):
    """Changes one route to a fixed response with status 418, waits until it is served, and changes the route back."""
    which = (number * 97) % scenario.routes
    path, template = f"/r{which}/items/42", f"/r{which}/items/{{id}}"
    served = policy(scenario)
    mock = {**served, "integration": {"Mock": {"status": 418, "headers": [], "body": ""}}}
    took = None
    for expected, body in ((418, mock), (200, served)):
        delta = configuration.changed(route(f"r{which}", template, body))
        frame = operator.frame(delta)
        start = time.monotonic()
        operator.send(frame)
        while status_of(connection, path) != expected:
            if time.monotonic() > start + CHANGE_TIMEOUT_S:
                raise BenchError(f"a change was not enforced within {CHANGE_TIMEOUT_S:.0f} seconds")
        took = took or (time.monotonic() - start) * 1000
        if status_of(connection, path) != expected:
            raise BenchError("a response of the older configuration came after one of the newer")
    return took


def measure(material, backend, directory, options, say):
    """{"Sluice": results}, with "failed" when the measurement failed."""
    place = os.path.join(directory, "change")
    os.mkdir(place)
    scenario = next(s for s in SCENARIOS if s.name == "routes")
    proxy = wrk = operator = None
    try:
        configuration = Configuration(list(parts(scenario, material, backend.port(scenario))))
        operator = Operator(material, configuration.first())
        threading.Thread(target=operator.run, daemon=True).start()
        proxy = Streamed(scenario, material, backend, place, options.proxy_core)
        proxy.operator = operator
        proxy.start()
        def serves():
            fresh = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
            return status_of(fresh, "/r0/items/42") == 200
        eventually(30, serves, "it serves what the stream sent", proxy.process)
        argv = wrk_argv(proxy.directory, scenario, material, proxy.url(), 60, options.connections)
        wrk = subprocess.Popen(["taskset", "-c", str(options.load_core), *argv], stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=10)
        took, deadline = [], time.monotonic() + 55
        while len(took) < CHANGES and time.monotonic() < deadline:
            took.append(one(operator, configuration, connection, scenario, len(took)))
        if len(took) < FEWEST:
            raise BenchError(f"only {len(took)} changes within 55 seconds")
        took.sort()
        results = {"routes": scenario.routes, "changes": len(took), "p50_ms": took[len(took) // 2],
                   "p99_ms": took[-1 - len(took) // 100], "max_ms": took[-1], "all_ms": took}
        say(f"  p50 {results['p50_ms']:.1f} ms, p99 {results['p99_ms']:.1f} ms")
        return {"Sluice": results}
    except (BenchError, OSError, http.client.HTTPException) as error:
        why = f"{error}; the last frame that the stream received: {operator.last if operator else 'nothing'}"
        say(f"  {why}")
        return {"Sluice": {"failed": why}}
    finally:
        if wrk:
            wrk.kill()
            wrk.wait(10)
        if proxy:
            proxy.stop()
        if operator:
            operator.stop()
        shutil.rmtree(place, ignore_errors=True)
