//! Trailers of responses, between all versions of HTTP.

use std::io::{Read as _, Write as _};
use std::sync::atomic::Ordering;

use http::Request;
use sluice_wire::*;

use crate::harness::*;

const RESPONSE: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, content-length\r\n\r\n\
                        5\r\nhello\r\n0\r\nx-sum: abc\r\ncontent-length: 3\r\n\r\n";
const BARE: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx-sum: abc\r\n\r\n";

fn gate(response: &'static str) -> (Gate, Backend) {
    let backend = Backend::start(move |_, _| response.to_owned());
    let mut gate = Gate::start();
    let (invalidation, unauthorized) = (Invalidation::None, Unauthorized::FailWith403);
    let cache = StageCache { ttl_ms: 60_000, max_bytes: 8 << 20, invalidation, unauthorized };
    let stage = StagePart { cache: Some(cache), ..stage() };
    let (keys, methods) = (Vec::new(), vec!["GET".to_owned()]);
    let cache = RuleCache { ttl_ms: None, keys, unkeyed: Vec::new(), methods, scope: CacheScope::Shared };
    let cached = RulePolicy { cache: Some(cache), ..policy(service()) };
    gate.put(vec![
        stage_part(stage),
        upstream(&[backend.address]),
        route("r", vec![rule("cached", "GET", "/cached", cached), rule("r", "ANY", "/{p+}", policy(service()))]),
    ]);
    (gate, backend)
}

/// The text that the client gets on a connection that is closed after the response.
fn raw(gate: &Gate, headers: &str) -> String {
    let mut client = gate.connect();
    let text = format!("GET /a HTTP/1.1\r\nhost: shop.example\r\n{headers}connection: close\r\n\r\n");
    client.write_all(text.as_bytes()).unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn a_response_with_trailers_is_complete() {
    for (response, body) in [(RESPONSE, "hello"), (BARE, "")] {
        let (gate, backend) = gate(response);
        for _ in 0..3 {
            let response = gate.get("/a");
            assert_eq!((response.status, response.body.as_str()), (200, body));
        }
        assert!(backend.connections.load(Ordering::SeqCst) <= 2, "connections are kept");
        let lines = eventually("lines", || Some(gate.log.lines()).filter(|lines| lines.len() == 3));
        for line in lines {
            assert!(line["aborted"].is_null() && line["upstreamError"].is_null(), "{line}");
        }
    }
}

#[test]
fn a_response_with_trailers_is_stored_without_them() {
    let (gate, backend) = gate(RESPONSE);
    let first = gate.get("/cached");
    assert!(first.header("cache-status").unwrap().contains("stored"), "{first:?}");
    eventually("a stored response", || gate.get("/cached").header("cache-status").unwrap().contains("hit"));
    let stored = gate.get("/cached");
    assert_eq!((stored.body.as_str(), stored.header("trailer")), ("hello", None));
    assert!(backend.requests() <= 2, "{}", backend.requests());
}

#[test]
fn trailers_reach_clients_that_accept_them() {
    let (gate, _backend) = gate(RESPONSE);
    // Fields of the framing are no trailers (RFC 9110, 6.5.1).
    let accepting = raw(&gate, "te: trailers\r\n");
    assert!(accepting.ends_with("0\r\nx-sum: abc\r\n\r\n"), "{accepting}");
    let other = raw(&gate, "");
    assert!(other.ends_with("5\r\nhello\r\n0\r\n\r\n"), "{other}");
    let client = Http2::connect(&gate);
    for path in ["/a", "/cached"] {
        let request = Request::get(format!("http://shop.example{path}")).body(Http2::empty()).unwrap();
        let (status, body, trailers) = client.ask(request);
        assert_eq!((status, body.as_str()), (200, "hello"));
        assert_eq!(trailers.get("x-sum").map(|value| value.as_bytes()), Some(&b"abc"[..]), "{path}");
        assert_eq!(trailers.len(), 1, "{trailers:?}");
    }
}
