//! A proxy in this process, and parts to configure it with. The test kit has the clients and backends.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prometheus::Registry;
pub use sluice_kit::backend::ok;
pub use sluice_kit::http1::{read_head, read_response};
pub use sluice_kit::{Backend, Http2, Response, eventually};
use sluice_proxy::run::{LogSink, NameFiles, Proxy, Settings};
use sluice_proxy::{Limits, Timeouts};
use sluice_wire::*;

pub const STAGE: &str = "shop/prod";

/// A writer whose text can be read.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub struct Gate {
    pub proxy: Proxy,
    pub registry: Registry,
    pub log: Log,
    parts: Parts<Part>,
    _runtime: tokio::runtime::Runtime,
}

impl Gate {
    pub fn start() -> Self {
        Self::with(true, Vec::new())
    }

    pub fn with(allow_loopback: bool, extra_roots: Vec<rustls::pki_types::CertificateDer<'static>>) -> Self {
        Self::configured(|settings| {
            settings.allow_loopback = allow_loopback;
            settings.extra_roots = extra_roots;
        })
    }

    /// A proxy with production timeouts, except for those that the test changes.
    pub fn with_timeouts(change: impl FnOnce(&mut Timeouts)) -> Self {
        Self::configured(|settings| change(&mut settings.timeouts))
    }

    pub fn configured(change: impl FnOnce(&mut Settings)) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry = Registry::new();
        let log = Log::default();
        let any = Some("127.0.0.1:0".parse().unwrap());
        let mut settings = Settings {
            http: any,
            https: any,
            threads: Some(2),
            access_log: LogSink::Writer(Box::new(log.clone())),
            registry: registry.clone(),
            allow_loopback: true,
            extra_roots: Vec::new(),
            limits: Limits::default(),
            request_policy: RequestPolicy::default(),
            timeouts: Timeouts::default(),
            names: NameFiles::default(),
            strictness: sluice_proxy::run::Strictness::Strict,
            https_port: None,
            trusted_proxies: sluice_proxy::run::TrustedProxies::default(),
            proxy_protocol: sluice_proxy::run::ProxyProtocol::default(),
            tls_terminators: Vec::new(),
            runtime: runtime.handle().clone(),
        };
        change(&mut settings);
        let proxy = Proxy::start(settings).unwrap();
        Self { proxy, registry, log, parts: Parts::new(), _runtime: runtime }
    }

    /// Adds or replaces parts, and serves them.
    pub fn put(&mut self, parts: Vec<(PartName, PartBody)>) -> Vec<Diagnostic> {
        let base = self.base();
        let upsert: Vec<Part> = parts.iter().map(|(name, body)| Part::new(name.clone(), body)).collect();
        self.parts.extend(upsert.iter().map(|part| (part.name.clone(), part.clone())));
        self.send(Delta { base, version: self.version(), upsert, remove: vec![] })
    }

    pub fn remove(&mut self, name: PartName) -> Vec<Diagnostic> {
        let base = self.base();
        self.parts.remove(&name);
        self.send(Delta { base, version: self.version(), upsert: vec![], remove: vec![name] })
    }

    fn base(&self) -> Hash {
        if self.parts.is_empty() { Hash::NONE } else { self.version() }
    }

    fn version(&self) -> Hash {
        self.parts.version()
    }

    fn send(&self, delta: Delta) -> Vec<Diagnostic> {
        let ack = self.proxy.apply(delta);
        assert_eq!(ack.outcome, Outcome::Applied);
        ack.diagnostics
    }

    pub fn raw(&self, request: &str) -> Response {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_response(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        sluice_kit::http1::connect(self.proxy.http_addr().unwrap()).unwrap()
    }

    /// A connection from the address 127.0.0.`last`.
    pub fn connect_from(&self, last: u8) -> TcpStream {
        connect_from(self.proxy.http_addr().unwrap(), last)
    }

    pub fn get(&self, path: &str) -> Response {
        self.request("GET", path, &[], "")
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Response {
        let text = sluice_kit::http1::request("shop.example", method, path, headers, body);
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        if method == "HEAD" { read_head(&mut stream) } else { read_response(&mut stream) }
    }

    pub fn metric(&self, line: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let found = text.lines().find_map(|candidate| candidate.strip_prefix(line));
        found.map_or(0.0, |rest| rest.trim().parse().unwrap())
    }
}

/// A client connects to the port for HTTP.
impl From<&Gate> for SocketAddr {
    fn from(gate: &Gate) -> Self {
        gate.proxy.http_addr().unwrap()
    }
}

/// A connection from the address 127.0.0.`last`.
pub fn connect_from(to: SocketAddr, last: u8) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, last], 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A Stage with a cache.
pub fn stage_with_cache() -> StagePart {
    let (invalidation, unauthorized) = (Invalidation::None, Unauthorized::FailWith403);
    StagePart { cache: Some(StageCache { ttl_ms: 60_000, max_bytes: 8 << 20, invalidation, unauthorized }), ..stage() }
}

/// Caching of responses that all callers share.
pub fn shared_cache() -> RuleCache {
    let methods = vec!["GET".into(), "HEAD".into()];
    RuleCache { ttl_ms: None, keys: vec![], unkeyed: vec![], methods, scope: CacheScope::Shared }
}

pub fn stage_name() -> PartName {
    PartName::new(PartKind::Stage, STAGE)
}

pub fn stage() -> StagePart {
    StagePart {
        object: ObjectRef::new("Stage", "shop", "prod"),
        hostnames: vec!["shop.example".parse().unwrap()],
        base_path: "/".into(),
        behavior: Behavior::Native,
        trailing_slash: None,
        certificates: Vec::new(),
        tls: None,
        client_auth: None,
        source: None,
        policy: None,
        arn: None,
        api_key_source: None,
        throttle: None,
        client_throttle: None,
        rate_limit_headers: false,
        cache: None,
        cors: None,
        request_policy: RequestPolicy::default(),
        forward_client_headers: Vec::new(),
        access_log: true,
        invalid: None,
    }
}

pub fn stage_part(stage: StagePart) -> (PartName, PartBody) {
    (stage_name(), PartBody::Stage(stage))
}

pub fn mock(text: &str) -> Integration {
    Integration::Mock(Mock {
        status: 200,
        headers: vec![("content-type".into(), "text/plain".parse().unwrap())],
        body: text.into(),
    })
}

pub fn upstream_name() -> PartName {
    PartName::new(PartKind::Upstream, "shop/orders:80")
}

pub fn service() -> Integration {
    Integration::Service(upstream_name())
}

pub fn upstream(addresses: &[SocketAddr]) -> (PartName, PartBody) {
    let part = UpstreamPart {
        object: ObjectRef::new("Service", "shop", "orders"),
        endpoints: Endpoints::Addresses(addresses.to_vec()),
        h2c: false,
        tls: None,
    };
    (upstream_name(), PartBody::Upstream(part))
}

pub fn policy(integration: Integration) -> RulePolicy {
    RulePolicy {
        authorize: Vec::new(),
        source: None,
        authorizer: None,
        api_key: false,
        optional_key: false,
        alternative_key: false,
        throttle: None,
        client_throttle: None,
        cors: None,
        cache: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        timeout_ms: 5_000,
        body_limit: None,
        buffer_limit: None,
        integration,
    }
}

pub fn rule(name: &str, method: &str, path: &str, policy: RulePolicy) -> Rule {
    Rule {
        name: name.into(),
        methods: if method == "ANY" { vec![] } else { vec![method.into()] },
        path: path.parse().unwrap(),
        headers: vec![],
        query: vec![],
        action: RuleAction::of(policy),
    }
}

pub fn route(name: &str, rules: Vec<Rule>) -> (PartName, PartBody) {
    let part = RoutePart {
        object: ObjectRef::new("ApiRoute", "shop", name),
        stages: vec![stage_name()],
        version: None,
        rules,
    };
    (PartName::new(PartKind::Route, format!("shop/{name}")), PartBody::Route(part))
}

/// An Authorizer `shop/login` with one issuer, whose tokens are in `Authorization`.
pub fn login(set: String) -> (PartName, AuthorizerPart) {
    let issuer = Issuer {
        issuer: "https://id.example".into(),
        audiences: vec!["shop".into()],
        any_audience: false,
        keys: KeySource::Inline(set),
    };
    let jwt = Jwt {
        issuers: vec![issuer],
        algorithms: vec![Algorithm::ES256],
        token_from: vec![TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) }],
        clock_skew_s: 0,
        required_claims: Default::default(),
        token_types: default_token_types(),
    };
    let object = ObjectRef::new("Authorizer", "shop", "login");
    (PartName::new(PartKind::Authorizer, "shop/login"), AuthorizerPart { object, kind: AuthorizerKind::Jwt(jwt) })
}

/// A server that writes a text for each connection and then closes it, or keeps it open.
pub fn raw_server(text: String, close: bool) -> SocketAddr {
    raw_server_at(TcpListener::bind("127.0.0.1:0").unwrap(), text, close)
}

/// The same where it listens already: the text can have its address.
pub fn raw_server_at(listener: TcpListener, text: String, close: bool) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8192];
            if stream.read(&mut request).is_ok() {
                stream.write_all(text.as_bytes()).unwrap_or_default();
            }
            if !close {
                open.push(stream);
            }
        }
    });
    address
}
