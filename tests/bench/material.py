"""Keys, certificates and tokens for one run, made with the openssl command. All of them are in the run's directory."""

import base64
import json
import os
import re
import subprocess
import time

from measure import BenchError

ISSUER, AUDIENCE = "https://issuer.bench.test", "bench"


def openssl(*args, data=None):
    done = subprocess.run(["openssl", *args], input=data, capture_output=True, timeout=60, check=False)
    if done.returncode != 0:
        raise BenchError(f"openssl {args[0]} failed: {done.stderr.decode(errors='replace')}")
    return done.stdout


def b64(raw):
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Material:
    """Files and texts that the configurations refer to."""

    def __init__(self, directory, clients=100, keys=1000):
        self.directory = directory
        self.token_key, self.token_public = self.path("token.key"), self.path("token.pub")
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", self.token_key)
        openssl("pkey", "-in", self.token_key, "-pubout", "-out", self.token_public)
        modulus = openssl("rsa", "-in", self.token_key, "-noout", "-modulus").decode()
        n = bytes.fromhex(re.search(r"Modulus=([0-9A-F]+)", modulus)[1])
        self.jwks = json.dumps({"keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "bench", "n": b64(n), "e": "AQAB"}]})
        self.tokens = [self.token(f"client-{n}") for n in range(clients)]
        self.keys = [f"bench-key-{n:04}-{'k' * 24}" for n in range(keys)]
        self.certificates()

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        with open(self.path(name), encoding="utf-8") as file:
            return file.read()

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def token(self, subject):
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": "read", "iat": now, "nbf": now - 10, "exp": now + 86_400}
        header = {"alg": "RS256", "typ": "JWT", "kid": "bench"}
        signed = ".".join(b64(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{b64(openssl('dgst', '-sha256', '-sign', self.token_key, data=signed.encode()))}"

    def certificates(self):
        """A certificate authority, and certificates issued by it: for localhost, and for a client."""
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        self.ca, self.chain, self.key = self.path("ca.pem"), self.path("server.pem"), self.path("server.key")
        openssl("req", "-x509", *curve, "-days", "30", "-subj", "/CN=bench authority", "-keyout", self.path("ca.key"), "-out", self.ca)
        openssl("req", *curve, "-subj", "/CN=localhost", "-keyout", self.key, "-out", self.path("server.csr"))
        extensions = self.write("server.ext", "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", self.path("server.csr"), "-CA", self.ca, "-CAkey", self.path("ca.key"), "-CAcreateserial",
                "-days", "30", "-extfile", extensions, "-out", self.chain)
        openssl("req", *curve, "-subj", "/O=Bench/CN=client", "-keyout", self.path("client.key"), "-out", self.path("client.csr"))
        extensions = self.write("client.ext", "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n")
        openssl("x509", "-req", "-in", self.path("client.csr"), "-CA", self.ca, "-CAkey", self.path("ca.key"), "-CAcreateserial",
                "-days", "30", "-extfile", extensions, "-out", self.path("client.crt"))
        self.client = self.write("client.pem", self.read("client.crt") + self.read("client.key"))
        self.bundle = self.write("bundle.pem", self.read("server.pem") + self.read("server.key"))
