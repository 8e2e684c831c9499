"""Configures sluice-proxy: its parts (proxy/wire/src defines their form) and the program's flags."""

import hashlib
import json
import os
import re
import urllib.request

import sigv4
from material import AUDIENCE, ISSUER
from measure import BenchError, free_port
from proxies import BACKEND_ADDRESS, Proxy, write

NAMESPACE = "bench"
KINDS = ["stage", "route", "authorizer", "keys", "plan", "upstream", "certificate"]
STAGE, BACKEND, PLAN, AUTHORIZER, CERTIFICATE = (
    f"stage/{NAMESPACE}/bench", f"upstream/{NAMESPACE}/backend:80", f"plan/{NAMESPACE}/gold",
    f"authorizer/{NAMESPACE}/tokens", f"certificate/{NAMESPACE}/localhost")


def part(name, body):
    """One part, hashed as `Part::new` hashes it."""
    text = json.dumps(body, separators=(",", ":"))
    return {"name": name, "hash": hashlib.sha256(text.encode()).hexdigest(), "json": text}


class Version:
    """The version of a configuration {name: hash}, as `sluice_wire::Parts::version` computes it: by buckets."""

    def __init__(self, hashes):
        self.buckets = [{} for _ in range(256)]
        for name, digest in hashes.items():
            self.buckets[self.bucket(name)][name] = digest
        self.digests = [self.digest(bucket) for bucket in self.buckets]

    @staticmethod
    def bucket(name):
        value = 0xCBF29CE484222325
        for byte in name.encode():
            value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
        return value & 255

    @staticmethod
    def digest(bucket):
        def order(name):
            kind, _, rest = name.partition("/")
            return KINDS.index(kind), rest.encode()
        digest = hashlib.sha256()
        for name in sorted(bucket, key=order):
            digest.update(name.encode() + b"\n" + bytes.fromhex(bucket[name]))
        return digest.digest() if bucket else bytes(32)

    def set(self, name, digest):
        at = self.bucket(name)
        self.buckets[at][name] = digest
        self.digests[at] = self.digest(self.buckets[at])

    def text(self):
        return hashlib.sha256(b"".join(self.digests)).hexdigest()


def thing(kind, name):
    return {"kind": kind, "namespace": NAMESPACE, "name": name}


def route(name, path, policy):
    action = {"Authorize" if "authorize" in policy else "Serve": policy}
    rule = {"name": "get", "methods": ["GET", "POST"], "path": path, "headers": [], "query": [], "action": action}
    return part(f"route/{NAMESPACE}/{name}", {"object": thing("ApiRoute", name), "stages": [STAGE], "rules": [rule]})


def policy(scenario):
    body = {"api_key": scenario.key, "request_headers": {}, "response_headers": {}, "timeout_ms": 29_000,
            "integration": {"Service": BACKEND}}
    if scenario.jwt:
        body["authorizer"] = {"part": AUTHORIZER, "scopes": ["read"]}
    if scenario.function or scenario.signed:
        body["authorizer"] = {"part": AUTHORIZER, "scopes": []}
    if scenario.expressions:
        terms = ["request.method == 'GET'", "request.path.startsWith('/items/')", "stage.name == 'bench' && source.address != '192.0.2.1'"]
        body["authorize"] = [{"expression": term} for term in terms]
    if scenario.throttle == "closed":
        body["throttle"] = {"rate": 1, "per_ms": 1_000_000, "burst": 1}
    if scenario.throttle == "open":
        body["throttle"] = {"rate": 1_000_000, "burst": 1_000_000}
    if scenario.cache:
        body["cache"] = {"keys": [], "methods": ["GET", "HEAD"], "scope": "Shared"}
    return body


def parts(scenario, material, backend_port, function_port=None):
    """The whole configuration of a scenario."""
    stage = {"object": thing("Stage", "bench"), "hostnames": [], "base_path": "/", "behavior": "Native", "access_log": True,
             "arn": "arn:aws:execute-api:eu-west-1:000000000000:bench"}
    if scenario.tls:
        stage |= {"hostnames": ["localhost"], "certificates": [CERTIFICATE]}
        yield part(CERTIFICATE, {"object": thing("Secret", "localhost"), "chain_pem": material.read("server.pem"),
                                 "key_pem": material.read("server.key")})
    if scenario.client_certificate:
        root = "".join(line for line in material.read("ca.pem").splitlines() if "-----" not in line)
        stage["client_auth"] = {"required": True, "roots": [root], "forward": True}
    if scenario.cache:
        stage["cache"] = {"ttl_ms": 3_600_000, "max_bytes": 64 << 20, "invalidation": "Required", "unauthorized": "SucceedSilently"}
    yield part(STAGE, stage)
    yield part(BACKEND, {"object": thing("Service", "backend"), "endpoints": {"Addresses": [f"{BACKEND_ADDRESS}:{backend_port}"]}, "h2c": False})
    if scenario.jwt:
        issuer = {"issuer": ISSUER, "audiences": [AUDIENCE], "keys": {"Inline": material.jwks}}
        jwt = {"issuers": [issuer], "algorithms": ["RS256"], "token_from": [{"header": "authorization", "scheme": "Bearer"}],
               "clock_skew_s": 60, "required_claims": {}}
        yield part(AUTHORIZER, {"object": thing("Authorizer", "tokens"), "kind": {"Jwt": jwt}})
    if scenario.function:
        function = {"function": {"Url": f"http://{BACKEND_ADDRESS}:{function_port}/"}, "event": "RequestV2", "responses": "Policy",
                    "identity_sources": [{"header": "authorization"}], "result_ttl_ms": 3_600_000, "timeout_ms": 10_000}
        yield part(AUTHORIZER, {"object": thing("Authorizer", "tokens"), "kind": {"Lambda": function}})
    if scenario.signed:
        iam = {"regions": [sigv4.REGION], "service": sigv4.SERVICE, "clock_skew_s": 900}
        yield part(AUTHORIZER, {"object": thing("Authorizer", "tokens"), "kind": {"Iam": iam}})
        allow = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"}}
        yield part(f"principal/{NAMESPACE}/ann", {
            "object": thing("Principal", "ann"), "account": "000000000000", "arn": "arn:aws:iam::000000000000:user/ann",
            "authorizers": [AUTHORIZER], "keys": [{"id": sigv4.KEY_ID, "signing_keys": sigv4.days()}], "policies": [json.dumps(allow)]})
    if scenario.key:
        entries = [{"object": thing("ApiKey", f"c{n}"), "digest": hashlib.sha256(key.encode()).hexdigest(), "plans": [PLAN]}
                   for n, key in enumerate(material.keys)]
        yield part("keys/00", {"keys": entries})
        limit = {"throttle": {"rate": 1_000_000, "burst": 1_000_000}} if scenario.throttle else {}
        yield part(PLAN, {"object": thing("UsagePlan", "gold"), "stages": [{"stage": STAGE, "throttles": []}], **limit})
    if scenario.routes > 1:
        for n in range(scenario.routes):
            yield route(f"r{n}", f"/r{n}/items/{{id}}", policy(scenario))
    else:
        yield route("items", "/items/{id}", policy(scenario))


class Sluice(Proxy):
    """sluice-proxy with access log, request ids and metrics: the last two cannot be disabled."""

    name = "Sluice"
    program = None  # set by run

    @classmethod
    def can(cls, scenario):
        return True

    @classmethod
    def version(cls):
        return [cls.program, "--version"]

    def source(self):
        """Where the configuration comes from."""
        everything = list(parts(self.scenario, self.material, self.backend.port(self.scenario), self.backend.function))
        return ["--config", write(self.directory, "config.json", json.dumps(everything))]  # the form in proxy/src/config/file.rs

    def shortfall(self):
        """The number of access log lines that it dropped since it started."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/metrics", timeout=10) as response:
            text = response.read(4 << 20).decode()
        dropped = re.findall(r"^sluice_access_log_dropped_total(?:\{[^}]*\})? (\S+)", text, re.M)
        if not dropped:
            raise BenchError("Sluice's metrics do not contain the number of dropped access log lines")
        return int(sum(map(float, dropped)))

    def argv(self):
        state = os.path.join(self.directory, "state")
        os.makedirs(state, exist_ok=True)
        clear, tls = (free_port(), self.port) if self.scenario.tls else (self.port, free_port())
        self.admin = free_port()
        return [self.program, *self.source(), "--state-dir", state, "--http", f"127.0.0.1:{clear}", "--https", f"127.0.0.1:{tls}",
                "--admin", f"127.0.0.1:{self.admin}", "--name", "bench", "--threads", "1",
                "--drain-delay", "0", "--drain-grace", "1"]
