//! Requests that hyper or h2 would reject, and connections that never have a request: each is recorded, and gets a response
//! where one can be sent.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use sluice_proxy::run::Strictness;
use sluice_wire::*;

use crate::harness::*;

const SHORT: Duration = Duration::from_millis(400);
const GET: &str = "GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n";

fn gate_of(behavior: Behavior, strictness: Strictness) -> (Gate, Backend) {
    let backend = Backend::echo();
    let mut gate = Gate::configured(|settings| settings.strictness = strictness);
    let rules = vec![rule("all", "ANY", "/{p+}", policy(service()))];
    gate.put(vec![stage_part(StagePart { behavior, ..stage() }), upstream(&[backend.address]), route("r", rules)]);
    (gate, backend)
}

fn gate() -> (Gate, Backend) {
    gate_of(Behavior::Native, Strictness::Strict)
}

/// Everything that the proxy sends until it closes the connection.
fn exchange(gate: &Gate, bytes: &[u8]) -> String {
    let mut stream = gate.connect();
    stream.write_all(bytes).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the proxy closes the connection, and not with a reset");
    String::from_utf8(all).unwrap()
}

fn rejects(gate: &Gate, stage: &str, reason: &str) -> f64 {
    gate.metric(&format!(r#"sluice_rejects_total{{reason="{reason}",stage="{stage}"}}"#))
}

/// Requests that hyper rejects before there is a request, and a part of the sentence that says why.
fn malformed() -> Vec<(Vec<u8>, &'static str)> {
    let with = |line: &str| format!("GET /a HTTP/1.1\r\nhost: shop.example\r\n{line}\r\n\r\n").into_bytes();
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: shop.example\r\n\r\n").into_bytes();
    vec![
        (target("/x?q=\"a\""), "percent-encoded"),
        (target("/x<y"), "percent-encoded"),
        (target("/x?a b"), "percent-encoded"),
        (target("/x\u{7f}"), "percent-encoded"),
        (with("X-Sp : 1"), "white space"),
        (with("X-Tab\t: 1"), "white space"),
        (with("x-folded: a\r\n b"), "one line"),
        (with("x-folded: a\r\n\tb"), "one line"),
        (with(": 1"), "character"),
        (with("x(y: 1"), "character"),
        (with("no colon"), "a colon"),
        (with("x-user: a\0b"), "control character"),
        (with("x-user: a\u{1}b"), "control character"),
        (with("x-user: a\rb"), "control character"),
        (b"G@T /a HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_vec(), "method"),
        (b"\x01\x02 /a HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_vec(), "method"),
        (b"GET /a HTTP/3.7\r\nhost: shop.example\r\n\r\n".to_vec(), "first line"),
        (b"GET  /a HTTP/1.1\r\nhost: shop.example\r\n\r\n".to_vec(), "first line"),
        (b"GET /a\r\nhost: shop.example\r\n\r\n".to_vec(), "first line"),
        (
            b"POST /a HTTP/1.0\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            "HTTP/1.1 only",
        ),
        (with("content-length: +1"), "number"),
        (with("content-length: 1, 1"), "number"),
        (with("transfer-encoding: gzip, chunked"), "must be chunked"),
        (with("content-length: 3\r\ntransfer-encoding: chunked"), "together"),
        (with("transfer-encoding: chunked\r\ncontent-length: 3"), "together"),
        (with("content-length: 3\r\ncontent-length: 3"), "one Content-Length"),
        (with("content-length: 3\r\nCONTENT-LENGTH: 03"), "one Content-Length"),
        (with("x-user: a\nx-role: admin"), "CR and LF"),
        (b"GET /a HTTP/1.1\nhost: shop.example\n\n".to_vec(), "CR and LF"),
        (b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\n".to_vec(), "CR and LF"),
    ]
}

#[test]
fn a_head_that_cannot_be_parsed_gets_a_response_an_id_a_log_line_and_a_metric() {
    let (gate, backend) = gate();
    let rows = malformed();
    for (at, (request, why)) in rows.iter().enumerate() {
        let text = String::from_utf8_lossy(request);
        let all = exchange(&gate, request);
        assert_eq!(all.matches("HTTP/1.1 400 ").count(), 1, "{text}: {all}");
        let response = read_response(&mut all.as_bytes());
        assert_eq!(response.status, 400, "{text}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"), "{text}");
        assert_eq!(response.header("connection"), Some("close"), "{text}");
        assert!(response.header("date").is_some(), "{text}");
        let detail = response.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert!(detail.contains(why), "{text}: {detail}");
        eventually("logged", || gate.log.lines().len() > at);
        let line = gate.log.lines().pop().unwrap();
        assert_eq!(line["requestId"].as_str(), response.header("x-request-id"), "{text}: {line}");
        assert_eq!(
            (&line["reason"], &line["status"], &line["sourceIp"]),
            (&"Malformed".into(), &400.into(), &"127.0.0.1".into())
        );
        assert_eq!((&line["host"], &line["stage"]), (&"shop.example".into(), &STAGE.into()), "{text}: {line}");
        assert_eq!(line["bytes"], response.body.len(), "{line}");
    }
    assert_eq!(rejects(&gate, STAGE, "Malformed"), rows.len() as f64);
    assert_eq!(gate.metric(r#"sluice_requests_total{code="4xx",route="",stage="shop/prod"}"#), rows.len() as f64);
    assert_eq!(backend.requests.load(Ordering::SeqCst), 0);
}

#[test]
fn the_stage_decides_the_form_of_the_response() {
    for (behavior, id, body) in [
        (Behavior::AwsRest, "x-amzn-requestid", r#"{"message":"Bad Request"}"#),
        (Behavior::AwsHttp, "apigw-requestid", r#"{"message":"Bad Request"}"#),
    ] {
        let (mut gate, _backend) = gate_of(behavior, Strictness::Strict);
        let cors = Cors {
            allow_origins: vec!["https://shop.example".into()],
            allow_methods: vec![],
            allow_headers: vec![],
            expose_headers: vec![],
            allow_credentials: false,
            max_age_s: None,
        };
        gate.put(vec![stage_part(StagePart { behavior, cors: Some(Box::new(cors)), ..stage() })]);
        let rows = ["x-sp : 1", "x: y\nz: y", "content-length: 1\r\ncontent-length: 1"];
        for line in rows {
            let text =
                format!("GET /a HTTP/1.1\r\norigin: https://shop.example\r\n{line}\r\nhost: SHOP.example:80\r\n\r\n");
            let response = gate.raw(&text);
            assert_eq!((response.status, response.body.as_str()), (400, body), "{text}");
            assert!(response.header(id).is_some(), "{text}");
            assert_eq!(response.header("access-control-allow-origin"), Some("https://shop.example"), "{text}");
        }
        eventually("logged", || gate.log.lines().len() == rows.len());
        assert!(gate.log.lines().iter().all(|line| line["responseType"] == "DEFAULT_4XX"));
    }
}

#[test]
fn heads_that_are_too_large_are_rejected_with_their_status() {
    let (gate, _backend) = gate();
    let long = "a".repeat(40_000);
    let fields: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    for (request, status, reason) in [
        (format!("GET /{long} HTTP/1.1\r\nhost: shop.example\r\n\r\n"), 414, "UriTooLong"),
        (format!("GET /a HTTP/1.1\r\nhost: shop.example\r\nx: {long}\r\n\r\n"), 431, "HeadersTooLarge"),
        (format!("GET /a HTTP/1.1\r\nhost: shop.example\r\n{fields}\r\n"), 431, "HeadersTooLarge"),
    ] {
        let response = gate.raw(&request);
        assert_eq!(response.status, status, "{reason}");
        assert!(response.header("x-request-id").is_some() && !response.body.is_empty(), "{response:?}");
        eventually("logged", || {
            gate.log.lines().iter().any(|line| line["reason"] == reason && line["status"] == status)
        });
        assert!(rejects(&gate, STAGE, reason) >= 1.0);
    }
}

#[test]
fn requests_before_an_invalid_head_are_served() {
    let (gate, backend) = gate();
    let bodies = "POST /b HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 6\r\n\r\na\nb\nc\n\
                  POST /c HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n3\r\na\nb\r\n0\r\n\r\n";
    for bad in ["GET /x?\" HTTP/1.1\r\nhost: shop.example\r\n\r\n", "GET /x HTTP/1.1\nhost: shop.example\n\n"] {
        let before = backend.requests.load(Ordering::SeqCst);
        let all = exchange(&gate, format!("{GET}{bodies}\r\n{bad}{GET}").as_bytes());
        let mut rest = all.as_bytes();
        let statuses: Vec<u16> = (0..4).map(|_| read_response(&mut rest).status).collect();
        assert_eq!((statuses, rest.len()), (vec![200, 200, 200, 400], 0), "{all}");
        assert_eq!(backend.requests.load(Ordering::SeqCst), before + 3);
        eventually("logged", || {
            gate.log.lines().last().is_some_and(|line| line["path"] == "/x" && line["status"] == 400)
        });
    }
    // The same byte by byte.
    let mut stream = gate.connect();
    for byte in format!("{GET}GET /x HTTP/1.1\r\nhost: shop.example\r\nx: y\n\r\n").bytes() {
        stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(read_response(&mut stream).status, 200);
    assert_eq!(read_response(&mut stream).status, 400);
}

#[test]
fn chunks_outside_the_grammar_are_rejected_and_the_connection_is_closed() {
    let (gate, backend) = gate();
    for chunks in [
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\t\r\nabc\r\n0\r\n\r\n",
        "3;\r\nabc\r\n0\r\n\r\n",
        "3 ;x=y\r\nabc\r\n0\r\n\r\n",
        "3;x=\"\r\nabc\r\n0\r\n\r\n",
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0 \r\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
    ] {
        let text = format!("POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n{chunks}{GET}");
        let all = exchange(&gate, text.as_bytes());
        assert!(all.starts_with("HTTP/1.1 400 "), "{chunks:?}: {all}");
        assert_eq!(all.matches("HTTP/1.1 ").count(), 1, "{chunks:?}: {all}");
    }
    eventually("logged", || gate.log.lines().len() == 12);
    assert!(gate.log.lines().iter().all(|line| line["reason"] == "Malformed"), "{:?}", gate.log.lines());
    let good = "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n3;x=\"y z\"\r\nabc\r\n0\r\nx: y\r\n\r\n";
    assert_eq!(gate.raw(good).status, 200);
    assert!(backend.requests.load(Ordering::SeqCst) >= 1);
}

#[test]
fn lenient_parsing_repairs_requests_of_old_clients() {
    let (gate, _backend) = gate_of(Behavior::Native, Strictness::Lenient);
    for request in [
        "GET /a HTTP/1.1\nhost: shop.example\n\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n3 \r\nabc\r\n0;\r\n\r\n",
    ] {
        let response = gate.raw(request);
        assert_eq!(response.status, 200, "{request}");
        assert!(!response.body.to_ascii_lowercase().contains("content-length: 9"), "{}", response.body);
    }
    for request in [
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabc",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-sp : 1\r\n\r\n",
    ] {
        assert_eq!(gate.raw(request).status, 400, "{request}");
    }
}

#[test]
fn a_response_body_that_looks_like_a_rejection_is_sent() {
    let own = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: Thu, 26 Nov 2026 06:02:37 GMT\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let backend = std::thread::spawn(move || {
        for stream in listener.incoming().take(2) {
            let mut stream = stream.unwrap();
            read_head(&mut stream);
            let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", own.len() + 5);
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(b"first").unwrap();
            stream.flush().unwrap();
            // The pause makes it another packet, so that the proxy writes it separately: that is what is tested.
            std::thread::sleep(Duration::from_millis(50));
            stream.write_all(own.as_bytes()).unwrap();
        }
    });
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage()),
        upstream(&[address]),
        route("r", vec![rule("a", "GET", "/a", policy(service()))]),
    ]);
    let mut stream = gate.connect();
    for _ in 0..2 {
        stream.write_all(GET.as_bytes()).unwrap();
        assert_eq!(read_response(&mut stream).body, format!("first{own}"));
    }
    backend.join().unwrap();
}

#[test]
fn a_head_that_does_not_end_is_rejected_with_the_reason() {
    let gate = Gate::with_timeouts(|timeouts| timeouts.head = SHORT);
    let mut stream = gate.connect();
    stream.write_all(b"GET /slow HTTP/1.1\r\nhost: shop.example\r\nx-slow: ").unwrap();
    let response = read_response(&mut stream);
    assert_eq!((response.status, response.header("connection")), (408, Some("close")));
    eventually("logged", || {
        gate.log.lines().iter().any(|line| line["reason"] == "HeadTimeout" && line["path"] == "/slow")
    });
    assert_eq!(rejects(&gate, "", "HeadTimeout"), 1.0);
    // The client ends within its head.
    for (part, status) in [("GET /cut HTTP/1.1\r\nhost: a", 400), ("GET", 400), ("\r\n", 0)] {
        let mut stream = gate.connect();
        stream.write_all(part.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_response(&mut stream).status, status, "{part:?}");
    }
    eventually("logged", || rejects(&gate, "", "Malformed") == 2.0);
}

#[test]
fn a_client_that_closes_its_side_gets_its_response() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let head = read_head(&mut stream);
            sender.send(head).unwrap();
            std::thread::sleep(SHORT); // the client has closed its side before the response begins
            // Nothing is sent to a client that is gone.
            let sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok");
            drop(sent);
        }
    });
    let parts = || {
        let served = rule("a", "ANY", "/{p+}", policy(service()));
        vec![stage_part(stage()), upstream(&[address]), route("r", vec![served])]
    };
    let mut gate = Gate::start();
    gate.put(parts());
    for request in [
        GET,
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\n\r\nabc",
        "GET /a HTTP/1.0\r\nhost: shop.example\r\n\r\n",
    ] {
        let mut stream = gate.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        let response = read_response(&mut stream);
        assert_eq!((response.status, response.body.as_str()), (200, "ok"), "{request}");
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    }
    // A request that is not complete is not served, and one whose client may be gone is not served for long.
    let mut stream = gate.connect();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 3\r\n\r\nab").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap_or_default();
    assert!(!String::from_utf8_lossy(&rest).contains(" 200 "), "{}", String::from_utf8_lossy(&rest));
    let mut short = Gate::with_timeouts(|timeouts| timeouts.half_closed = SHORT / 8);
    short.put(parts());
    let mut stream = short.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(read_response(&mut stream).status, 0);
}

#[test]
fn a_wrong_preface_of_http2_gets_no_response() {
    let (gate, _backend) = gate();
    let rows = [
        "INVALID CONNECTION PREFACE\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n\r\n\r\n\r\n",
        "PRI * HTTP/2.1\r\n\r\n",
        "GET / FTP/1.0\r\n\r\n",
    ];
    for preface in rows {
        assert_eq!(exchange(&gate, preface.as_bytes()), "", "{preface:?}");
    }
    eventually("logged", || gate.log.lines().len() == rows.len());
    for line in gate.log.lines() {
        assert_eq!((&line["reason"], &line["status"], &line["method"]), (&"Malformed".into(), &0.into(), &"-".into()));
    }
    assert_eq!(rejects(&gate, "", "Malformed"), rows.len() as f64);
}

#[test]
fn the_wrong_protocol_for_a_port_is_reported() {
    let (gate, _backend) = gate();
    // HTTP on the port for HTTPS.
    for request in [GET, "POST /a HTTP/1.0\r\nhost: shop.example\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = sluice_kit::http1::connect(gate.proxy.https_addr().unwrap()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let response = read_response(&mut stream);
        assert_eq!(response.status, 400, "{request}");
        assert!(response.json()["detail"].as_str().unwrap().contains("HTTPS"), "{response:?}");
        assert!(response.header("x-request-id").is_some());
    }
    eventually("logged", || gate.log.lines().iter().filter(|line| line["reason"] == "HttpOnTlsPort").count() == 3);
    assert!(gate.log.lines().iter().all(|line| line["scheme"] == "http" && line["sourceIp"] == "127.0.0.1"));
    // A client hello on the port for HTTP, and one that is no client hello on the port for HTTPS.
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
    let all = exchange(&gate, hello);
    assert!(all.starts_with("HTTP/1.1 400 ") && all.contains("TLS"), "{all}");
    eventually("logged", || gate.log.lines().iter().any(|line| line["reason"] == "TlsOnHttpPort"));
    for bytes in [&hello[..], b"\x80\x2e\x01\x00\x02", b"\x00\x00\x00\x00"] {
        let mut stream = sluice_kit::http1::connect(gate.proxy.https_addr().unwrap()).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut alert = Vec::new();
        stream.read_to_end(&mut alert).unwrap_or_default();
    }
    eventually("logged", || gate.log.lines().iter().filter(|line| line["reason"] == "TlsHandshake").count() == 3);
    assert_eq!(rejects(&gate, "", "TlsHandshake"), 3.0);
    // A connection without a byte is a check whether the port is open.
    drop(sluice_kit::http1::connect(gate.proxy.https_addr().unwrap()).unwrap());
    eventually("closed", || gate.metric("sluice_connections ") == 0.0);
    assert_eq!(gate.log.lines().len(), 7);
}

#[test]
fn a_slow_clients_connection_is_reset() {
    let backend = Backend::start(|_, _| ok(&"x".repeat(50_000_000)));
    let mut gate = Gate::with_timeouts(|timeouts| timeouts.write = SHORT);
    gate.put(vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        route("r", vec![rule("a", "GET", "/a", policy(service()))]),
    ]);
    let mut stream = gate.connect();
    stream.write_all(GET.as_bytes()).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    eventually("disconnected", || gate.metric("sluice_connections ") == 0.0);
    // The end is a reset: the kernel of the proxy keeps none of the response.
    let error = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// A client that has sent its preface and SETTINGS.
fn http2(gate: &Gate) -> TcpStream {
    let mut stream = gate.connect();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").unwrap();
    stream
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![size[1], size[2], size[3], kind, flags, 0, 0, 0, stream];
    bytes.extend_from_slice(payload);
    bytes
}

/// HEADERS of a GET request that ends the stream; nothing is compressed (RFC 7541, 6.2.2).
fn headers(stream: u8, path: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    // Method GET and scheme http by their numbers in the static table.
    let mut block = vec![0x82, 0x86];
    let named = [(1, "", "shop.example"), (4, "", path)];
    for (index, name, value) in named.into_iter().chain(fields.iter().map(|(name, value)| (0, *name, *value))) {
        block.push(index);
        for text in [name, value].iter().skip(usize::from(index != 0)) {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    frame(1, 5, stream, &block)
}

/// Reads frames until one of these kinds and streams, and returns its kind.
fn frames(stream: &mut TcpStream, until: impl Fn(u8, u32) -> bool) -> u8 {
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).expect("a frame");
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        stream.read_exact(&mut vec![0; length]).unwrap();
        if until(head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])) {
            return head[3];
        }
    }
}

#[test]
fn http2_streams_that_are_reset_before_they_are_requests_are_recorded() {
    let (gate, backend) = gate();
    // Each counts 32 bytes more.
    let many = vec![("x", ""); 1000];
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);
    let rows: [Row<'_>; 8] = [
        ("/x?q=\"a\"", &[], "Malformed"),
        ("/x<y", &[], "Malformed"),
        ("/a", &[("X-Upper", "1")], "Malformed"),
        ("/a", &[("connection", "close")], "Malformed"),
        ("/a", &[("x-user", "a\0b")], "Malformed"),
        ("/a", &[(":path", "/b")], "Malformed"),
        ("/a", &[("content-length", "1")], "Malformed"),
        ("/a", &many, "HeadersTooLarge"),
    ];
    let mut served = 0;
    for (at, (path, fields, reason)) in rows.into_iter().enumerate() {
        let mut stream = http2(&gate);
        // Between two requests of the same connection.
        let mut bytes = headers(1, "/first", &[]);
        bytes.extend(headers(3, path, fields));
        bytes.extend(headers(5, "/last", &[]));
        stream.write_all(&bytes).unwrap();
        // RST_STREAM, HEADERS with 431, or GOAWAY where the compression cannot go on: then no other request is served.
        let kind = frames(&mut stream, |kind, stream| stream == 3 || kind == 7);
        eventually("logged", || gate.log.lines().iter().filter(|line| line["status"] == 0).count() == at + 1);
        if kind != 7 {
            served += 2;
            eventually("served", || gate.log.lines().iter().filter(|line| line["status"] == 200).count() == served);
        }
        let lines = gate.log.lines();
        let line = lines.iter().rfind(|line| line["status"] == 0).unwrap();
        assert_eq!((&line["reason"], &line["protocol"]), (&reason.into(), &"HTTP/2".into()), "{path} {fields:?}");
        assert!(line["requestId"].is_string() && line["sourceIp"] == "127.0.0.1", "{line}");
    }
    assert_eq!((rejects(&gate, "", "Malformed"), rejects(&gate, "", "HeadersTooLarge")), (7.0, 1.0));
    assert!(served >= 10, "{served}");
    assert_eq!(backend.requests.load(Ordering::SeqCst), served);
}

#[test]
fn http2_connections_with_invalid_frames_are_recorded_and_resets_of_requests_are_not() {
    let (gate, _backend) = gate();
    for bytes in [
        // DATA on stream 0, a frame that is too long, HEADERS that depend on themselves on an even stream.
        frame(0, 0, 0, b"x"),
        vec![0x7f, 0xff, 0xff, 0, 0, 0, 0, 0, 1],
        frame(1, 5, 2, &[0x82]),
    ] {
        let before = gate.log.lines().len();
        let mut stream = http2(&gate);
        stream.write_all(&bytes).unwrap();
        assert_eq!(frames(&mut stream, |kind, _| kind == 7), 7);
        eventually("logged", || gate.log.lines().len() == before + 1);
        let line = gate.log.lines().pop().unwrap();
        assert_eq!((&line["reason"], &line["status"]), (&"Malformed".into(), &0.into()));
    }
    // The client resets a request, and another one gets a response.
    let mut stream = http2(&gate);
    let mut bytes = headers(1, "/a", &[]);
    bytes.extend(frame(3, 0, 1, &[0, 0, 0, 8]));
    bytes.extend(headers(3, "/b", &[]));
    stream.write_all(&bytes).unwrap();
    assert_eq!(frames(&mut stream, |kind, stream| (kind, stream) == (1, 3)), 1);
    drop(stream);
    eventually("closed", || gate.metric("sluice_connections ") == 0.0);
    assert_eq!(rejects(&gate, "", "Malformed"), 3.0);
}
