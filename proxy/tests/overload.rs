//! Limits of the whole proxy: connections, requests in flight, memory, and what is closed or rejected at them.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use sluice_wire::*;

use crate::harness::*;

/// A backend whose responses the test sends.
struct Waiting {
    address: SocketAddr,
    arrived: Receiver<TcpStream>,
}

impl Waiting {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrived): (Sender<TcpStream>, _) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, sender) = (stream.unwrap(), sender.clone());
                std::thread::spawn(move || {
                    read_head(&mut stream);
                    drop(sender.send(stream)); // the test may have ended
                });
            }
        });
        Self { address, arrived }
    }

    /// The next request.
    fn next(&self) -> TcpStream {
        self.arrived.recv_timeout(Duration::from_secs(20)).unwrap()
    }
}

/// Responds and closes: nothing would read another request from the connection.
fn respond(stream: &mut TcpStream) {
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").unwrap();
}

/// Requests wait for the test, however busy the machine is.
fn unhurried() -> RulePolicy {
    RulePolicy { timeout_ms: 120_000, ..policy(service()) }
}

fn gate(addresses: &[SocketAddr], change: impl FnOnce(&mut sluice_proxy::run::Settings)) -> Gate {
    let mut gate = Gate::configured(change);
    let rules = vec![rule("r", "ANY", "/a", unhurried()), rule("m", "GET", "/mock", policy(mock("mocked")))];
    gate.put(vec![stage_part(stage()), upstream(addresses), route("r", rules)]);
    gate
}

fn send(gate: &Gate, path: &str) -> TcpStream {
    send_from(gate, 1, path)
}

/// Sends a request from the address 127.0.0.`last`.
fn send_from(gate: &Gate, last: u8, path: &str) -> TcpStream {
    let mut stream = gate.connect_from(last);
    stream.write_all(sluice_kit::http1::request("shop.example", "GET", path, &[], "").as_bytes()).unwrap();
    stream
}

/// A connection that was used and is kept.
fn kept(gate: &Gate) -> TcpStream {
    let mut stream = send(gate, "/mock");
    assert_eq!(read_response(&mut stream).status, 200);
    stream
}

fn status_from(gate: &Gate, last: u8, path: &str) -> u16 {
    read_response(&mut send_from(gate, last, path)).status
}

/// Sends a request until it is not rejected: what has ended may be counted for another moment.
fn admitted(gate: &Gate, last: u8, path: &str, backend: &Waiting) -> (TcpStream, TcpStream) {
    loop {
        let client = send_from(gate, last, path);
        // Either the backend gets it, or there is a rejection.
        client.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        while client.peek(&mut [0]).is_err() {
            if let Ok(served) = backend.arrived.try_recv() {
                client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                return (client, served);
            }
        }
    }
}

/// The peer has closed the connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    match stream.read(&mut [0]) {
        Ok(size) => size == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn is_open(stream: &mut TcpStream) -> bool {
    stream.write_all(sluice_kit::http1::request("shop.example", "GET", "/mock", &[], "").as_bytes()).is_ok()
        && read_response(stream).status == 200
}

fn rejects(gate: &Gate, reason: &str) -> f64 {
    ["", "shop/prod"]
        .map(|stage| gate.metric(&format!(r#"sluice_rejects_total{{reason="{reason}",stage="{stage}"}}"#)))
        .iter()
        .sum()
}

#[test]
fn requests_beyond_the_limit_of_the_process_are_rejected_until_one_ends() {
    let backend = Waiting::start();
    let gate = gate(&[backend.address], |settings| {
        (settings.limits.requests, settings.limits.requests_per_upstream) = (Some(4), Some(4));
    });
    let sent = (0..3).map(|_| (send(&gate, "/a"), backend.next()));
    let (mut clients, mut served): (Vec<TcpStream>, Vec<TcpStream>) = sent.unzip();
    // The last quarter is for sources that do not have a quarter.
    clients.push(send_from(&gate, 2, "/a"));
    served.push(backend.next());
    assert_eq!(status_from(&gate, 3, "/mock"), 503);
    for path in ["/a", "/mock", "/nowhere"] {
        let response = gate.get(path);
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{path}");
        assert!(response.body.contains("too many requests in progress"), "{}", response.body);
    }
    assert_eq!(rejects(&gate, "RequestLimit"), 4.0);
    eventually("measured", || gate.metric("sluice_requests_in_flight ") == 4.0);
    assert_eq!(gate.metric("sluice_requests_in_flight_limit "), 4.0);
    // A client that disconnects and one that gets its response make room.
    drop(clients.pop());
    eventually("served", || status_from(&gate, 3, "/mock") == 200);
    let fourth = admitted(&gate, 4, "/a", &backend);
    assert_eq!(status_from(&gate, 3, "/mock"), 503);
    respond(&mut served[0]);
    assert_eq!(read_response(&mut clients[0]).status, 200);
    eventually("served", || status_from(&gate, 3, "/mock") == 200);
    drop(fourth);
    // Others were rejected: the first source may have half of the limit, which it has now.
    respond(&mut served[1]);
    assert_eq!(read_response(&mut clients[1]).status, 200);
    eventually("served", || gate.get("/mock").status == 200);
}

#[test]
fn requests_beyond_the_limit_of_an_upstream_are_rejected_and_other_upstreams_are_called() {
    let (backend, other) = (Waiting::start(), Backend::echo());
    let mut gate = Gate::configured(|settings| settings.limits.requests_per_upstream = Some(3));
    let external = policy(Integration::Http(HttpTarget {
        tls: false,
        host: other.address.ip().to_string(),
        port: other.address.port(),
        path: None,
    }));
    let rules = vec![rule("r", "ANY", "/a", unhurried()), rule("b", "ANY", "/b", external)];
    gate.put(vec![stage_part(stage()), upstream(&[backend.address]), route("r", rules)]);
    let sent = (0..3).map(|_| (send(&gate, "/a"), backend.next()));
    let (mut clients, mut served): (Vec<TcpStream>, Vec<TcpStream>) = sent.unzip();
    for method in ["GET", "POST", "DELETE"] {
        let response = gate.request(method, "/a", &[], "");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{method}");
        assert_eq!(gate.request(method, "/b", &[], "").status, 200, "{method}");
    }
    assert_eq!(rejects(&gate, "UpstreamLimit"), 3.0);
    // A response, a client that leaves, and a new list of endpoints.
    respond(&mut served[0]);
    assert_eq!(read_response(&mut clients[0]).status, 200);
    drop(clients.pop());
    let more = [admitted(&gate, 1, "/a", &backend), admitted(&gate, 1, "/a", &backend)];
    gate.put(vec![upstream(&[other.address])]);
    assert_eq!(gate.get("/a").status, 503);
    drop((clients, more));
    eventually("served", || gate.get("/a").status == 200);
}

#[test]
fn requests_that_are_rejected_or_fail_are_not_counted_for_ever() {
    let gate = gate(&["127.0.0.1:9".parse().unwrap()], |settings| settings.limits.requests = Some(2));
    for _ in 0..5 {
        assert_eq!(gate.get("/a").status, 502);
        assert_eq!(gate.get("/nowhere").status, 404);
        assert_eq!(gate.raw("GET /mock HTTP/1.1\r\nhost: shop.example\r\nhost: other\r\n\r\n").status, 400);
        assert_eq!(gate.get("/mock").status, 200);
    }
    eventually("none in flight", || gate.metric("sluice_requests_in_flight ") == 0.0);
}

#[test]
fn under_pressure_a_client_with_many_requests_gets_no_more_and_others_are_served() {
    let backend = Waiting::start();
    let gate = gate(&[backend.address], |settings| {
        (settings.limits.requests, settings.limits.requests_per_upstream) = (Some(80), Some(80));
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let request = |path: &str| http::Request::get(format!("http://shop.example{path}")).body(()).unwrap();
    let held = runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gate.proxy.http_addr().unwrap()).await.unwrap();
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        let mut held = Vec::new();
        for _ in 0..100 {
            sender = sender.ready().await.unwrap();
            held.push(sender.send_request(request("/a"), true).unwrap().0);
        }
        // About three quarters of the limit are served, the others are rejected.
        for response in held.drain(64..) {
            assert_eq!(response.await.unwrap().status(), 503);
        }
        (sender, held)
    });
    for _ in 0..5 {
        assert_eq!(status_from(&gate, 2, "/mock"), 200);
    }
    eventually("measured", || gate.metric("sluice_load_shedding ") == 1.0);
    drop(held);
    drop(runtime);
    eventually("relieved", || gate.metric("sluice_load_shedding ") == 0.0);
}

#[test]
fn at_the_limit_of_connections_the_longest_idle_one_is_closed_whatever_it_waits_for() {
    // What the connection does that is closed: it was used, it has sent nothing, a part of a head, an HTTP/2 preface.
    for idle in ["used", "", "GET /mock HTTP/1.1\r\nhost: sh", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let gate = gate(&["127.0.0.1:9".parse().unwrap()], |settings| {
            (settings.limits.connections, settings.limits.connections_per_source) = (Some(3), Some(3));
        });
        let mut first = if idle == "used" { kept(&gate) } else { gate.connect() };
        if idle != "used" {
            first.write_all(idle.as_bytes()).unwrap();
        }
        eventually("connected", || gate.metric("sluice_connections ") == 1.0);
        let mut second = kept(&gate);
        let mut third = kept(&gate);
        let mut fourth = kept(&gate);
        let mut rest = Vec::new();
        first.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // An HTTP/2 client gets frames before the end.
        assert!(first.read_to_end(&mut rest).is_ok_and(|size| idle.starts_with("PRI") || size == 0), "{idle:?}");
        assert!(is_open(&mut second) && is_open(&mut third) && is_open(&mut fourth), "{idle:?}");
        assert_eq!(gate.metric("sluice_connections_evicted_total "), 1.0);
        assert_eq!(gate.metric("sluice_connections_rejected_total "), 0.0);
        assert_eq!(gate.metric("sluice_connections_limit "), 3.0);
    }
}

#[test]
fn a_connection_with_a_request_is_not_closed_for_another() {
    let backend = Waiting::start();
    let gate = gate(&[backend.address], |settings| {
        (settings.limits.connections, settings.limits.connections_per_source) = (Some(2), Some(2));
    });
    let sent = (0..2).map(|_| (send(&gate, "/a"), backend.next()));
    let (mut clients, mut served): (Vec<TcpStream>, Vec<TcpStream>) = sent.unzip();
    assert!(is_closed(&mut gate.connect()));
    assert_eq!(gate.metric("sluice_connections_rejected_total "), 1.0);
    for (client, backend) in clients.iter_mut().zip(&mut served) {
        respond(backend);
        assert_eq!(read_response(client).status, 200);
    }
    assert_eq!(gate.get("/mock").status, 200);
}

#[test]
fn a_source_with_all_its_connections_cannot_keep_others_out() {
    let gate = gate(&["127.0.0.1:9".parse().unwrap()], |settings| settings.limits.connections = Some(20));
    // By default one source may have half.
    let mut greedy: Vec<TcpStream> = (0..30).map(|_| gate.connect()).collect();
    eventually("evicted", || gate.metric("sluice_connections_evicted_total ") == 20.0);
    eventually("closed", || gate.metric("sluice_connections ") == 10.0);
    assert!(is_closed(&mut greedy[0]));
    for last in [2, 3, 4] {
        let mut other = gate.connect_from(last);
        assert!(is_open(&mut other));
    }
}

#[test]
fn with_its_memory_in_use_the_proxy_rejects_requests_and_closes_idle_connections() {
    // This test program has more than 1 MiB.
    let gate = gate(&["127.0.0.1:9".parse().unwrap()], |settings| settings.limits.memory = Some(1 << 20));
    eventually("measured", || gate.metric("sluice_load_shedding ") == 2.0);
    for (method, path) in [("GET", "/mock"), ("POST", "/a"), ("OPTIONS", "/nowhere")] {
        let response = gate.request(method, path, &[], "");
        assert_eq!((response.status, response.header("retry-after")), (503, Some("1")), "{method} {path}");
        assert!(response.body.contains("overloaded"), "{}", response.body);
    }
    assert_eq!(rejects(&gate, "MemoryLimit"), 3.0);
    assert!(gate.metric("sluice_memory_bytes ") > gate.metric("sluice_memory_limit_bytes "));
    assert!(gate.log.lines().iter().all(|line| line["status"] != 200));
    assert!(is_closed(&mut gate.connect()));
    eventually("evicted", || gate.metric("sluice_connections_evicted_total ") >= 1.0);
}

#[test]
fn streams_beyond_the_limit_of_a_connection_wait() {
    let gate = gate(&["127.0.0.1:9".parse().unwrap()], |settings| settings.limits.streams = Some(3));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(gate.proxy.http_addr().unwrap()).await.unwrap();
        let (sender, mut connection) = h2::client::handshake(stream).await.unwrap();
        let mut ping = connection.ping_pong().unwrap();
        tokio::spawn(connection);
        // After the acknowledgement the settings have arrived.
        ping.ping(h2::Ping::opaque()).await.unwrap();
        assert_eq!(sender.current_max_send_streams(), 3);
    });
}

mod draining {
    use super::*;

    #[test]
    fn a_draining_proxy_ends_connections_with_their_next_response_and_serves_new_ones() {
        let backend = Waiting::start();
        let gate = gate(&[backend.address], |_| {});
        let (mut idle, mut slow) = (kept(&gate), send(&gate, "/a"));
        let mut waiting = backend.next();
        gate.proxy.drain();
        let close = |response: &Response| response.header("connection").map(str::to_owned);
        // The request that was in progress, one on a kept connection, one on a new connection, a rejection.
        respond(&mut waiting);
        let response = read_response(&mut slow);
        assert_eq!((response.status, close(&response).as_deref()), (200, Some("close")));
        assert!(is_closed(&mut slow));
        idle.write_all(sluice_kit::http1::request("shop.example", "GET", "/mock", &[], "").as_bytes()).unwrap();
        let response = read_response(&mut idle);
        assert_eq!((response.status, close(&response).as_deref()), (200, Some("close")));
        assert!(is_closed(&mut idle));
        for (path, status) in [("/mock", 200), ("/nowhere", 404)] {
            let response = gate.get(path);
            assert_eq!((response.status, close(&response).as_deref()), (status, Some("close")));
        }
        let response = gate.raw("GET /mock HTTP/1.0\r\nhost: shop.example\r\nconnection: keep-alive\r\n\r\n");
        assert_eq!((response.status, close(&response).as_deref()), (200, Some("close")));
    }

    #[test]
    fn idle_connections_of_a_draining_proxy_are_closed_when_it_stops_accepting() {
        let gate = gate(&["127.0.0.1:9".parse().unwrap()], |_| {});
        let (mut idle, mut used) = (kept(&gate), kept(&gate));
        gate.proxy.drain();
        assert!(is_open(&mut used));
        eventually("closed after its response", || gate.metric("sluice_connections ") == 1.0);
        gate.proxy.shutdown(Duration::from_secs(10));
        assert!(is_closed(&mut idle));
        assert_eq!(gate.metric("sluice_connections "), 0.0);
    }

    /// The client's own GOAWAY may meet a closed socket.
    fn has_ended(result: Result<(), h2::Error>) {
        let broken = |error: &h2::Error| error.get_io().map(std::io::Error::kind);
        let kinds = [std::io::ErrorKind::BrokenPipe, std::io::ErrorKind::ConnectionReset];
        assert!(result.as_ref().err().is_none_or(|error| broken(error).is_some_and(|kind| kinds.contains(&kind))));
    }

    #[test]
    fn http2_connections_get_goaway_when_draining_begins_and_finish_their_requests() {
        let backend = Waiting::start();
        let gate = gate(&[backend.address], |_| {});
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let request = |path: &str| http::Request::get(format!("http://shop.example{path}")).body(()).unwrap();
        runtime.block_on(async {
            let address = gate.proxy.http_addr().unwrap();
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
            let ended = tokio::spawn(connection);
            let (response, _) = sender.send_request(request("/a"), true).unwrap();
            let mut waiting = tokio::task::block_in_place(|| backend.next());
            gate.proxy.drain();
            // After GOAWAY the client opens no streams.
            while sender.clone().ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
            respond(&mut waiting);
            assert_eq!(response.await.unwrap().status(), 200);
            drop(sender);
            has_ended(ended.await.unwrap());
            // A new connection serves the request that it was opened for.
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
            let ended = tokio::spawn(connection);
            let (response, _) = sender.send_request(request("/mock"), true).unwrap();
            assert_eq!(response.await.unwrap().status(), 200);
            while sender.clone().ready().await.is_ok() {
                tokio::task::yield_now().await;
            }
            drop(sender);
            has_ended(ended.await.unwrap());
        });
    }
}

/// A backend that sends a head, and then some bytes again and again.
fn endless(head: &'static str, piece: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                read_head(&mut stream);
                let mut sent = stream.write_all(head.as_bytes());
                while sent.is_ok() {
                    sent = stream.write_all(piece.as_bytes());
                    std::thread::sleep(Duration::from_millis(20)); // the pace of the backend
                }
            });
        }
    });
    address
}

#[test]
fn a_websocket_and_a_response_end_when_they_are_too_old() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    const EVENTS: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let age = Duration::from_millis(500);
    for (head, piece, status) in [
        (SWITCH, "\u{1}\u{0}", 101),
        (SWITCH, "", 101),
        (EVENTS, "3\r\na\n\n\r\n", 200),
        (EVENTS, "", 200),
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n", "x", 200),
    ] {
        let mut gate = Gate::with_timeouts(|timeouts| timeouts.stream_age = age);
        let rules = vec![rule("r", "ANY", "/a", unhurried())];
        gate.put(vec![stage_part(stage()), upstream(&[endless(head, piece)]), route("r", rules)]);
        let mut client = gate.connect();
        let upgrade = [("connection", "upgrade"), ("upgrade", "websocket")];
        let headers = if status == 101 { &upgrade[..] } else { &[] };
        let began = std::time::Instant::now();
        client.write_all(sluice_kit::http1::request("shop.example", "GET", "/a", headers, "").as_bytes()).unwrap();
        assert_eq!(read_head(&mut client).status, status);
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut rest = Vec::new();
        // It is closed, whatever of the last bytes arrives.
        let closed = client.read_to_end(&mut rest);
        assert!(closed.map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true), "{piece:?}");
        assert!(began.elapsed() >= age * 9 / 10, "{piece:?}: {:?}", began.elapsed());
        assert!(!rest.ends_with(b"0\r\n\r\n"), "the end of a response that was not complete");
        eventually("logged", || gate.log.lines().len() == 1);
        if status == 200 {
            assert_eq!(gate.log.lines()[0]["aborted"], true, "{piece:?}");
        }
    }
}

#[test]
fn a_slow_upload_does_not_keep_the_memory_for_bodies_from_other_clients() {
    let backend = Backend::echo();
    let memory = 256 << 10;
    let mut gate = Gate::configured(|settings| settings.limits.buffer_memory = Some(memory));
    let rules = vec![rule("r", "ANY", "/a", unhurried())];
    let aws = stage_part(StagePart { behavior: Behavior::AwsHttp, ..stage() });
    gate.put(vec![aws, upstream(&[backend.address]), route("r", rules)]);
    let head = "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n";
    // Two clients of one address have all of it, and send no more.
    let mut slow: Vec<TcpStream> = Vec::new();
    for taken in [100_000.0, f64::from(memory as u32) - 40_000.0] {
        let mut client = gate.connect_from(9);
        client.write_all(format!("{head}1fff0\r\n{}", "x".repeat(0x1fff0)).as_bytes()).unwrap();
        slow.push(client);
        eventually("taken", || gate.metric("sluice_buffered_body_bytes ") >= taken);
    }
    let body = "y".repeat(100 << 10);
    let response = gate.raw(&format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(response.status, 200);
    let displaced = read_response(&mut slow[0]);
    assert_eq!((displaced.status, displaced.header("retry-after")), (503, Some("1")));
    // The other one continues.
    slow[1].write_all(b"\r\n0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut slow[1]).status, 200);
    assert_eq!(rejects(&gate, "BufferMemory"), 1.0);
    eventually("released", || gate.metric("sluice_buffered_body_bytes ") == 0.0);
}
