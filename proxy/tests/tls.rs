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
    let part = CertificatePart {
        object,
        chain_pem: issued.chain_pem.clone(),
        key_pem: issued.key_pem.clone(),
        not_after: Some(4_102_444_800),
    };
    (PartName::new(PartKind::Certificate, format!("shop/{name}")), PartBody::Certificate(part))
}

fn https(gate: &Gate, name: &str, trusted: &Issued) -> std::io::Result<Response> {
    https_host(gate, name, name, trusted)
}

/// A request for a host on a connection for the name.
fn https_host(gate: &Gate, name: &str, host: &str, trusted: &Issued) -> std::io::Result<Response> {
    let config = Arc::new(client_config(&[trusted], &[]));
    let connection =
        ClientConnection::new(config, ServerName::try_from(name.to_owned()).unwrap()).map_err(std::io::Error::other)?;
    let stream = std::net::TcpStream::connect(gate.proxy.https_addr().unwrap())?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(10)))?;
    let mut stream = StreamOwned::new(connection, stream);
    stream.write_all(format!("GET /a HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes())?;
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
    let expiry = r#"sluice_certificate_expiry_timestamp_seconds{secret="shop/tls"}"#;
    assert_eq!(gate.metric(expiry), 4_102_444_800.0);
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

fn named(name: &str) -> Vec<PartName> {
    vec![PartName::new(PartKind::Certificate, format!("shop/{name}"))]
}

/// A further Stage, which serves `/a`.
fn stage_of(namespace: &str, name: &str, hosts: &[&str], certificates: Vec<PartName>) -> Vec<(PartName, PartBody)> {
    let hostnames = hosts.iter().map(|host| host.parse().unwrap()).collect();
    let tls =
        (!certificates.is_empty()).then_some(StageTls { http: PlainHttp::Redirect, hsts: None, incomplete: false });
    let object = ObjectRef::new("Stage", namespace, name);
    let part = StagePart { object, hostnames, certificates, tls, ..stage() };
    let stage_name = PartName::of_object(PartKind::Stage, namespace, name);
    let rules = vec![rule("a", "GET", "/a", policy(mock(name)))];
    let served = RoutePart {
        object: ObjectRef::new("ApiRoute", namespace, name),
        stages: vec![stage_name.clone()],
        version: None,
        rules,
    };
    vec![
        (stage_name, PartBody::Stage(part)),
        (PartName::of_object(PartKind::Route, namespace, name), PartBody::Route(served)),
    ]
}

#[test]
fn a_connection_serves_the_hosts_of_its_certificate_only() {
    let (shop, pay, wild, any) =
        (issue("shop.example"), issue("pay.example"), issue("*.wild.example"), issue("any.example"));
    let mut gate = Gate::start();
    let mut parts = vec![
        certificate("shop", &shop),
        certificate("pay", &pay),
        certificate("wild", &wild),
        certificate("any", &any),
    ];
    parts.extend(stage_of("shop", "shop", &["shop.example", "www.shop.example"], named("shop")));
    parts.extend(stage_of("shop", "pay", &["pay.example"], named("pay")));
    parts.extend(stage_of("shop", "wild", &["*.wild.example"], named("wild")));
    parts.extend(stage_of("tenant", "guest", &["guest.wild.example"], Vec::new()));
    parts.extend(stage_of("shop", "plain", &["plain.example"], Vec::new()));
    assert_eq!(gate.put(parts), []);
    for (name, host, trusted, status) in [
        ("shop.example", "shop.example", &shop, 200),
        ("shop.example", "SHOP.example:443", &shop, 200),
        ("a.wild.example", "b.wild.example", &wild, 200),
        // Another certificate, the same one that is not valid for the host, and Stages without one.
        ("shop.example", "pay.example", &shop, 421),
        ("pay.example", "shop.example", &pay, 421),
        ("shop.example", "www.shop.example", &shop, 421),
        ("shop.example", "plain.example", &shop, 421),
        ("a.wild.example", "guest.wild.example", &wild, 421),
        ("shop.example", "unknown.example", &shop, 421),
    ] {
        let response = https_host(&gate, name, host, trusted).unwrap();
        assert_eq!(response.status, status, "{host} on a connection for {name}");
        if status == 421 {
            assert!(response.header("x-request-id").is_some() && response.body.contains("connection"), "{response:?}");
        }
    }
    let count =
        |stage: &str| gate.metric(&format!(r#"sluice_rejects_total{{reason="MisdirectedRequest",stage="{stage}"}}"#));
    assert_eq!((count("shop/pay"), count("tenant/guest"), count("")), (1.0, 1.0, 1.0));
    // Over plain HTTP no certificate is involved.
    let get = |host: &str| gate.request("GET", "/a", &[("host", host)], "").status;
    assert_eq!((get("plain.example"), get("guest.wild.example")), (200, 200));
    // A client without a name, as with an address, gets the Stages without hosts.
    gate.put(stage_of("shop", "any", &[], named("any")));
    let mut config = client_config(&[&any, &shop], &[]);
    config.enable_sni = false;
    for (host, status) in [("127.0.0.1", 200), ("any.example", 200), ("shop.example", 421)] {
        let connection = ClientConnection::new(Arc::new(config.clone()), "any.example".try_into().unwrap()).unwrap();
        let stream = sluice_kit::http1::connect(gate.proxy.https_addr().unwrap()).unwrap();
        let mut stream = StreamOwned::new(connection, stream);
        stream.write_all(format!("GET /a HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, status, "{host} without a name");
    }
}

#[test]
fn a_host_with_an_unusable_certificate_gets_no_other_one() {
    let (wild, one, two) = (issue("*.shop.example"), issue("one.shop.example"), issue("two.example"));
    let broken = Issued { key_pem: "no key".into(), ..one.clone() };
    let incomplete = |parts: &mut Vec<(PartName, PartBody)>| {
        for (_, body) in parts {
            if let PartBody::Stage(stage) = body {
                stage.tls = Some(StageTls { http: PlainHttp::Redirect, hsts: None, incomplete: true });
            }
        }
    };
    // Below a wildcard of the same namespace: the proxy cannot use the certificate, or the operator has left it out.
    for left_out in [false, true] {
        let mut gate = Gate::start();
        let mut parts =
            stage_of("shop", "one", &["one.shop.example"], if left_out { Vec::new() } else { named("one") });
        if left_out {
            incomplete(&mut parts);
        }
        parts.extend(stage_of("shop", "wild", &["*.shop.example"], named("wild")));
        parts.extend([certificate("wild", &wild), certificate("one", &broken)]);
        gate.put(parts);
        assert!(is_refused(&gate, "one.shop.example", &wild), "left out: {left_out}");
        assert!(https(&gate, "other.shop.example", &wild).is_ok());
        gate.put(stage_of("shop", "one", &["one.shop.example"], named("one")));
        gate.put(vec![certificate("one", &one)]);
        assert_eq!(https(&gate, "one.shop.example", &one).unwrap().body, "one");
    }
    // Of two hosts of one Stage, each with its own certificate.
    for left_out in [false, true] {
        let mut gate = Gate::start();
        let both = if left_out { named("two") } else { [named("two"), named("one")].concat() };
        let mut parts = stage_of("shop", "both", &["one.shop.example", "two.example"], both);
        if left_out {
            incomplete(&mut parts);
        }
        parts.extend([certificate("two", &two), certificate("one", &broken)]);
        gate.put(parts);
        assert!(is_refused(&gate, "one.shop.example", &two), "left out: {left_out}");
        assert!(https(&gate, "two.example", &two).is_ok());
    }
}

/// Whether the proxy ends the handshake for a name, because it has no certificate.
fn is_refused(gate: &Gate, name: &str, trusted: &Issued) -> bool {
    https(gate, name, trusted).is_err_and(|error| error.to_string().contains("fatal alert"))
}

#[test]
fn plain_http_for_a_stage_with_tls_is_redirected_served_or_rejected() {
    let issued = issue("shop.example");
    let hsts = Some(Hsts { max_age_s: 3600, subdomains: true });
    let with = |behavior, http| {
        let tls = Some(StageTls { http, hsts, incomplete: false });
        stage_part(StagePart { behavior, tls, certificates: named("tls"), ..stage() })
    };
    let mut gate = Gate::configured(|settings| settings.https_port = Some(443));
    let mut guarded = policy(mock("guarded"));
    guarded.api_key = true;
    let rules = vec![rule("a", "ANY", "/a", policy(mock("a"))), rule("k", "ANY", "/key", guarded)];
    gate.put(vec![certificate("tls", &issued), route("r", rules)]);
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        gate.put(vec![with(behavior, PlainHttp::Redirect)]);
        for (method, path, headers) in [
            ("GET", "/a", &[][..]),
            ("POST", "/a?b=%20c&d", &[("content-type", "text/plain")]),
            ("GET", "/none", &[]),
            ("GET", "/key", &[("x-api-key", "secret")]),
            ("DELETE", "/a/b", &[("authorization", "Bearer x")]),
            ("OPTIONS", "/a", &[("origin", "https://x.example"), ("access-control-request-method", "GET")]),
            ("GET", "/a", &[("x-forwarded-proto", "https")]),
            ("GET", "/a", &[("host", "SHOP.example:8080")]),
        ] {
            let response = gate.request(method, path, headers, "");
            assert_eq!(response.status, 308, "{behavior:?} {method} {path} {headers:?}");
            let location = format!("https://shop.example{path}");
            assert_eq!(response.header("location"), Some(location.as_str()), "{method} {path}");
            assert!(response.header("strict-transport-security").is_none(), "{response:?}");
        }
        let response = https(&gate, "shop.example", &issued).unwrap();
        let wanted = Some("max-age=3600; includeSubDomains");
        assert_eq!((response.status, response.header("strict-transport-security")), (200, wanted));
        gate.put(vec![with(behavior, PlainHttp::Off)]);
        let response = gate.get("/a");
        assert_eq!(response.status, 403, "{behavior:?}");
        assert!(response.header("location").is_none() && !response.body.is_empty());
        assert_eq!(https(&gate, "shop.example", &issued).unwrap().status, 200);
        gate.put(vec![with(behavior, PlainHttp::Serve)]);
        let response = gate.get("/a");
        assert_eq!((response.status, response.header("strict-transport-security")), (200, None));
    }
    let lines = gate.log.lines();
    assert!(lines.iter().any(|line| line["status"] == 308 && line["reason"] == "HttpsRedirect"), "{lines:?}");
    assert_eq!(gate.metric(r#"sluice_rejects_total{reason="HttpsRequired",stage="shop/prod"}"#), 3.0);
    // Without a usable certificate, and for a Stage without hosts.
    gate.put(vec![with(Behavior::Native, PlainHttp::Redirect)]);
    gate.remove(named("tls").remove(0));
    assert_eq!(gate.get("/a").status, 308);
    let tls = Some(StageTls { http: PlainHttp::Redirect, hsts: None, incomplete: true });
    gate.put(vec![stage_part(StagePart { tls, hostnames: vec![], ..stage() })]);
    assert_eq!(gate.request("GET", "/a", &[("host", "[::1]:8080")], "").header("location"), Some("https://[::1]/a"));
    assert_eq!(gate.raw("GET /a HTTP/1.0\r\n\r\n").status, 403, "there is no host to redirect to");
}

#[test]
fn a_load_balancer_that_terminates_tls_is_trusted_if_it_is_named() {
    let tls = Some(StageTls {
        http: PlainHttp::Redirect,
        hsts: Some(Hsts { max_age_s: 60, subdomains: false }),
        incomplete: false,
    });
    for (networks, trusted) in
        [(&["127.0.0.0/8", "::1/128"][..], true), (&["10.0.0.0/8", "127.0.0.2/32"], false), (&[], false)]
    {
        let backend = Backend::echo();
        let mut gate = Gate::configured(|settings| {
            settings.https = None;
            settings.tls_terminators = networks.iter().map(|network| network.parse().unwrap()).collect();
        });
        let rules = vec![rule("a", "GET", "/a", policy(service()))];
        gate.put(vec![stage_part(StagePart { tls, ..stage() }), upstream(&[backend.address]), route("r", rules)]);
        let get = |headers: &[(&str, &str)]| gate.request("GET", "/a", headers, "");
        let response = get(&[("x-forwarded-proto", "HTTPS")]);
        assert_eq!(response.status, if trusted { 200 } else { 308 }, "{networks:?}");
        if trusted {
            assert!(response.body.to_ascii_lowercase().contains("x-forwarded-proto: https\r\n"), "{}", response.body);
            assert_eq!(response.header("strict-transport-security"), Some("max-age=60"));
            eventually("logged", || gate.log.lines().iter().any(|line| line["scheme"] == "https"));
        }
        for headers in [
            &[][..],
            &[("x-forwarded-proto", "http")],
            &[("x-forwarded-proto", "https, http")],
            &[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")],
            &[("x-forwarded-proto", "https"), ("x-forwarded-proto", "https")],
            &[("forwarded", "proto=https")],
        ] {
            let response = get(headers);
            assert_eq!(
                (response.status, response.header("location")),
                (308, Some("https://shop.example/a")),
                "{headers:?}"
            );
        }
    }
}

#[test]
fn a_stored_redirect_is_for_the_scheme_that_the_backend_made_it_for() {
    // It redirects to the scheme in the header.
    let backend = Backend::start(|head, _| {
        let head = head.to_ascii_lowercase();
        let scheme = head.split("x-forwarded-proto: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
        format!("HTTP/1.1 301 Moved\r\nlocation: {scheme}://shop.example/login\r\ncontent-length: 0\r\n\r\n")
    });
    let issued = issue("shop.example");
    let tls = Some(StageTls { http: PlainHttp::Serve, hsts: None, incomplete: false });
    let rules = vec![rule("a", "GET", "/a", RulePolicy { cache: Some(shared_cache()), ..policy(service()) })];
    let mut gate = Gate::configured(|settings| settings.tls_terminators = vec!["127.0.0.2/32".parse().unwrap()]);
    gate.put(vec![
        stage_part(StagePart { tls, certificates: named("tls"), ..stage_with_cache() }),
        certificate("tls", &issued),
        upstream(&[backend.address]),
        route("r", rules),
    ]);
    // From a load balancer that terminates TLS, or not; from other clients; over TLS.
    let from = |last: u8, scheme: &str| {
        let mut stream = gate.connect_from(last);
        let head = sluice_kit::http1::request("shop.example", "GET", "/a", &[("x-forwarded-proto", scheme)], "");
        stream.write_all(head.as_bytes()).unwrap();
        read_response(&mut stream)
    };
    let secure = || https(&gate, "shop.example", &issued).unwrap();
    for result in ["stored", "hit"] {
        for (response, scheme) in [(from(1, "https"), "http"), (secure(), "https")] {
            let location = format!("{scheme}://shop.example/login");
            assert_eq!((response.status, response.header("location")), (301, Some(location.as_str())), "{result}");
            assert!(response.header("cache-status").unwrap().contains(result), "{response:?}");
        }
    }
    for (scheme, response) in [("http", from(2, "http")), ("https", from(2, "https"))] {
        assert_eq!(response.header("location"), Some(format!("{scheme}://shop.example/login").as_str()));
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
