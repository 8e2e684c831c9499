//! Requests that could be parsed in two ways, that are too large, or that arrive too slowly.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use sluice_wire::*;

use crate::harness::*;

/// A timeout of the proxy under test, instead of its default.
const SHORT: Duration = Duration::from_millis(400);

fn gate() -> (Gate, Backend) {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let rules =
        vec![rule("all", "ANY", "/{p+}", policy(service())), rule("admin", "ANY", "/admin", policy(mock("admin")))];
    gate.put(vec![stage_part(stage()), upstream(&[backend.address]), route("r", rules)]);
    (gate, backend)
}

#[test]
fn ambiguous_framing_never_reaches_a_backend() {
    let (gate, backend) = gate();
    let rows = [
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: ,chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: x, chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.0\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: +1\r\n\r\nx",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nhost: other.example\r\n\r\n",
        "GET http://shop.example/a HTTP/1.1\r\nhost: other.example\r\n\r\n",
        "GET http://user@shop.example/a HTTP/1.1\r\nhost: user@shop.example\r\n\r\n",
        "CONNECT shop.example:443 HTTP/1.1\r\nhost: shop.example:443\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx_user: 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx.user: 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: a\u{1}b\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: a\0b\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: a\u{7f}b\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: a\rb\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: a\r\n b\r\n\r\n",
    ];
    for request in rows {
        assert_eq!(gate.raw(request).status, 400, "{request}");
    }
    assert_eq!(backend.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn length_and_chunks_together_are_never_forwarded_together() {
    let (gate, _backend) = gate();
    for order in ["content-length: 6\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 6"]
    {
        let mut stream = gate.connect();
        let request = format!(
            "POST /a HTTP/1.1\r\nhost: shop.example\r\n{order}\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: shop.example\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = String::new();
        // The connection is closed after the first response: what follows is not a second request.
        stream.read_to_string(&mut all).unwrap_or_default();
        assert_eq!(all.matches("HTTP/1.1 ").count() - all.matches("POST /a HTTP/1.1 ").count(), 1, "{all}");
        assert!(!all.to_ascii_lowercase().contains("content-length: 6"), "{all}");
    }
}

#[test]
fn no_form_of_a_path_bypasses_its_rule() {
    let (gate, backend) = gate();
    for path in ["/admin", "/%61dmin", "/adm%69n", "/%61%64%6d%69%6e"] {
        assert_eq!(gate.get(path).body, "admin", "{path}");
    }
    let bad = [
        "/x/../admin",
        "/./admin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "//admin",
        "/x//admin",
        "/admin;x",
        "/admin%3bx",
        "/;/admin",
        "/x%2fadmin",
        "/x%2Fadmin",
        "/x%5cadmin",
        "/x%252e%252e/admin",
        "/x/%252e%252e/admin",
        "/x/%25%32e%25%32e/admin",
        "/x/%252%65%252%65/admin",
        "/x/%25%32f",
        "/admin%00",
        "/admin%0a",
        "/%zz",
        "/admin%",
    ];
    for path in bad {
        assert_eq!(gate.get(path).status, 400, "{path}");
    }
    assert_eq!(backend.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn requests_of_clients_have_maximum_sizes() {
    let (mut gate, _backend) = gate();
    assert_eq!(gate.get(&format!("/{}", "a".repeat(9_000))).status, 414);
    let long = "a".repeat(17_000);
    assert_eq!(gate.request("GET", "/a", &[("x-long", &long)], "").status, 431);
    let many: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(gate.request("GET", "/a", &many, "").status, 431);
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() })]);
    let response = gate.raw("POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 10485761\r\n\r\n");
    assert_eq!((response.status, response.body.as_str()), (413, r#"{"message":"Request Too Long"}"#));
}

#[test]
fn invalid_rules_and_stages_reject_in_their_place() {
    let mut gate = Gate::start();
    let invalid =
        Rule { action: RuleAction::Invalid { why: "secret text".into() }, ..rule("b", "GET", "/b", policy(mock("b"))) };
    let mut guarded = policy(mock("guarded"));
    let authorizer = PartName::new(PartKind::Authorizer, "shop/login");
    guarded.authorizer = Some(AuthorizerUse { part: authorizer, scopes: vec![] });
    let rules = vec![
        rule("a", "GET", "/a", policy(mock("a"))),
        invalid,
        rule("c", "GET", "/c", guarded),
        rule("any", "ANY", "/{p+}", policy(mock("open"))),
    ];
    let diagnostics = gate.put(vec![stage_part(stage()), route("r", rules)]);
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert!(diagnostics[0].message.contains("shop/login"), "{diagnostics:?}");
    assert_eq!(gate.get("/a").body, "a");
    for path in ["/b", "/c"] {
        let response = gate.get(path);
        assert_eq!(response.status, 500, "{path}");
        assert!(!response.body.contains("secret text") && !response.body.contains("login"));
    }
    assert_eq!(gate.metric(r#"sluice_rejects_total{reason="InvalidConfig",stage="shop/prod"}"#), 2.0);
    gate.put(vec![stage_part(StagePart { invalid: Some("no".into()), ..stage() })]);
    assert_eq!(gate.get("/a").status, 500);
}

#[test]
fn a_slow_request_head_times_out() {
    let gate = Gate::with_timeouts(|timeouts| timeouts.head = SHORT);
    let mut stream = gate.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\nx-slow: ").unwrap();
    let started = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("the client's own timeout is longer");
    assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
}

#[test]
fn a_silent_connection_is_closed() {
    let gate = Gate::with_timeouts(|timeouts| timeouts.first_byte = SHORT);
    // No bytes at all, and the first bytes of the preface of HTTP/2.
    for bytes in [&b""[..], b"PRI * HT"] {
        let mut stream = gate.connect();
        stream.write_all(bytes).unwrap();
        let started = Instant::now();
        // The end, or a reset because of the unread bytes; not the timeout of the client.
        let ended = stream.read_to_end(&mut Vec::new()).map_err(|error| error.kind());
        assert!(matches!(ended, Ok(0) | Err(std::io::ErrorKind::ConnectionReset)), "{ended:?}");
        assert!(started.elapsed() >= SHORT, "{:?}", started.elapsed());
    }
    eventually("closed", || gate.metric("sluice_connections ") == 0.0);
}

/// The response to `GET /a` with the header `x-user` over HTTP/2: none if the stream or the connection was reset.
fn http2_status(gate: &Gate, value: &[u8]) -> Option<u16> {
    let mut stream = gate.connect();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    // Method GET and scheme http by their numbers in the static table, the others written out (RFC 7541, 6.2.2).
    let mut block = vec![0x82, 0x86];
    for (index, name, text) in [(1, &b""[..], &b"shop.example"[..]), (4, b"", b"/a"), (0, b"x-user", value)] {
        block.push(index);
        for text in [name, text].iter().skip(usize::from(index != 0)) {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text);
        }
    }
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00".to_vec();
    bytes.extend_from_slice(&[0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
    bytes.extend_from_slice(&block);
    stream.write_all(&bytes).unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).unwrap();
        match head[3] {
            // HEADERS. A status of the static table is one byte, which an update of the table's size may precede.
            1 => {
                let first = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                return Some(match first {
                    Some(0x88) => 200,
                    Some(0x8c) => 400,
                    other => panic!("{other:x?}"),
                });
            }
            // RST_STREAM, GOAWAY.
            3 | 7 => return None,
            _ => {}
        }
    }
}

#[test]
fn http2_values_have_no_control_characters_and_no_white_space_around_them() {
    let (gate, backend) = gate();
    let rows: [(&[u8], Option<u16>); 13] = [
        (b"ab", Some(200)),
        (b"a b\tc", Some(200)),
        (b"", Some(200)),
        (b"a\x01b", None),
        (b"a\0b", None),
        (b"a\x7fb", None),
        (b"a\nb", None),
        (b"a\rb", None),
        (b" ab", Some(400)),
        (b"ab ", Some(400)),
        (b"\tab", Some(400)),
        (b"ab\t", Some(400)),
        (b" ", Some(400)),
    ];
    for (value, status) in rows {
        assert_eq!(http2_status(&gate, value), status, "{value:?}");
    }
    assert_eq!(backend.requests.load(std::sync::atomic::Ordering::SeqCst), 3);
}

#[test]
fn a_preface_in_pieces_is_still_http2() {
    let (gate, _backend) = gate();
    let mut stream = gate.connect();
    stream.set_nodelay(true).unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n").unwrap();
    std::thread::yield_now();
    stream.write_all(b"\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "the first frame is SETTINGS: {head:?}");
}

#[test]
fn a_request_that_passed_too_often_is_rejected() {
    let mut one = Gate::start();
    let mut two = Gate::start();
    let to = |other: &Gate| {
        let rules = vec![rule("all", "ANY", "/{p+}", policy(service()))];
        vec![stage_part(stage()), upstream(&[other.proxy.http_addr().unwrap()]), route("r", rules)]
    };
    let parts = to(&two);
    one.put(parts);
    let parts = to(&one);
    two.put(parts);
    let response = one.get("/a");
    assert_eq!(response.status, 400);
    assert!(response.body.contains("passed through"), "{}", response.body);
    let logged = || one.log.lines().len() + two.log.lines().len();
    eventually("all hops logged", || logged() >= 4);
    assert!(logged() < 8, "{}", logged());
    // Other values of the client are kept, and a Connection header that names it does not remove it.
    let backend = Backend::echo();
    one.put(vec![upstream(&[backend.address])]);
    let body = one.request("GET", "/a", &[("cdn-loop", "other; v=1"), ("connection", "cdn-loop")], "").body;
    assert!(body.contains("cdn-loop: other; v=1\r\n") && body.contains("cdn-loop: sluice\r\n"), "{body}");
}

#[test]
fn a_fragment_is_ignored() {
    let (gate, _backend) = gate();
    let body = gate.get("/a#/../admin").body;
    assert!(body.starts_with("GET /a HTTP/1.1\r\n"), "{body}");
}

#[test]
fn nothing_is_read_after_an_upgrade_without_a_101() {
    let (gate, backend) = gate();
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: abc\r\n";
    let other = "connection: upgrade\r\nupgrade: h2c\r\n";
    for (path, headers) in [("/admin", websocket), ("/admin", other), ("/a", other), ("/a;", websocket)] {
        let mut stream = gate.connect();
        let second = "GET /second HTTP/1.1\r\nhost: shop.example\r\n\r\n";
        let request = format!("GET {path} HTTP/1.1\r\nhost: shop.example\r\n{headers}\r\n{second}");
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap_or_default();
        assert!(all.contains("connection: close\r\n"), "{path} {headers}: {all}");
        assert!(!all.contains("/second"), "{path} {headers}: {all}");
    }
    assert_eq!(backend.requests.load(std::sync::atomic::Ordering::SeqCst), 1);
}

#[test]
fn another_method_in_a_field_counts_for_aws_and_is_removed_otherwise() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let rules = vec![
        rule("write", "POST", "/a", policy(service())),
        rule("remove", "DELETE", "/a", policy(mock("deleted"))),
        rule("head", "HEAD", "/h", policy(service())),
        rule("any", "ANY", "/any", policy(mock("any"))),
    ];
    gate.put(vec![stage_part(stage()), upstream(&[backend.address]), route("r", rules)]);
    for name in ["x-http-method-override", "x-http-method", "x-method-override"] {
        let body = gate.request("POST", "/a", &[(name, "DELETE")], "x").body;
        assert!(body.starts_with("POST ") && !body.to_ascii_lowercase().contains(name), "{body}");
    }
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() })]);
    let overridden = |value| gate.request("POST", "/a", &[("x-http-method-override", value)], "x");
    assert_eq!(overridden("DELETE").body, "deleted");
    assert!(overridden("POST").body.starts_with("POST /a HTTP/1.1\r\n"));
    assert!(!overridden("POST").body.contains("override"));
    for value in ["PURGE", "CONNECT", "delete", ""] {
        assert_eq!(overridden(value).status, 403, "{value}");
    }
    let twice = [("x-http-method-override", "POST"), ("x-http-method-override", "DELETE")];
    assert_eq!(gate.request("POST", "/a", &twice, "x").status, 400);
    // A response to HEAD has a length and no body; a client that sent GET must not get that length.
    let response = gate.request("GET", "/h", &[("x-http-method-override", "HEAD")], "");
    assert_eq!((response.status, response.header("content-length")), (200, Some("0")));
    assert_eq!(gate.get("/any").status, 200);
    for method in ["TRACE", "PURGE"] {
        assert_eq!(gate.request(method, "/any", &[], "").status, 403, "{method}");
    }
}

#[test]
fn responses_without_a_body_are_complete() {
    let backend = Backend::start(|_, _| "HTTP/1.1 204 No Content\r\n\r\n".into());
    let mut gate = Gate::start();
    let empty = Integration::Mock(Mock { status: 204, headers: vec![], body: "".into() });
    let rules = vec![
        rule("mock", "GET", "/mock", policy(empty)),
        rule("text", "ANY", "/text", policy(mock("text"))),
        rule("back", "ANY", "/back", policy(service())),
    ];
    gate.put(vec![stage_part(stage()), upstream(&[backend.address]), route("r", rules)]);
    assert_eq!(gate.get("/mock").status, 204);
    assert_eq!(gate.get("/back").status, 204);
    assert_eq!(gate.request("HEAD", "/text", &[], "").status, 200);
    assert_eq!(gate.request("HEAD", "/none", &[], "").status, 404);
    eventually("logged", || gate.log.lines().len() == 4);
    for line in gate.log.lines() {
        assert!(line.get("aborted").is_none(), "{line}");
    }
}
