"""Measures the memory of each proxy: after the start with one route, and with 5,000 routes after a request to each of them."""

import dataclasses
import os
import shutil

from measure import BenchError, eventually, load, wrk_argv
from scenarios import SCENARIOS

GOALS = {"idle": 15.0, "routes": 40.0}
ROUTES = 5_000


def measure(kinds, material, backend, directory, options, preflight, say):
    """{proxy: {"idle": [resident, proportional], "routes": [...]}} in MB."""
    plain = next(s for s in SCENARIOS if s.name == "plain")
    result = {}
    for kind in kinds:
        seen = {}
        try:
            for label, scenario in (("idle", plain), ("routes", dataclasses.replace(plain, name="memory", routes=ROUTES))):
                place = os.path.join(directory, f"memory-{label}")
                os.mkdir(place)
                proxy = kind(scenario, material, backend, place, options.proxy_core)
                try:
                    proxy.start()
                    eventually(30, lambda: preflight(proxy), "it serves", proxy.process)
                    if label == "routes":
                        load(wrk_argv(proxy.directory, scenario, material, proxy.url(), 2, options.connections), options.load_core, 2)
                    seen[label] = proxy.process.memory_mb()
                finally:
                    proxy.stop()
                    shutil.rmtree(place, ignore_errors=True)
            result[kind.name] = seen
            say(f"  {kind.name}: idle {seen['idle'][0]:.1f} MB, {ROUTES} routes {seen['routes'][0]:.1f} MB")
        except BenchError as error:
            say(f"  {kind.name}: {error}")
            result[kind.name] = {"failed": str(error)}
    return result
