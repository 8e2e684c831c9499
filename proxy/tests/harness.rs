//! A proxy in this process, backends that tell what they saw, and raw requests.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use prometheus::Registry;
use sluice_proxy::run::{LogSink, Proxy, Settings};
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
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let registry = Registry::new();
        let log = Log::default();
        let any = Some("127.0.0.1:0".parse().unwrap());
        let proxy = Proxy::start(Settings {
            http: any,
            https: any,
            threads: Some(2),
            access_log: LogSink::Writer(Box::new(log.clone())),
            registry: registry.clone(),
            allow_loopback,
            extra_roots,
            runtime: runtime.handle().clone(),
        })
        .unwrap();
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

    pub fn raw(&self, request: &str) -> Answer {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read_answer(&mut stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.proxy.http_addr().unwrap()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[], "")
    }

    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut text = format!("{method} {path} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str("host: shop.example\r\n");
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            text.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body);
        let mut stream = self.connect();
        stream.write_all(text.as_bytes()).unwrap();
        if method == "HEAD" { read_head(&mut stream) } else { read_answer(&mut stream) }
    }

    pub fn metric(&self, line: &str) -> f64 {
        let text = prometheus::TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap();
        let found = text.lines().find_map(|candidate| candidate.strip_prefix(line));
        found.map_or(0.0, |rest| rest.trim().parse().unwrap())
    }
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

pub fn read_head(stream: &mut impl std::io::Read) -> Answer {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok()).unwrap_or(0);
    let headers = lines.filter_map(|line| line.split_once(": ")).map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
    Answer { status, headers, body: String::new() }
}

pub fn read_answer(stream: &mut impl std::io::Read) -> Answer {
    let mut answer = read_head(stream);
    let mut body = Vec::new();
    if let Some(length) = answer.header("content-length").and_then(|v| v.parse::<usize>().ok()) {
        body.resize(length, 0);
        stream.read_exact(&mut body).unwrap();
    } else if answer.header("transfer-encoding").is_some() {
        loop {
            let mut line = Vec::new();
            let mut byte = [0];
            while !line.ends_with(b"\r\n") {
                stream.read_exact(&mut byte).unwrap();
                line.push(byte[0]);
            }
            let size = usize::from_str_radix(String::from_utf8_lossy(&line).trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }
    answer.body = String::from_utf8_lossy(&body).into_owned();
    answer
}

/// A backend in threads: it answers with what a function makes of the raw head and body of a request.
pub struct Backend {
    pub address: SocketAddr,
    pub requests: Arc<AtomicUsize>,
    pub connections: Arc<AtomicUsize>,
}

impl Backend {
    pub fn start(answer: impl Fn(&str, &str) -> String + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let (seen, opened, answer) = (requests.clone(), connections.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                opened.fetch_add(1, Ordering::SeqCst);
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    while let Some((head, body)) = read_request(&mut stream) {
                        seen.fetch_add(1, Ordering::SeqCst);
                        let text = answer(&head, &body);
                        if text.is_empty() || stream.write_all(text.as_bytes()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { address, requests, connections }
    }

    /// A backend that repeats the request it got.
    pub fn echo() -> Self {
        Self::start(|head, body| ok(&format!("{head}{body}")))
    }
}

pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn read_request(stream: &mut TcpStream) -> Option<(String, String)> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let lower = head.to_ascii_lowercase();
    let mut body = Vec::new();
    if let Some(length) = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok()) {
        body.resize(length, 0);
        stream.read_exact(&mut body).ok()?;
    } else if lower.contains("transfer-encoding: chunked") {
        let mut text = Vec::new();
        while !text.ends_with(b"0\r\n\r\n") {
            if stream.read(&mut byte).ok()? == 0 {
                return None;
            }
            text.push(byte[0]);
        }
        body = text;
    }
    Some((head, String::from_utf8_lossy(&body).into_owned()))
}

pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
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
        certificate: None,
        throttle: None,
        cache: None,
        cors: None,
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
    };
    (upstream_name(), PartBody::Upstream(part))
}

pub fn policy(integration: Integration) -> RulePolicy {
    RulePolicy {
        authorizer: None,
        api_key: false,
        throttle: None,
        cache: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        timeout_ms: 5_000,
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
        action: RuleAction::Serve(Box::new(policy)),
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

/// A client that speaks HTTP/2 without TLS, on one connection.
pub struct Http2 {
    sender: hyper::client::conn::http2::SendRequest<AnyBody>,
    runtime: tokio::runtime::Runtime,
}

pub type AnyBody = http_body_util::combinators::BoxBody<bytes::Bytes, std::convert::Infallible>;

/// Status, body and trailers.
pub type Told = (u16, String, http::HeaderMap);

impl Http2 {
    pub fn connect(gate: &Gate) -> Self {
        use hyper_util::rt::{TokioExecutor, TokioIo};
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = gate.proxy.http_addr().unwrap();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let made = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
            let (sender, connection) = made.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { sender, runtime }
    }

    pub fn empty() -> http_body_util::Empty<bytes::Bytes> {
        http_body_util::Empty::new()
    }

    pub fn ask<B>(&self, request: http::Request<B>) -> Told
    where
        B: http_body::Body<Data = bytes::Bytes, Error = std::convert::Infallible> + Send + Sync + 'static,
    {
        self.ask_all(vec![request]).remove(0)
    }

    pub fn ask_all<B>(&self, requests: Vec<http::Request<B>>) -> Vec<Told>
    where
        B: http_body::Body<Data = bytes::Bytes, Error = std::convert::Infallible> + Send + Sync + 'static,
    {
        use http_body_util::BodyExt as _;
        let calls = requests.into_iter().map(|request| {
            let sent = self.sender.clone().send_request(request.map(AnyBody::new));
            async move {
                let answer = sent.await.unwrap();
                let status = answer.status().as_u16();
                let mut body = answer.into_body();
                let (mut bytes, mut trailers) = (Vec::new(), http::HeaderMap::new());
                while let Some(frame) = body.frame().await {
                    match frame.unwrap().into_data() {
                        Ok(data) => bytes.extend_from_slice(&data),
                        Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                    }
                }
                (status, String::from_utf8(bytes).unwrap(), trailers)
            }
        });
        self.runtime.block_on(futures::future::join_all(calls))
    }
}
