//! Upstreams that fail: the response, and the cause in the access log.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::time::Duration;

use serde_json::Value;
use sluice_kit::tls::{Issued, issue};
use sluice_wire::*;

use crate::harness::*;

/// A server that sends the same text to each client, once a request has arrived, and closes the connection.
fn sends(text: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            read_head(&mut stream);
            stream.write_all(text.as_bytes()).unwrap_or_default();
            stream.shutdown(Shutdown::Write).unwrap_or_default();
            // Data that was not read would reset the connection.
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or_default();
        }
    });
    address
}

/// A server without TLS that does not wait for what its client sends.
fn plain() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_or_default();
            std::io::copy(&mut stream, &mut std::io::sink()).unwrap_or_default();
        }
    });
    address
}

/// The status of a request, and the line of the access log.
fn ask(gate: &Gate) -> (u16, Value) {
    let before = gate.log.lines().len();
    let status = gate.get("/a").status;
    (status, eventually("a line", || gate.log.lines().get(before).cloned()))
}

fn serve(gate: &mut Gate, body: UpstreamPart) {
    let served = RulePolicy { timeout_ms: 300, ..policy(service()) };
    gate.put(vec![
        stage_part(stage()),
        (upstream_name(), PartBody::Upstream(body)),
        route("r", vec![rule("r", "GET", "/a", served)]),
    ]);
}

fn part(address: SocketAddr) -> UpstreamPart {
    let (_, PartBody::Upstream(part)) = upstream(&[address]) else { unreachable!() };
    part
}

#[test]
fn a_response_that_cannot_be_forwarded_is_a_502_with_its_cause() {
    let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let chunked = |rest: &str| -> SocketAddr {
        sends(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{rest}").leak())
    };
    let mut gate = Gate::start();
    for (what, address, status, cause) in [
        ("a closed port", refused, 502, "ConnectRefused"),
        ("no response", silent.local_addr().unwrap(), 504, "Timeout"),
        ("an end before the response", sends(""), 502, "ConnectionLost"),
        ("half a head", sends("HTTP/1.1 200 OK\r\ncontent-le"), 502, "ConnectionLost"),
        ("no HTTP", sends("hello\r\n\r\n"), 502, "MalformedResponse"),
        ("HTTP/2", sends("\0\0\0\x04\0\0\0\0\0"), 502, "MalformedResponse"),
        ("a bad status", sends("HTTP/1.1 2000 OK\r\n\r\n"), 502, "MalformedResponse"),
        (
            "two lengths",
            sends("HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na"),
            502,
            "MalformedResponse",
        ),
        ("a bad size", chunked("zz\r\nhello\r\n0\r\n\r\n"), 502, "MalformedResponse"),
        ("no size", chunked("\r\nhello\r\n0\r\n\r\n"), 502, "MalformedResponse"),
        ("a size beyond 64 bits", chunked("fffffffffffffffff\r\nhello"), 502, "MalformedResponse"),
        ("a size without its line end", chunked("5hello\r\n0\r\n\r\n"), 502, "MalformedResponse"),
    ] {
        serve(&mut gate, part(address));
        let (seen, line) = ask(&gate);
        assert_eq!((seen, &line["upstreamError"]), (status, &cause.into()), "{what}: {line}");
    }
    serve(&mut gate, UpstreamPart { endpoints: Endpoints::Addresses(Vec::new()), ..part(refused) });
    let (status, line) = ask(&gate);
    assert_eq!((status, &line["upstreamError"]), (503, &"NoEndpoints".into()));
}

#[test]
fn a_response_that_breaks_later_is_aborted_with_its_cause() {
    // The first chunk is sent to the client before the second is known to be malformed.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let backend = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n").unwrap();
        wait.recv().unwrap();
        stream.write_all(b"zz\r\n").unwrap();
        drop(stream.read(&mut [0]));
    });
    let mut gate = Gate::start();
    serve(&mut gate, part(address));
    let mut client = gate.connect();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut client).status, 200);
    go.send(()).unwrap();
    drop(client.read_to_end(&mut Vec::new()));
    let line = eventually("a line", || gate.log.lines().first().cloned());
    let seen = (&line["status"], &line["upstreamError"], &line["aborted"]);
    assert_eq!(seen, (&200.into(), &"MalformedResponse".into(), &true.into()), "{line}");
    backend.join().unwrap();
}

/// A certificate for a name that is no longer valid.
fn expired(name: &str) -> Issued {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2000, 1, 1);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let cert = params.self_signed(&key).unwrap();
    Issued { chain_pem: cert.pem(), key_pem: key.serialize_pem(), der: cert.der().clone() }
}

#[test]
fn a_certificate_that_cannot_be_verified_is_a_502_with_its_cause() {
    let name = "orders.shop.svc";
    let (trusted, other, old) = (issue(name), issue(name), expired(name));
    let mut gate = Gate::with(true, vec![trusted.der.clone(), old.der.clone()]);
    let backend = |issued| Backend::start_tls(issued, |_, _| ok("hello"));
    let (good, untrusted, late) = (backend(&trusted), backend(&other), backend(&old));
    for (address, server_name, h2c, status, cause) in [
        (good.address, name, false, 200, Value::Null),
        (untrusted.address, name, false, 502, "TlsUntrusted".into()),
        (good.address, "stock.shop.svc", false, 502, "TlsNameMismatch".into()),
        (late.address, name, false, 502, "TlsExpired".into()),
        (plain(), name, false, 502, "TlsFailed".into()),
        // It supports HTTP/1.1 only, and rejects the handshake of a client that does not.
        (good.address, name, true, 502, "TlsFailed".into()),
    ] {
        let tls = Some(UpstreamTls { server_name: server_name.into(), roots: None });
        serve(&mut gate, UpstreamPart { tls, h2c, ..part(address) });
        let (seen, line) = ask(&gate);
        assert_eq!((seen, &line["upstreamError"]), (status, &cause), "{line}");
    }
}

#[test]
fn a_client_that_leaves_before_the_response_is_logged_with_status_499() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    // A client that only has nothing more to send gets its response within this time.
    let mut gate = Gate::with_timeouts(|timeouts| timeouts.half_closed = Duration::from_millis(50));
    let served = policy(service());
    gate.put(vec![
        stage_part(stage()),
        upstream(&[silent.local_addr().unwrap()]),
        route("r", vec![rule("r", "GET", "/a", served)]),
    ]);
    let mut client = gate.connect();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    let (mut stream, _) = silent.accept().unwrap();
    read_head(&mut stream);
    drop(client);
    let line = eventually("a line", || gate.log.lines().first().cloned());
    assert_eq!((&line["status"], &line["aborted"]), (&499.into(), &true.into()), "{line}");
    eventually("it is counted", || {
        gate.metric(r#"sluice_requests_total{code="4xx",route="r",stage="shop/prod"}"#) == 1.0
    });
}
