//! Certificates by name, changed while serving.

use std::io::Write as _;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use sluice_kit::tls::{Issued, client_config, issue, issue_rsa};
use sluice_wire::*;

use crate::harness::*;

fn certificate(name: &str, issued: &Issued) -> (PartName, PartBody) {
    let object = ObjectRef::new("Secret", "shop", name);
    let part = CertificatePart { object, chain_pem: issued.chain_pem.clone(), key_pem: issued.key_pem.clone() };
    (PartName::new(PartKind::Certificate, format!("shop/{name}")), PartBody::Certificate(part))
}

fn https(gate: &Gate, name: &str, trusted: &Issued) -> std::io::Result<Response> {
    let config = Arc::new(client_config(&[trusted], &[]));
    let connection =
        ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).map_err(std::io::Error::other)?;
    let stream = std::net::TcpStream::connect(gate.proxy.https_addr().unwrap())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(format!("GET /a HTTP/1.1\r\nhost: {name}\r\n\r\n").as_bytes())?;
    Ok(read_response(&mut stream))
}

#[test]
fn the_certificate_of_the_host_is_used_and_follows_its_secret() {
    let mut gate = Gate::start();
    let (one, two) = (issue("shop.example"), issue("shop.example"));
    let with = StagePart { certificates: vec![PartName::new(PartKind::Certificate, "shop/tls")], ..stage() };
    gate.put(vec![
        stage_part(with),
        certificate("tls", &one),
        route("r", vec![rule("a", "GET", "/a", policy(mock("a")))]),
    ]);
    assert_eq!(https(&gate, "shop.example", &one).unwrap().body, "a");
    assert!(https(&gate, "shop.example", &two).is_err());
    assert!(https(&gate, "other.example", &one).is_err());
    gate.put(vec![certificate("tls", &two)]);
    assert_eq!(https(&gate, "shop.example", &two).unwrap().body, "a");
    assert!(https(&gate, "shop.example", &one).is_err());
    let broken = Issued { key_pem: "no key".into(), ..two };
    let diagnostics = gate.put(vec![certificate("tls", &broken)]);
    assert!(diagnostics.iter().any(|d| d.message.contains("shop/tls")), "{diagnostics:?}");
    assert!(https(&gate, "shop.example", &broken).is_err());
    assert_eq!(gate.get("/a").status, 200);
}

/// The certificate that the proxy shows to a client that names this host and supports signatures of this kind.
fn shown(gate: &Gate, name: &str, ecdsa: bool, trusted: &[&Issued]) -> rustls::pki_types::CertificateDer<'static> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    let all = provider.signature_verification_algorithms;
    let kept = all.mapping.iter().filter(|(scheme, _)| format!("{scheme:?}").starts_with("ECDSA") == ecdsa);
    provider.signature_verification_algorithms.mapping = Vec::leak(kept.copied().collect());
    let mut roots = rustls::RootCertStore::empty();
    trusted.iter().for_each(|issued| roots.add(issued.der.clone()).unwrap());
    let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions();
    let config = builder.unwrap().with_root_certificates(roots).with_no_client_auth();
    let mut connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let mut stream = std::net::TcpStream::connect(gate.proxy.https_addr().unwrap()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10))).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).unwrap();
    }
    connection.peer_certificates().unwrap()[0].clone()
}

#[test]
fn of_several_certificates_a_client_gets_one_that_is_valid_for_its_host_and_that_it_supports() {
    let mut gate = Gate::start();
    let (shop, shop_rsa) = (issue("shop.example"), issue_rsa("shop.example"));
    let (wild, pay) = (issue("*.shop.example"), issue("pay.shop.example"));
    let names = ["shop", "shop-rsa", "wild", "pay"];
    let all = [&shop, &shop_rsa, &wild, &pay];
    let certificates = names.map(|name| PartName::new(PartKind::Certificate, format!("shop/{name}"))).to_vec();
    let hostnames = ["shop.example", "pay.shop.example", "*.shop.example"].map(|host| host.parse().unwrap()).to_vec();
    let mut parts = vec![stage_part(StagePart { certificates, hostnames, ..stage() })];
    parts.extend(names.iter().zip(all).map(|(name, issued)| certificate(name, issued)));
    assert_eq!(gate.put(parts), []);
    for (host, ecdsa, expected) in [
        ("shop.example", true, &shop),
        ("shop.example", false, &shop_rsa),
        ("other.shop.example", true, &wild),
        // The first that is valid: the order of the list decides.
        ("pay.shop.example", true, &wild),
    ] {
        assert!(shown(&gate, host, ecdsa, &all) == expected.der, "{host}, ECDSA: {ecdsa}");
    }
    // An unusable one does not affect the others.
    let broken = Issued { key_pem: "no key".into(), ..shop.clone() };
    let diagnostics = gate.put(vec![certificate("shop", &broken)]);
    assert!(diagnostics.iter().any(|d| d.message.contains("shop/shop ")), "{diagnostics:?}");
    assert!(shown(&gate, "shop.example", false, &all) == shop_rsa.der);
    assert!(shown(&gate, "pay.shop.example", true, &all) == wild.der);
}

#[test]
fn a_host_without_a_certificate_gets_none_of_another_namespace() {
    let (wild, eu, any) = (issue("*.shop.example"), issue("*.eu.shop.example"), issue("pay.example"));
    let named = |name: &str| vec![PartName::new(PartKind::Certificate, format!("shop/{name}"))];
    let of = |namespace: &str, name: &str, hosts: &[&str], certificates: Vec<PartName>| {
        let hostnames = hosts.iter().map(|host| host.parse().unwrap()).collect();
        let object = ObjectRef::new("Stage", namespace, name);
        let part = StagePart { object, hostnames, certificates, ..stage() };
        (PartName::of_object(PartKind::Stage, namespace, name), PartBody::Stage(part))
    };
    for (namespace, closed) in [("tenant", true), ("shop", false)] {
        let mut gate = Gate::start();
        gate.put(vec![
            of("shop", "wild", &["*.shop.example"], [named("wild"), named("eu")].concat()),
            of("shop", "any", &[], named("any")),
            of(namespace, "one", &["api.shop.example", "pay.example", "*.eu.shop.example"], Vec::new()),
            certificate("wild", &wild),
            certificate("eu", &eu),
            certificate("any", &any),
        ]);
        for (host, trusted) in [("api.shop.example", &wild), ("a.eu.shop.example", &eu), ("pay.example", &any)] {
            assert_eq!(https(&gate, host, trusted).is_err(), closed, "{host} of {namespace}");
        }
        assert!(https(&gate, "other.shop.example", &wild).is_ok());
    }
}

fn tls_backend(issued: &Issued) -> u16 {
    Backend::start_tls(issued, |_, _| ok("over tls")).address.port()
}

fn external(host: &str, port: u16) -> Vec<(PartName, PartBody)> {
    let target = HttpTarget { tls: true, host: host.into(), port, path: None };
    vec![stage_part(stage()), route("r", vec![rule("r", "GET", "/a", policy(Integration::Http(target)))])]
}

#[test]
fn external_servers_need_a_trusted_certificate_for_their_name() {
    let (right, wrong_name) = (issue("localhost"), issue("other.example"));
    let mut trusting = Gate::with(true, vec![right.der.clone(), wrong_name.der.clone()]);
    trusting.put(external("localhost", tls_backend(&right)));
    assert_eq!(trusting.get("/a").body, "over tls");
    trusting.put(external("localhost", tls_backend(&wrong_name)));
    assert_eq!(trusting.get("/a").status, 502);
    let mut strict = Gate::start();
    strict.put(external("localhost", tls_backend(&right)));
    assert_eq!(strict.get("/a").status, 502);
}

#[test]
fn http2_is_negotiated_in_the_handshake_and_a_silent_client_is_disconnected() {
    use http_body_util::{BodyExt as _, Empty};
    use hyper_util::rt::{TokioExecutor, TokioIo};
    let second = std::time::Duration::from_secs(1);
    let mut gate = Gate::with_timeouts(|timeouts| timeouts.first_byte = second);
    let issued = issue("shop.example");
    let with = StagePart { certificates: vec![PartName::new(PartKind::Certificate, "shop/tls")], ..stage() };
    let rules = vec![rule("a", "GET", "/a", policy(mock("over http2")))];
    gate.put(vec![stage_part(with), certificate("tls", &issued), route("r", rules)]);
    let mut config = client_config(&[&issued], &["h2", "http/1.1"]);
    let address = gate.proxy.https_addr().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let connect = |config: ClientConfig| async move {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            connector.connect(ServerName::try_from("shop.example").unwrap(), stream).await.unwrap()
        };
        let stream = connect(config.clone()).await;
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let connection = tokio::spawn(connection);
        let request = http::Request::get("https://shop.example/a").body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.version(), http::Version::HTTP_2);
        let body = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(body, "over http2");
        drop(sender);
        connection.await.unwrap().unwrap();
        // The client sends nothing after the handshake, with HTTP/1.1 and with HTTP/2.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut silent = connect(config).await;
        let mut byte = [0];
        let read = tokio::io::AsyncReadExt::read(&mut silent, &mut byte);
        let ended = tokio::time::timeout(std::time::Duration::from_secs(5), read).await;
        assert!(ended.is_ok(), "a silent TLS connection is kept");
    });
}

#[test]
fn the_proxys_own_addresses_are_no_destination() {
    let backend = Backend::echo();
    let mut gate = Gate::with(false, Vec::new());
    for host in [
        "localhost",
        "127.0.0.1",
        "127.1",
        "[::1]",
        "0.0.0.0",
        "169.254.169.254",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
    ] {
        let target = HttpTarget { tls: false, host: host.into(), port: backend.address.port(), path: None };
        gate.put(vec![
            stage_part(stage()),
            route("r", vec![rule("r", "GET", "/a", policy(Integration::Http(target)))]),
        ]);
        assert_eq!(gate.get("/a").status, 502, "{host}");
    }
    assert_eq!(backend.connections.load(std::sync::atomic::Ordering::SeqCst), 0);
}
