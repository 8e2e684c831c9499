//! Who a client is behind trusted proxies, and which networks a Stage and a rule accept.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};
use sluice_kit::http1::request;
use sluice_kit::tls::{client_config, issue};
use sluice_proxy::run::{AddressHeader, ProxyProtocol, Settings, TrustedProxies};
use sluice_wire::*;

use crate::harness::*;

fn sources(allow: &[&str], deny: &[&str]) -> Option<Sources> {
    let parse = |list: &[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
    Some(Sources { allow: parse(allow), deny: parse(deny) })
}

fn trust(networks: &[&str], header: AddressHeader) -> impl FnOnce(&mut Settings) {
    let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
    move |settings| settings.trusted_proxies = TrustedProxies { networks, header, hops: None }
}

/// A request from 127.0.0.`last`.
fn from(gate: &Gate, last: u8, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut stream = gate.connect_from(last);
    stream.write_all(request("shop.example", "GET", path, headers, "").as_bytes()).unwrap();
    read_response(&mut stream)
}

#[test]
fn stage_and_rule_accept_requests_of_their_networks_only() {
    let mut gate = Gate::start();
    let inner = RulePolicy { source: sources(&["127.0.0.0/30"], &["127.0.0.3"]), ..policy(mock("in")) };
    let rules = vec![rule("open", "ANY", "/open", policy(mock("open"))), rule("inner", "ANY", "/in", inner)];
    gate.put(vec![route("r", rules)]);
    for (behavior, body) in [
        (Behavior::Native, "Requests from this network are not accepted."),
        (Behavior::AwsRest, r#"{"message":"Forbidden"}"#),
        (Behavior::AwsHttp, r#"{"message":"Forbidden"}"#),
    ] {
        let stage = StagePart { behavior, source: sources(&["127.0.0.0/24"], &["127.0.0.9"]).map(Box::new), ..stage() };
        gate.put(vec![stage_part(stage)]);
        for (last, path, status) in [
            (1, "/open", 200),
            (1, "/in", 200),
            (3, "/open", 200),
            (3, "/in", 403),
            (4, "/in", 403),
            (9, "/open", 403),
            // A rejected client does not learn which paths exist.
            (9, "/nowhere", 403),
        ] {
            // What a client states about itself has no meaning.
            for headers in [&[][..], &[("x-forwarded-for", "127.0.0.1")], &[("forwarded", "for=127.0.0.1")]] {
                let response = from(&gate, last, path, headers);
                assert_eq!(response.status, status, "{behavior:?} {last} {path} {headers:?}");
                assert!(status == 200 || response.body.contains(body), "{}", response.body);
            }
        }
        let plain = StagePart { behavior, ..self::stage() };
        gate.put(vec![stage_part(plain)]);
        assert_eq!(from(&gate, 9, "/open", &[]).status, 200);
    }
    assert_eq!(gate.metric(r#"sluice_rejects_total{reason="SourceNotAllowed",stage="shop/prod"}"#), 36.0);
    let is_rejected =
        |line: &serde_json::Value| line["reason"] == "SourceNotAllowed" && line["sourceIp"] == "127.0.0.9";
    eventually("logged", || gate.log.lines().iter().any(is_rejected));
}

#[test]
fn a_stored_response_is_for_accepted_networks_only() {
    let backend = Backend::echo();
    let inner = RulePolicy { source: sources(&["127.0.0.1"], &[]), cache: Some(shared_cache()), ..policy(service()) };
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage_with_cache()),
        upstream(&[backend.address]),
        route("r", vec![rule("inner", "GET", "/in", inner)]),
    ]);
    for (last, status) in [(1, 200), (1, 200), (2, 403), (1, 200)] {
        assert_eq!(from(&gate, last, "/in", &[]).status, status);
    }
}

#[test]
fn a_trusted_proxy_states_the_address_of_its_client() {
    for (header, name, chain, behavior, seen) in [
        (
            AddressHeader::XForwardedFor,
            "x-forwarded-for",
            "9.9.9.9, 203.0.113.7",
            Behavior::Native,
            "x-forwarded-for: 203.0.113.7\r\n",
        ),
        (
            AddressHeader::Forwarded,
            "forwarded",
            "for=9.9.9.9, For=\"203.0.113.7:80\"",
            Behavior::AwsRest,
            "x-forwarded-for: 203.0.113.7\r\n",
        ),
        (
            AddressHeader::XForwardedFor,
            "x-forwarded-for",
            "203.0.113.7, 127.0.0.2",
            Behavior::AwsHttp,
            "forwarded: for=203.0.113.7;",
        ),
    ] {
        let backend = Backend::echo();
        let mut gate = Gate::configured(trust(&["127.0.0.2/31"], header));
        let served = RulePolicy {
            source: sources(&["203.0.113.0/24"], &[]),
            request_headers: HeaderEdits {
                set: vec![("x-client".into(), "${context.identity.sourceIp}".parse().unwrap())],
                ..HeaderEdits::default()
            },
            ..policy(service())
        };
        gate.put(vec![
            stage_part(StagePart { behavior, ..stage() }),
            upstream(&[backend.address]),
            route("r", vec![rule("r", "ANY", "/a", served)]),
        ]);
        let response = from(&gate, 2, "/a", &[(name, chain)]);
        let body = response.body.to_ascii_lowercase();
        assert_eq!(response.status, 200, "{name}");
        assert!(body.contains(seen) && body.contains("x-client: 203.0.113.7\r\n"), "{body}");
        assert!(!body.contains("9.9.9.9"), "{body}");
        eventually("logged", || gate.log.lines().iter().any(|line| line["sourceIp"] == "203.0.113.7"));
        // From others, and in other headers, it has no meaning.
        assert_eq!(from(&gate, 1, "/a", &[(name, chain)]).status, 403, "{name}");
        assert_eq!(from(&gate, 4, "/a", &[(name, chain)]).status, 403, "{name}");
        let others = ["x-real-ip", "true-client-ip", if name == "forwarded" { "x-forwarded-for" } else { "forwarded" }];
        for other in others {
            assert_eq!(from(&gate, 2, "/a", &[(other, "203.0.113.7")]).status, 403, "{other}");
        }
        // The proxy's own request, and a client that it does not name.
        assert_eq!(from(&gate, 2, "/a", &[]).status, 403);
        let response = from(&gate, 2, "/a", &[(name, "for=unknown")]);
        assert_eq!(response.status, 400, "{}", response.body);
        let unreadable = |line: &serde_json::Value| line["reason"] == "Malformed" && line["sourceIp"] == "127.0.0.2";
        eventually("logged", || gate.log.lines().iter().any(unreadable));
    }
}

/// A header of version 2 for a client at an IPv4 address.
fn binary(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend(client);
    header.extend([127, 0, 0, 1, 0x12, 0x34, 0x01, 0xbb]);
    header
}

fn behind_balancer(https: bool, change: impl FnOnce(&mut Settings)) -> Gate {
    let trusted = trust(&["127.0.0.2"], AddressHeader::XForwardedFor);
    let mut gate = Gate::configured(|settings| {
        trusted(settings);
        settings.proxy_protocol = ProxyProtocol { http: true, https };
        change(settings);
    });
    let served = RulePolicy { source: sources(&["203.0.113.0/24", "127.0.0.2"], &[]), ..policy(mock("in")) };
    gate.put(vec![stage_part(stage()), route("r", vec![rule("r", "ANY", "/a", served)])]);
    gate
}

/// What a connection that begins with these bytes gets; none: it is closed.
fn opened(gate: &Gate, last: u8, header: &[u8]) -> Option<Response> {
    let mut stream = gate.connect_from(last);
    // The proxy may have closed it.
    drop(stream.write_all(header));
    drop(stream.write_all(request("shop.example", "GET", "/a", &[], "").as_bytes()));
    let closed = stream.peek(&mut [0]).map_or(true, |size| size == 0);
    (!closed).then(|| read_response(&mut stream))
}

#[test]
fn a_load_balancer_states_its_client_before_the_first_byte_of_a_connection() {
    let gate = behind_balancer(false, |_| {});
    for (header, status) in [
        (b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n".to_vec(), 200),
        (b"PROXY TCP4 198.51.100.7 10.0.0.1 4711 80\r\n".to_vec(), 403),
        (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 4711 80\r\n".to_vec(), 200),
        (b"PROXY TCP6 2001:db8::1 ::1 4711 80\r\n".to_vec(), 403),
        (binary([203, 0, 113, 9]), 200),
        (binary([198, 51, 100, 9]), 403),
        // The balancer's own connections.
        (b"PROXY UNKNOWN\r\n".to_vec(), 200),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(), 200),
    ] {
        let response = opened(&gate, 2, &header).unwrap();
        assert_eq!(response.status, status, "{}", header.escape_ascii());
    }
    for source in ["203.0.113.7", "2001:db8::1", "198.51.100.9", "127.0.0.2"] {
        eventually("logged", || gate.log.lines().iter().any(|line| line["sourceIp"] == source));
    }
    // In pieces of one byte, and HTTP/2 behind it.
    let mut stream = gate.connect_from(2);
    for byte in binary([203, 0, 113, 9]).iter().chain(request("shop.example", "GET", "/a", &[], "").as_bytes()) {
        stream.write_all(&[*byte]).unwrap();
    }
    assert_eq!(read_response(&mut stream).status, 200);
    let mut stream = gate.connect_from(2);
    stream
        .write_all(b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "SETTINGS: {frame:?}");
}

#[test]
fn connections_without_a_valid_header_or_from_others_are_closed() {
    let gate = behind_balancer(false, |_| {});
    let valid = b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\r\n";
    let rows: [(u8, &[u8]); 8] = [
        (2, b""),
        (2, b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80\n"),
        (2, b"PROXY TCP4 203.0.113 10.0.0.1 4711 80\r\n"),
        (2, b"PROXY TCP4 203.0.113.7 10.0.0.1 4711 80 and more, which is far longer than any line of the protocol may be, until it ends here\r\n"),
        (2, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"),
        (2, b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0"),
        // Strangers cannot state an address, nor do without one.
        (1, valid),
        (3, b""),
    ];
    for (last, header) in rows {
        assert!(opened(&gate, last, header).is_none(), "{last} {}", header.escape_ascii());
    }
    let rejected = r#"sluice_rejects_total{reason="ProxyProtocol",stage=""}"#;
    // A check whether the port is open.
    drop(gate.connect_from(2));
    eventually("counted", || gate.metric(rejected) == 8.0);
    let line = |last: u8| {
        let source = format!("127.0.0.{last}");
        gate.log.lines().iter().any(|line| line["reason"] == "ProxyProtocol" && line["sourceIp"] == source.as_str())
    };
    eventually("logged", || line(1) && line(2) && line(3));
    assert_eq!(opened(&gate, 2, valid).unwrap().status, 200);
    // A balancer that says nothing does not keep its connection.
    let gate = behind_balancer(false, |settings| settings.timeouts.first_byte = std::time::Duration::from_millis(100));
    let mut stream = gate.connect_from(2);
    stream.write_all(b"PROXY TCP4 ").unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn the_header_comes_before_the_tls_handshake() {
    let issued = issue("shop.example");
    let mut gate = behind_balancer(true, |_| {});
    let secret = PartName::new(PartKind::Certificate, "shop/tls");
    let object = ObjectRef::new("Secret", "shop", "tls");
    let certificate = CertificatePart {
        object,
        chain_pem: issued.chain_pem.clone(),
        key_pem: issued.key_pem.clone(),
        not_after: None,
    };
    let with = StagePart { certificates: vec![secret.clone()], ..stage() };
    gate.put(vec![(secret, PartBody::Certificate(certificate)), stage_part(with)]);
    for (client, status) in [([203, 0, 113, 7], 200), ([198, 51, 100, 7], 403)] {
        let config = Arc::new(client_config(&[&issued], &[]));
        let name = ServerName::try_from("shop.example").unwrap();
        let mut stream = connect_from(gate.proxy.https_addr().unwrap(), 2);
        stream.write_all(&binary(client)).unwrap();
        let mut stream = StreamOwned::new(ClientConnection::new(config, name).unwrap(), stream);
        stream.write_all(request("shop.example", "GET", "/a", &[], "").as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, status, "{client:?}");
    }
}

#[test]
fn the_limit_of_connections_is_for_the_client_behind_the_balancer() {
    let gate = behind_balancer(false, |settings| {
        (settings.limits.connections, settings.limits.connections_per_source) = (Some(100), Some(2));
    });
    let kept = |client: [u8; 4]| {
        let mut stream = gate.connect_from(2);
        stream.write_all(&binary(client)).unwrap();
        stream.write_all(request("shop.example", "GET", "/a", &[], "").as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).status, 200);
        stream
    };
    let _many: Vec<TcpStream> = (1..=10).map(|last| kept([203, 0, 113, last])).collect();
    assert_eq!(gate.metric("sluice_connections_evicted_total "), 0.0);
    assert_eq!(gate.metric("sluice_connections "), 10.0);
    let _more: Vec<TcpStream> = (0..3).map(|_| kept([203, 0, 113, 1])).collect();
    assert_eq!(gate.metric("sluice_connections_evicted_total "), 2.0);
}
