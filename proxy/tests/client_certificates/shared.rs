//! Client certificates on connections that several hosts or Stages share, and of configurations that change.

use super::*;

#[test]
fn a_connection_for_one_host_is_not_trusted_for_another_with_other_authorities() {
    let server = issue_for(&["one.example", "two.example", "open.example", "optional.example"]);
    let (one, two) = (Authority::new("One"), Authority::new("Two"));
    let mut gate = with_one_thread();
    let mut parts = vec![certificate(&server)];
    parts.extend(stage_of("one", &["one.example"], "/", Some(trusting(&[&one]))));
    parts.extend(stage_of("two", &["two.example"], "/", Some(trusting(&[&two]))));
    parts.extend(stage_of("open", &["open.example"], "/", None));
    let optional = ClientAuth { required: false, ..trusting(&[&two]) };
    parts.extend(stage_of("optional", &["optional.example"], "/", Some(optional)));
    assert_eq!(gate.put(parts), []);
    let (of_one, of_two) = (one.issue("one"), two.issue("two"));
    // The host of the handshake, the certificate, and the status for each host on this connection.
    for (name, client, expected) in [
        ("one.example", Some(&of_one), [200, 421, 200, 421]),
        ("two.example", Some(&of_two), [421, 200, 200, 200]),
        // Clients are not asked: the certificate stays with the client.
        ("open.example", Some(&of_one), [421, 421, 200, 421]),
        ("optional.example", None, [421, 403, 200, 200]),
        ("one.example", None, [403, 421, 200, 421]),
    ] {
        let hosts = ["one.example", "two.example", "open.example", "optional.example"];
        let settings = Arc::new(config(&server, client, &[]));
        let mut connection = Connection::open(&gate, name, &settings).unwrap();
        for (host, status) in hosts.iter().zip(expected) {
            let response = connection.get(host, "/a", &[]).unwrap();
            assert_eq!(response.status, status, "HTTP/1.1 for {host} on a connection for {name}");
        }
        let shared = http2(&gate, name, &server, client);
        assert_eq!(hosts.map(|host| status(&shared, host)), expected, "HTTP/2 on a connection for {name}");
        assert!(!shared.is_closed(), "{name}");
    }
    // The certificate of the other authority is not accepted in the handshake.
    assert!(get(&gate, &server, Some(&of_two), "one.example").is_err());
    assert_eq!(rejects(&gate, "MisdirectedRequest", "shop/two"), 6.0);
}

#[test]
fn stages_of_one_host_have_their_own_authorities() {
    let (server, one, two) = (issue("shop.example"), Authority::new("One"), Authority::new("Two"));
    let mut gate = with_one_thread();
    let mut parts = vec![certificate(&server)];
    parts.extend(stage_of("one", &["shop.example"], "/one", Some(trusting(&[&one]))));
    parts.extend(stage_of("two", &["shop.example"], "/two", Some(trusting(&[&two]))));
    parts.extend(stage_of("open", &["shop.example"], "/open", None));
    gate.put(parts);
    let (of_one, of_two) = (one.issue("one"), two.issue("two"));
    for (client, expected) in
        [(Some(&of_one), [200, 403, 200]), (Some(&of_two), [403, 200, 200]), (None, [403, 403, 200])]
    {
        let mut connection = Connection::open(&gate, "shop.example", &Arc::new(config(&server, client, &[]))).unwrap();
        let paths = ["/one/a", "/two/a", "/open/a"];
        assert_eq!(paths.map(|path| connection.get("shop.example", path, &[]).unwrap().status), expected);
        // A Stage without client certificates sees none.
        assert_eq!(connection.get("shop.example", "/open/a", &[]).unwrap().header("x-subject"), Some(""));
    }
    // A Stage that has lost its own certificate is served with that of another one, and its clients are asked all the same.
    let mut parts = stage_of("two", &["shop.example"], "/two", Some(trusting(&[&two])));
    if let PartBody::Stage(stage) = &mut parts[0].1 {
        stage.certificates.clear();
    }
    gate.put(parts);
    let mut connection =
        Connection::open(&gate, "shop.example", &Arc::new(config(&server, Some(&of_two), &[]))).unwrap();
    assert_eq!(connection.get("shop.example", "/two/a", &[]).unwrap().status, 200);
}

#[test]
fn authorities_change_without_closing_connections() {
    let (server, old, new) = (issue("shop.example"), Authority::new("Old"), Authority::new("New"));
    let mut gate = with_one_thread();
    gate.put(vec![certificate(&server)]);
    let stage = |authorities: &[&Authority]| stage_of("prod", &["shop.example"], "/", Some(trusting(authorities)));
    gate.put(stage(&[&old]));
    let open = |gate: &Gate, client: Option<&ClientCertificate>| {
        Connection::open(gate, "shop.example", &Arc::new(config(&server, client, &[]))).unwrap()
    };
    let (of_old, of_new) = (old.issue("a"), new.issue("a"));
    let (mut kept, mut anonymous) = (open(&gate, Some(&of_old)), open(&gate, None));
    let ask = |connection: &mut Connection| {
        let response = connection.get("shop.example", "/a", &[]).unwrap();
        assert_eq!(response.header("connection") == Some("close"), response.status == 421, "{response:?}");
        response.status
    };
    assert_eq!((ask(&mut kept), ask(&mut anonymous)), (200, 403));
    gate.put(stage(&[&old, &new]));
    // A new connection would be asked for other certificates.
    assert_eq!((ask(&mut kept), ask(&mut anonymous)), (200, 421));
    for client in [&of_old, &of_new] {
        assert_eq!(get(&gate, &server, Some(client), "shop.example").unwrap().status, 200);
    }
    gate.put(stage(&[&new]));
    assert_eq!(ask(&mut kept), 421);
    assert!(get(&gate, &server, Some(&of_old), "shop.example").is_err());
    // Without client certificates, and with them again: connections of that time were not asked.
    gate.put(stage_of("prod", &["shop.example"], "/", None));
    let mut unasked = open(&gate, Some(&of_new));
    assert_eq!(ask(&mut unasked), 200);
    gate.put(stage(&[&new]));
    assert_eq!(ask(&mut unasked), 421);
    assert_eq!(ask(&mut open(&gate, Some(&of_new))), 200);
    // Over HTTP/2 the connection announces its end, so that the client opens another one.
    let kept = http2(&gate, "shop.example", &server, Some(&of_new));
    assert_eq!(status(&kept, "shop.example"), 200);
    gate.put(stage(&[&old]));
    assert_eq!(status(&kept, "shop.example"), 421);
    eventually("the end of the connection", || kept.is_closed());
}

#[test]
fn a_session_is_not_resumed_where_clients_have_certificates() {
    let server = issue_for(&["one.example", "open.example"]);
    let partners = Authority::new("Partners");
    let client = partners.issue("a");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let mut gate = with_one_thread();
        let mut parts = vec![certificate(&server)];
        parts.extend(stage_of("one", &["one.example"], "/", Some(trusting(&[&partners]))));
        parts.extend(stage_of("open", &["open.example"], "/", None));
        gate.put(parts);
        let settings = of_version(&server, &client, version);
        let kind = |host: &str| {
            let mut connection = Connection::open(&gate, host, &settings).unwrap();
            assert_eq!(connection.get(host, "/a", &[]).unwrap().status, 200, "{host}");
            connection.0.conn.handshake_kind().unwrap()
        };
        use rustls::HandshakeKind::{Full, Resumed};
        assert_eq!((kind("open.example"), kind("open.example")), (Full, Resumed), "{version:?}");
        assert_eq!((kind("one.example"), kind("one.example")), (Full, Full), "{version:?}");
        // A session from the time before the Stage had client certificates.
        gate.put(stage_of("open", &["open.example"], "/", Some(trusting(&[&partners]))));
        let mut connection = Connection::open(&gate, "open.example", &settings).unwrap();
        assert_eq!(connection.get("open.example", "/a", &[]).unwrap().status, 200);
        assert_eq!(connection.0.conn.handshake_kind(), Some(Full), "{version:?}");
    }
}
