"""What is measured: the work of each scenario, the requests it sends and the goals it has. proxies.py has the configuration of each proxy."""

from dataclasses import dataclass, field

import sigv4


@dataclass(frozen=True)
class Scenario:
    """The work that every proxy does."""

    name: str
    title: str
    routes: int = 1
    jwt: bool = False
    function: bool = False  # a Lambda authorizer
    expressions: bool = False
    signed: bool = False  # AWS Signature Version 4
    key: bool = False
    throttle: str = ""  # "", "open": counted and never reached, "closed": always reached
    cache: bool = False
    tls: bool = False
    client_certificate: bool = False
    body: int = 1024
    upload: int = 0  # the length of the body of a POST; 0: a GET
    status: int = 200
    # (what it is compared with, at most)
    goals: tuple = field(default=())

    @property
    def method(self):
        return "POST" if self.upload else "GET"

    @property
    def payload(self):
        return "x" * self.upload

    def requests(self, material):
        """(path, headers) in the order in which they are sent; the list is repeated."""
        if self.routes > 1:
            paths = [f"/r{n}/items/42" for n in range(self.routes)]
        elif self.cache:
            paths = [f"/items/{n}" for n in range(100)]
        else:
            paths = ["/items/42"]
        clients = len(material.tokens) if self.jwt or self.key or self.function else 1
        listing = []
        for n in range(max(len(paths), clients)):
            headers = sigv4.headers(paths[n % len(paths)], self.method, self.payload) if self.signed else {}
            if self.jwt or self.function:
                headers["Authorization"] = f"Bearer {material.tokens[n % clients]}"
            if self.key:
                headers["X-Api-Key"] = material.keys[n % clients]
            listing.append((paths[n % len(paths)], headers))
        return listing

    def prefixes(self):
        """A prefix for each route, for proxies that have no path templates."""
        return [f"/r{n}/items/" for n in range(self.routes)] if self.routes > 1 else ["/items/"]


SCENARIOS = [
    Scenario("plain", "plain proxying, 1 KiB responses", goals=(("nginx", 1.15),)),
    Scenario("routes", "10,000 routes", routes=10_000, goals=(("plain", 1.05),)),
    Scenario("jwt", "JWT (RS256), verified before, 100 clients", jwt=True, goals=(("plain", 1.08),)),
    Scenario("key", "API key, 1 of 1,000", key=True, goals=(("plain", 1.05),)),
    Scenario("all", "JWT, API key and throttle over 1,000 routes", routes=1_000, jwt=True, key=True, throttle="open",
             goals=(("plain", 1.15), ("envoy", 0.3))),
    Scenario("cache", "cache hit, 100 entries", cache=True, goals=(("nginx", 0.8),)),
    Scenario("429", "throttled: 429", throttle="closed", status=429, goals=(("nginx", 1.0),)),
    Scenario("tls", "TLS 1.3, persistent connections", tls=True, goals=(("nginx", 0.95),)),
    Scenario("body", "64 KiB responses", body=65_536, goals=(("nginx", 1.0),)),
    Scenario("upload", "plain proxying of 1 KiB request bodies", upload=1024),
    Scenario("signed", "AWS Signature Version 4, 1 KiB request bodies", signed=True, upload=1024, goals=(("upload", 1.35),)),
    Scenario("expressions", "three expressions of authorize", expressions=True, goals=(("plain", 1.08),)),
    Scenario("lambda", "Lambda authorizer, results remembered, 100 clients", function=True, goals=(("plain", 1.08),)),
]

# wrk has no client certificates: their instructions are counted only. At most 3 % more than tls.
COUNTED_ONLY = [
    Scenario("client-certificate", "TLS 1.3 with a client certificate, persistent connections", tls=True, client_certificate=True),
    Scenario("signed-get", "AWS Signature Version 4, without a body", signed=True),
]
