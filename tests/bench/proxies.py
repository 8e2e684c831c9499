"""The backend and the peers: nginx, HAProxy, Envoy, each configured for a scenario as its manual recommends. A
scenario that a peer has no equivalent for is left out. Sluice's own configuration is in sluice.py."""

import json
import os

from material import AUDIENCE, ISSUER
from measure import BenchError, Process, free_port, program

MANY = 1_000_000_000
BACKEND_ADDRESS = "10.77.0.1"
TLS_SUITE = "TLS_AES_256_GCM_SHA384"


def write(directory, name, text):
    path = os.path.join(directory, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Proxy:
    """One proxy with one scenario's configuration."""

    name = ""
    program = None

    def __init__(self, scenario, material, backend, directory, core):
        self.scenario, self.material, self.backend, self.core = scenario, material, backend, core
        self.directory = os.path.join(directory, self.name)
        os.mkdir(self.directory)
        self.port = free_port()
        self.log = os.path.join(self.directory, "access.log")
        self.process = None

    @classmethod
    def can(cls, scenario):
        """Whether the proxy has an equivalent of the scenario."""
        raise NotImplementedError

    @classmethod
    def version(cls):
        raise NotImplementedError

    def argv(self):
        raise NotImplementedError

    def start(self):
        self.process = Process(self.argv(), self.core, os.path.join(self.directory, "output.log"))

    def url(self):
        return f"https://localhost:{self.port}/" if self.scenario.tls else f"http://127.0.0.1:{self.port}/"

    def tidy(self):
        """Empties the logs, so that a long run does not fill the disk."""
        for path in (self.log, self.process.output):
            if os.path.exists(path):
                os.truncate(path, 0)

    def logged(self):
        """Whether the access log is written (buffered logs arrive late)."""
        return any(os.path.exists(path) and os.path.getsize(path) for path in (self.log, self.process.output))

    def shortfall(self):
        """Lines of the access log that it dropped: a proxy that drops them does less work than the others."""
        return 0

    def stop(self):
        if self.process:
            self.process.stop()


NGINX_HEAD = """
user root; daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log crit;
events {{ worker_connections 4096; }}
http {{
  client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi;
  keepalive_requests 1000000000; keepalive_timeout 300s; server_tokens off; map_hash_bucket_size 128; map_hash_max_size 8192;
"""


def nginx_argv(binary, directory, text):
    config = write(directory, "nginx.conf", NGINX_HEAD.format(dir=directory) + text)
    return [binary, "-e", os.path.join(directory, "error.log"), "-p", directory, "-c", config]


class Backend:
    """The backend of every proxy: an nginx on the load generator's core."""

    def __init__(self, directory, core):
        self.directory = os.path.join(directory, "backend")
        os.mkdir(self.directory)
        self.small, self.large, self.function = (free_port(BACKEND_ADDRESS) for _ in range(3))
        files = os.path.join(self.directory, "files")
        os.mkdir(files)
        write(files, "large", "x" * 65_536)
        statement = {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "arn:aws:execute-api:*:*:*/bench/GET/items/*"}
        document = {"Version": "2012-10-17", "Statement": [statement]}
        decision = json.dumps({"principalId": "ann", "policyDocument": document, "context": {"tier": "gold"}})
        # X-Served differs in every response: it distinguishes a cached response from a new one.
        text = f"""
  access_log off; sendfile on; tcp_nopush on; open_file_cache max=10; etag off; default_type text/plain;
  add_header X-Served "$connection-$connection_requests"; add_header Cache-Control "max-age=3600";
  server {{ listen {BACKEND_ADDRESS}:{self.small} backlog=4096; location / {{ return 200 "{'x' * 1024}"; }} }}
  server {{ listen {BACKEND_ADDRESS}:{self.function} backlog=4096; location / {{ return 200 '{decision}'; }} }}
  server {{ listen {BACKEND_ADDRESS}:{self.large} backlog=4096; root {files}; location / {{ rewrite ^ /large break; }} }}
}}
"""
        self.process = Process(nginx_argv(Nginx.program, self.directory, text), core, os.path.join(self.directory, "output.log"))

    def port(self, scenario):
        return self.small if scenario.body == 1024 else self.large

    def stop(self):
        self.process.stop()


class Nginx(Proxy):
    """nginx with a buffered access log."""

    name = "nginx"
    program = program("nginx")

    @classmethod
    def can(cls, scenario):
        # Tokens are verified by the commercial edition only; the others have no equivalent.
        return not (scenario.jwt or scenario.signed or scenario.function or scenario.expressions)

    @classmethod
    def version(cls):
        return [cls.program, "-v"]

    def argv(self):
        s, m = self.scenario, self.material
        server, location, top = [], [], []
        listen = f"listen 127.0.0.1:{self.port} backlog=4096"
        if s.tls:
            listen += " ssl"
            server += [f"ssl_certificate {m.chain}; ssl_certificate_key {m.key}; ssl_protocols TLSv1.3;",
                       f"ssl_conf_command Ciphersuites {TLS_SUITE};"]
        if s.key:
            top.append("map $http_x_api_key $client { default ''; " + " ".join(f'"{key}" c{n};' for n, key in enumerate(m.keys)) + " }")
            server.append("if ($client = '') { return 403; }")
        if s.throttle:
            rate = "1r/m" if s.throttle == "closed" else "1000000r/s"
            burst = "" if s.throttle == "closed" else " burst=1000000 nodelay"
            top.append(f"limit_req_zone $server_name zone=limit:1m rate={rate}; limit_req_status 429; limit_req_log_level info;")
            location.append(f"limit_req zone=limit{burst};")
        if s.cache:
            top.append(f"proxy_cache_path {self.directory}/cache keys_zone=responses:8m max_size=64m inactive=1h use_temp_path=off;")
            location.append("proxy_cache responses; proxy_cache_valid 200 1h; open_file_cache max=1000 inactive=1h;")
        # The same headers about the client as Sluice sends.
        forwarded = ("proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto "
                "$scheme; proxy_set_header X-Forwarded-Host $http_host; proxy_set_header X-Forwarded-Port $server_port; ")
        # Headers of a location replace those of the server, so Connection is set here as well.
        body = 'proxy_pass http://backend; proxy_set_header Connection ""; ' + forwarded + " ".join(location)
        places = "\n".join(f"location {prefix} {{ {body} }}" for prefix in s.prefixes())
        text = f"""
  access_log {self.log} combined buffer=64k flush=1s;
  proxy_http_version 1.1; proxy_buffers 16 16k; proxy_max_temp_file_size 0;
  upstream backend {{ server {BACKEND_ADDRESS}:{self.backend.port(s)}; keepalive 128; keepalive_requests {MANY}; }}
  {" ".join(top)}
  server {{ {listen}; server_name localhost; {" ".join(server)}
{places}
  }}
}}
"""
        return nginx_argv(self.program, self.directory, text)


class Haproxy(Proxy):
    """HAProxy with its log on the standard output, which is a file."""

    name = "HAProxy"
    program = program("haproxy")

    @classmethod
    def can(cls, scenario):
        return not (scenario.signed or scenario.function or scenario.expressions)

    @classmethod
    def version(cls):
        return [cls.program, "-v"]

    def argv(self):
        s, m = self.scenario, self.material
        front, back, more = [], [], []
        bind = f"bind 127.0.0.1:{self.port} backlog 4096"
        if s.tls:
            bind += f" ssl crt {m.bundle} ssl-min-ver TLSv1.3 ciphersuites {TLS_SUITE} alpn http/1.1"
        if s.jwt:
            front += [
                "http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')",
                "http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')",
                "http-request set-var(txn.now) date()",
                "http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }",
                f"http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_payload_query('$.iss') -m str {ISSUER} }}",
                f"http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_payload_query('$.aud') -m str {AUDIENCE} }}",
                "http-request deny deny_status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }",
                f'http-request deny deny_status 401 unless {{ http_auth_bearer,jwt_verify(txn.alg,"{m.token_public}") -m int 1 }}',
            ]
        if s.key:
            keys = write(self.directory, "keys.map", "\n".join(f"{key} c{n}" for n, key in enumerate(m.keys)) + "\n")
            front.append(f"http-request deny deny_status 403 unless {{ req.hdr(x-api-key),map_str({keys}) -m found }}")
        if s.throttle:
            source = "req.hdr(x-api-key)" if s.key else "src"
            kind = "string len 64" if s.key else "ip"
            most = 1 if s.throttle == "closed" else MANY
            more.append(f"backend limit\n  stick-table type {kind} size 100k expire 60s store http_req_rate(60s)")
            front += [f"http-request track-sc0 {source} table limit",
                      f"http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt {most} }}"]
        if s.cache:
            more.append("cache responses\n  total-max-size 64\n  max-object-size 131072\n  max-age 3600")
            back += ["http-request cache-use responses", "http-response cache-store responses"]
        if s.routes > 1:
            routes = write(self.directory, "routes.map", "\n".join(f"{prefix} backend" for prefix in s.prefixes()) + "\n")
            front.append(f"use_backend %[path,map_beg({routes})]")
        else:
            front.append("use_backend backend if { path_beg /items/ }")
        # The same headers about the client as Sluice sends.
        back += ["option forwardfor", f"http-request set-header X-Forwarded-Proto {'https' if s.tls else 'http'}",
                 "http-request set-header X-Forwarded-Host %[req.hdr(host)]", "http-request set-header X-Forwarded-Port %[dst_port]"]
        lines = "\n  "
        config = write(self.directory, "haproxy.cfg", f"""
global
  nbthread 1
  maxconn 4096
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  http-reuse always
  timeout connect 5s
  timeout client 300s
  timeout server 300s
frontend front
  {bind}
  {lines.join(front)}
backend backend
  {lines.join(back)}
  server backend {BACKEND_ADDRESS}:{self.backend.port(s)}
{chr(10).join(more)}
""")
        return [self.program, "-db", "-f", config]


def typed(kind, **fields):
    return {"@type": f"type.googleapis.com/{kind}", **fields}


def call(function, *arguments, target=None):
    """A call in the syntax tree of CEL, as Envoy's configuration has it."""
    return {"call_expr": {"function": function, "args": list(arguments), **({"target": target} if target else {})}}


def field(variable, name):
    return {"select_expr": {"operand": {"ident_expr": {"name": variable}}, "field": name}}


def constant(text):
    return {"const_expr": {"string_value": text}}


class Envoy(Proxy):
    """Envoy with its file access log, which it buffers."""

    name = "Envoy"
    program = program("envoy", os.path.join(os.path.dirname(__file__), "../../target/bench/envoy/bin/envoy"))

    @classmethod
    def can(cls, scenario):
        # Envoy documents its cache filter as not ready for production; its filter for functions remembers no result.
        return not (scenario.cache or scenario.signed or scenario.function)

    @classmethod
    def version(cls):
        return [cls.program, "--version"]

    def filters(self):
        s, m = self.scenario, self.material
        http = "envoy.extensions.filters.http"
        if s.jwt:
            provider = {"issuer": ISSUER, "audiences": [AUDIENCE], "local_jwks": {"inline_string": m.jwks},
                        "jwt_cache_config": {"jwt_cache_size": 1000}}
            rule = {"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}
            yield {"name": "envoy.filters.http.jwt_authn", "typed_config": typed(
                f"{http}.jwt_authn.v3.JwtAuthentication", providers={"bench": provider}, rules=[rule])}
        if s.key:
            yield {"name": "envoy.filters.http.api_key_auth", "typed_config": typed(
                f"{http}.api_key_auth.v3.ApiKeyAuth", key_sources=[{"header": "x-api-key"}],
                credentials=[{"key": key, "client": f"c{n}"} for n, key in enumerate(m.keys)])}
        if s.throttle:
            # One bucket for all clients: less work than one for each.
            closed = s.throttle == "closed"
            on = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
            yield {"name": "envoy.filters.http.local_ratelimit", "typed_config": typed(
                f"{http}.local_ratelimit.v3.LocalRateLimit", stat_prefix="limit", filter_enabled=on, filter_enforced=on,
                token_bucket={"max_tokens": 1 if closed else MANY, "tokens_per_fill": 1 if closed else MANY,
                              "fill_interval": "60s" if closed else "1s"})}
        if s.expressions:
            # request.method == 'GET' && request.url_path.startsWith('/items/') && request.host == … && source.address != …
            terms = [call("_==_", field("request", "method"), constant("GET")),
                     call("startsWith", constant("/items/"), target=field("request", "url_path")),
                     call("_&&_", call("_!=_", field("request", "host"), constant("other")),
                          call("_!=_", field("source", "address"), constant("192.0.2.1")))]
            anyone = {"permissions": [{"any": True}], "principals": [{"any": True}]}
            rules = {"policies": {"all": {**anyone, "condition": call("_&&_", call("_&&_", *terms[:2]), terms[2])}}}
            yield {"name": "envoy.filters.http.rbac", "typed_config": typed(f"{http}.rbac.v3.RBAC", rules=rules)}
        yield {"name": "envoy.filters.http.router", "typed_config": typed(f"{http}.router.v3.Router")}

    def argv(self):
        s, m = self.scenario, self.material
        routes = [{"match": {"prefix": prefix}, "route": {"cluster": "backend"}} for prefix in s.prefixes()]
        manager = typed(
            "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="front",
            codec_type="HTTP1", use_remote_address=True, http_filters=list(self.filters()),
            route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
            access_log=[{"name": "file", "typed_config": typed(
                "envoy.extensions.access_loggers.file.v3.FileAccessLog", path=self.log)}])
        chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        if s.tls:
            context = {"tls_certificates": [{"certificate_chain": {"filename": m.chain}, "private_key": {"filename": m.key}}],
                       "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}}
            chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": typed(
                "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context=context)}
        def address(ip, port):
            return {"socket_address": {"address": ip, "port_value": port}}
        endpoint = {"endpoint": {"address": address(BACKEND_ADDRESS, self.backend.port(s))}}
        config = write(self.directory, "envoy.json", json.dumps({"static_resources": {
            "listeners": [{"name": "front", "address": address("127.0.0.1", self.port), "filter_chains": [chain]}],
            "clusters": [{"name": "backend", "type": "STATIC", "connect_timeout": "5s", "load_assignment": {
                "cluster_name": "backend", "endpoints": [{"lb_endpoints": [endpoint]}]}}]}}))
        return [self.program, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]


def require(*names):
    """Raises an error when a program is not installed."""
    missing = [name for name in names if not program(name)]
    if missing:
        raise BenchError(f"not installed: {', '.join(missing)}. Run tests/bench/prerequisites as root.")
