//! TLS to upstreams, and the version of HTTP that they choose in its handshake.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use bytes::Bytes;
use http::{Request, Response, Version};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_kit::tls::{Issued, issue, server_config};
use sluice_wire::*;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::*;

/// A server over TLS that responds with the version of HTTP and the name that the client asked for.
struct Server {
    port: u16,
    connections: Arc<AtomicUsize>,
    /// The protocols that it accepts from now on; open connections are closed.
    protocols: watch::Sender<Vec<&'static str>>,
    _runtime: Runtime,
}

impl Server {
    fn start(issued: &Issued, protocols: &[&'static str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (protocols, accepted) = watch::channel(protocols.to_vec());
        let (issued, opened) = (issued.clone(), connections.clone());
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut accepted = accepted.clone();
                let config = server_config(&issued, &accepted.borrow_and_update());
                let opened = opened.clone();
                tokio::spawn(async move {
                    // A client that does not trust the certificate ends the handshake.
                    let Ok(stream) = tokio_rustls::TlsAcceptor::from(Arc::new(config)).accept(stream).await else {
                        return;
                    };
                    opened.fetch_add(1, Ordering::SeqCst);
                    let name = stream.get_ref().1.server_name().unwrap_or("no name").to_owned();
                    let service = service_fn(move |request: Request<Incoming>| {
                        let text = format!("{:?} {name} {}", request.version(), request.uri());
                        async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text)))) }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let serving = builder.serve_connection(TokioIo::new(stream), service);
                    tokio::select! {
                        ended = serving => ended.unwrap_or_default(),
                        _ = accepted.changed() => {}
                    }
                });
            }
        });
        Self { port, connections, protocols, _runtime: runtime }
    }
}

fn external(port: u16) -> Vec<(PartName, PartBody)> {
    let target = HttpTarget { tls: true, host: "localhost".into(), port, path: None };
    vec![stage_part(stage()), route("r", vec![rule("r", "ANY", "/{p+}", policy(Integration::Http(target)))])]
}

fn trusting(issued: &Issued) -> Gate {
    // One thread, so that its connections can be counted.
    Gate::configured(|settings| {
        settings.extra_roots = vec![issued.der.clone()];
        settings.threads = Some(1);
    })
}

#[test]
fn an_external_server_chooses_the_version_of_http_by_alpn() {
    let issued = issue("localhost");
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], Version::HTTP_2),
        (&["h2"], Version::HTTP_2),
        (&["http/1.1"], Version::HTTP_11),
        // ALPN is optional.
        (&[], Version::HTTP_11),
    ] {
        let server = Server::start(&issued, protocols);
        let mut gate = trusting(&issued);
        gate.put(external(server.port));
        let client = Http2::connect(&gate);
        let requests = (0..20).map(|_| Request::get("http://shop.example/a").body(Http2::empty()).unwrap());
        for (status, body, _) in client.ask_all(requests.collect()) {
            let uri =
                if version == Version::HTTP_2 { format!("https://localhost:{}/a", server.port) } else { "/a".into() };
            assert_eq!((status, body), (200, format!("{version:?} localhost {uri}")), "{protocols:?}");
        }
        let connections = server.connections.load(Ordering::SeqCst);
        if version == Version::HTTP_2 {
            assert_eq!(connections, 1, "{protocols:?}");
        }
    }
}

#[test]
fn a_server_may_change_the_versions_of_http_that_it_supports() {
    let issued = issue("localhost");
    let server = Server::start(&issued, &["h2"]);
    let mut gate = trusting(&issued);
    gate.put(external(server.port));
    for (protocols, version) in [
        (&["h2"][..], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
        (&["h2", "http/1.1"], "HTTP/2.0"),
        (&["http/1.1"], "HTTP/1.1"),
    ] {
        server.protocols.send_replace(protocols.to_vec());
        // A request may be sent before the end of the last connection has been seen.
        let seen = Mutex::new(String::new());
        eventually(format!("{version} with {protocols:?}"), || {
            let response = gate.get("/a");
            *seen.lock().unwrap() = response.body.clone();
            response.status == 200 && response.body.starts_with(version)
        });
    }
}

#[test]
fn a_protocol_upgrade_uses_http1_with_a_server_that_prefers_http2() {
    let issued = issue("localhost");
    let server = Server::start(&issued, &["h2", "http/1.1"]);
    let mut gate = trusting(&issued);
    gate.put(external(server.port));
    assert!(gate.get("/a").body.starts_with("HTTP/2.0"));
    let upgrade = [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")];
    assert!(gate.request("GET", "/a", &upgrade, "").body.starts_with("HTTP/1.1"));
}

fn secure(port: u16, name: &str, h2c: bool) -> Vec<(PartName, PartBody)> {
    let (part, body) = upstream(&[std::net::SocketAddr::from(([127, 0, 0, 1], port))]);
    let PartBody::Upstream(body) = body else { unreachable!() };
    let tls = Some(UpstreamTls { server_name: name.into(), roots: None });
    let rules = vec![rule("r", "ANY", "/{p+}", policy(service()))];
    vec![stage_part(stage()), (part, PartBody::Upstream(UpstreamPart { tls, h2c, ..body })), route("r", rules)]
}

#[test]
fn a_service_with_tls_is_called_by_its_name_and_in_the_version_of_its_port() {
    let issued = issue("orders.shop.svc");
    let both = ["h2", "http/1.1"];
    for (protocols, h2c, version) in
        [(&both[..], true, "HTTP/2.0"), (&both, false, "HTTP/2.0"), (&["http/1.1"], false, "HTTP/1.1")]
    {
        let server = Server::start(&issued, protocols);
        let mut gate = trusting(&issued);
        assert_eq!(gate.put(secure(server.port, "orders.shop.svc", h2c)), []);
        let body = gate.get("/a").body;
        assert!(body.starts_with(&format!("{version} orders.shop.svc ")), "{protocols:?} {h2c}: {body}");
    }
}

#[test]
fn a_service_with_tls_is_never_called_without() {
    let issued = issue("orders.shop.svc");
    let server = Server::start(&issued, &["http/1.1"]);
    let mut gate = trusting(&issued);
    // Its certificate is for another name; it does not support HTTP/2 although the configuration of the port requires it.
    for (name, h2c) in [("other.shop.svc", false), ("orders.shop.svc", true)] {
        assert_eq!(gate.put(secure(server.port, name, h2c)), []);
        assert_eq!(gate.get("/a").status, 502, "{name} {h2c}");
    }
    let diagnostics = gate.put(secure(server.port, "no name", false));
    assert!(diagnostics.iter().any(|one| one.message.contains("\"no name\"")), "{diagnostics:?}");
    assert_eq!(gate.get("/a").status, 503);
    // Valid again.
    assert_eq!(gate.put(secure(server.port, "orders.shop.svc", false)), []);
    assert_eq!(gate.get("/a").status, 200);
}

#[test]
fn a_service_with_authorities_of_its_own_trusts_no_others() {
    let (own, other) = (issue("orders.shop.svc"), issue("orders.shop.svc"));
    let server = Server::start(&own, &["http/1.1"]);
    // The proxy itself trusts the server.
    let mut gate = trusting(&own);
    let with = |roots: &[&str]| {
        let mut parts = secure(server.port, "orders.shop.svc", false);
        let PartBody::Upstream(part) = &mut parts[1].1 else { unreachable!() };
        part.tls.as_mut().unwrap().roots = Some(roots.iter().map(|root| (*root).to_owned()).collect());
        parts
    };
    let text = |issued: &Issued| base64::engine::general_purpose::STANDARD.encode(&issued.der);
    let (own, other) = (text(&own), text(&other));
    for (roots, status) in [
        (vec![own.as_str()], 200),
        (vec![other.as_str()], 502),
        (vec![&other, &own], 200),
        (vec![], 502),
        (vec![&own], 200),
    ] {
        assert_eq!(gate.put(with(&roots)), []);
        assert_eq!(gate.get("/a").status, status, "{roots:?}");
    }
    // Endpoints change, and the authorities do not: the connection stays.
    let before = server.connections.load(Ordering::SeqCst);
    gate.put(with(&[&own]));
    assert_eq!((gate.get("/a").status, server.connections.load(Ordering::SeqCst)), (200, before));
    for bad in ["no base64", "AAAA"] {
        let diagnostics = gate.put(with(&[bad]));
        assert!(diagnostics.iter().any(|one| one.message.contains("certificate authority 0")), "{diagnostics:?}");
        assert_eq!(gate.get("/a").status, 503);
    }
}
