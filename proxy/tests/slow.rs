//! Timeouts for slow clients and backends. Each test shortens the timeout that it tests; the others have their defaults, so
//! that a busy machine does not disturb it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use sluice_kit::tls::{client_config, issue};
use sluice_proxy::Timeouts;
use sluice_wire::*;

use crate::harness::*;

const SHORT: Duration = Duration::from_millis(400);
/// A pause that is longer than [`SHORT`].
const LONGER: Duration = Duration::from_millis(900);
/// How long a test waits for an end that is to come after [`SHORT`]: less than the production timeouts for a head.
const READ_TIMEOUT: Duration = Duration::from_secs(8);

fn gate(timeout_ms: u64, address: std::net::SocketAddr) -> Gate {
    gate_with(timeout_ms, address, |_| {})
}

fn gate_with(timeout_ms: u64, address: std::net::SocketAddr, change: impl FnOnce(&mut Timeouts)) -> Gate {
    let mut gate = Gate::with_timeouts(change);
    let served = RulePolicy { timeout_ms, ..policy(service()) };
    let rules = vec![rule("r", "ANY", "/a", served), rule("m", "GET", "/mock", policy(mock("mocked")))];
    gate.put(vec![stage_part(stage()), upstream(&[address]), route("r", rules)]);
    gate
}

/// Waits until the proxy closes the connection without a response, and returns how long that took.
fn closed_after(stream: &mut TcpStream) -> Duration {
    let started = Instant::now();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    started.elapsed()
}

#[test]
fn a_connection_that_sends_nothing_is_closed() {
    let gate = gate_with(5_000, "127.0.0.1:9".parse().unwrap(), |timeouts| timeouts.first_byte = SHORT);
    assert!(closed_after(&mut gate.connect()) >= SHORT / 2);
}

/// The other timeouts that could end such a connection are those of production, which are longer than a test waits.
#[test]
fn a_connection_that_sends_nothing_after_its_tls_handshake_is_closed_whatever_its_protocol() {
    let issued = issue("shop.example");
    let mut gate = gate_with(5_000, "127.0.0.1:9".parse().unwrap(), |timeouts| timeouts.first_byte = SHORT);
    let (object, name) = (ObjectRef::new("Secret", "shop", "tls"), PartName::new(PartKind::Certificate, "shop/tls"));
    let part = CertificatePart {
        object,
        chain_pem: issued.chain_pem.clone(),
        key_pem: issued.key_pem.clone(),
        not_after: None,
    };
    let stage = StagePart { certificates: vec![name.clone()], ..stage() };
    gate.put(vec![stage_part(stage), (name, PartBody::Certificate(part))]);
    for protocols in [&[][..], &["http/1.1"], &["h2"]] {
        let config = Arc::new(client_config(&[&issued], protocols));
        let mut tls = ClientConnection::new(config, "shop.example".try_into().unwrap()).unwrap();
        let mut stream = TcpStream::connect(gate.proxy.https_addr().unwrap()).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut stream).unwrap();
        }
        assert_eq!(tls.alpn_protocol(), protocols.first().map(|protocol| protocol.as_bytes()));
        let started = Instant::now();
        stream.set_read_timeout(Some(READ_TIMEOUT)).unwrap();
        // The server's session tickets are read as well, and no data is.
        while tls.read_tls(&mut stream).expect("the proxy closes the connection") > 0 {
            let state = tls.process_new_packets().unwrap();
            assert_eq!(state.plaintext_bytes_to_read(), 0, "{protocols:?}");
        }
        assert!(started.elapsed() >= SHORT / 2, "{protocols:?}");
    }
}

#[test]
fn a_tls_handshake_that_does_not_end_is_closed() {
    let gate = gate_with(5_000, "127.0.0.1:9".parse().unwrap(), |timeouts| timeouts.tls_handshake = SHORT);
    let mut stream = TcpStream::connect(gate.proxy.https_addr().unwrap()).unwrap();
    assert!(closed_after(&mut stream) >= SHORT / 2);
}

#[test]
fn an_idle_connection_is_closed_after_its_timeout() {
    let backend = Backend::echo();
    let gate = gate_with(5_000, backend.address, |timeouts| timeouts.idle = SHORT);
    let mut stream = gate.connect();
    stream.write_all(b"GET /mock HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream).body, "mocked");
    assert!(closed_after(&mut stream) >= SHORT / 2);
}

#[test]
fn the_idle_timeout_is_longer_than_the_timeout_of_a_head() {
    let backend = Backend::echo();
    let gate = gate_with(5_000, backend.address, |timeouts| timeouts.head = SHORT);
    let mut stream = gate.connect();
    for pause in [Duration::ZERO, LONGER] {
        std::thread::sleep(pause);
        stream.write_all(b"GET /mock HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
        assert_eq!(read_response(&mut stream).body, "mocked", "after {pause:?}");
    }
    // A byte now and then does not prolong the timeout of a head that has begun.
    let mut trickling = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for byte in b"GET /mock HTTP/1.1\r\nx-slow: 1".iter().cycle() {
            if trickling.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let started = Instant::now();
    assert_eq!(read_response(&mut stream).status, 408);
    assert!(started.elapsed() >= SHORT / 2, "{:?}", started.elapsed());
}

#[test]
fn the_timeout_of_a_rule_does_not_count_the_upload() {
    let backend = Backend::echo();
    let gate = gate(400, backend.address);
    let mut stream = gate.connect();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 4\r\n\r\n").unwrap();
    // Pieces that come within the time, and a pause of the client that is longer.
    for pause in [200, 200, 200, 900] {
        std::thread::sleep(Duration::from_millis(pause));
        stream.write_all(b"x").unwrap();
    }
    let response = read_response(&mut stream);
    assert_eq!(response.status, 200);
    assert!(response.body.ends_with("xxxx"), "{}", response.body);
}

#[test]
fn a_backend_that_is_silent_after_an_upload_or_takes_none_is_a_504() {
    // Accepts connections and reads nothing.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = gate(400, listener.local_addr().unwrap());
    let small = gate.request("POST", "/a", &[], "hello");
    assert_eq!(small.status, 504);
    let mut stream = gate.connect();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 100000000\r\n\r\n").unwrap();
    let mut sending = stream.try_clone().unwrap();
    std::thread::spawn(move || while sending.write_all(&[b'x'; 65_536]).is_ok() {});
    assert_eq!(read_head(&mut stream).status, 504);
}

#[test]
fn an_upload_continues_after_its_response() {
    const LENGTH: usize = 10;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = gate_with(5_000, listener.local_addr().unwrap(), |timeouts| timeouts.head = SHORT);
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        let mut body = [0; LENGTH];
        sender.send(stream.read_exact(&mut body).map(|()| body)).unwrap();
    });
    let mut stream = gate.connect();
    let head = format!("POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_response(&mut stream).body, "ok");
    // Longer than a head may take.
    for _ in 0..LENGTH {
        std::thread::sleep(Duration::from_millis(100));
        stream.write_all(b"x").unwrap();
    }
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), [b'x'; LENGTH]);
}

#[test]
fn a_body_below_the_minimum_rate_is_aborted() {
    let backend = Backend::echo();
    let gate = gate_with(5_000, backend.address, |timeouts| timeouts.upload = LONGER);
    let mut stream = gate.connect();
    stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 100000\r\n\r\n").unwrap();
    let started = Instant::now();
    let mut seen = [0; 12];
    let mut arrived = false;
    while !arrived && started.elapsed() < Duration::from_secs(30) {
        stream.write_all(b"x").unwrap();
        arrived = stream.read_exact(&mut seen).is_ok();
    }
    assert_eq!(String::from_utf8_lossy(&seen), "HTTP/1.1 408", "{:?}", started.elapsed());
    assert!(started.elapsed() > LONGER / 2, "{:?}", started.elapsed());
}

/// A backend that sends the first half of its response, pauses for [`LONGER`], and sends the rest.
fn pausing() -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        std::thread::sleep(LONGER);
        stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").unwrap_or_default();
    });
    address
}

#[test]
fn an_idle_stream_outlives_the_write_timeouts() {
    let gate = gate_with(5_000, pausing(), |timeouts| (timeouts.write, timeouts.upload) = (SHORT, SHORT));
    let mut stream = gate.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut stream).body, "firstlast");
}

#[test]
fn a_stream_that_exceeds_its_idle_timeout_is_aborted() {
    let gate = gate_with(5_000, pausing(), |timeouts| timeouts.stream_idle = SHORT);
    let mut stream = gate.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap_or_default();
    assert!(text.contains("first") && !text.contains("last"), "{text}");
    eventually("logged", || gate.log.lines().iter().any(|line| line["aborted"] == true));
}

#[test]
fn a_client_that_reads_nothing_is_disconnected() {
    let backend = Backend::start(|_, _| ok(&"x".repeat(50_000_000)));
    let gate = gate_with(5_000, backend.address, |timeouts| timeouts.write = SHORT);
    let mut stream = gate.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    eventually("disconnected", || gate.metric("sluice_connections ") == 0.0);
    eventually("logged", || gate.log.lines().iter().any(|line| line["aborted"] == true));
    drop(stream);
}

/// A client that reads `bytes` ten times a second, for at most `time`; false: it was disconnected.
fn reads(gate: &Gate, bytes: usize, time: Duration) -> bool {
    let address = gate.proxy.http_addr().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    let until = Instant::now() + time;
    let mut buffer = vec![0; bytes];
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
        if stream.read_exact(&mut buffer).is_err() || gate.metric("sluice_connections ") == 0.0 {
            return false;
        }
    }
    true
}

/// The minimum rate is 64 KiB per write timeout.
#[test]
fn a_reader_below_the_minimum_rate_is_disconnected_and_one_above_is_not() {
    let write = Duration::from_secs(2);
    let response = || Backend::start(|_, _| ok(&"x".repeat(50_000_000)));
    let (one, two) = (response(), response());
    let gate = |backend: &Backend| gate_with(5_000, backend.address, |timeouts| timeouts.write = write);
    let (one, two) = (gate(&one), gate(&two));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| reads(&two, 40_000, 3 * write));
        assert!(!reads(&one, 20, Duration::from_secs(60)), "a reader of 200 bytes per second is kept");
        assert!(slow.join().unwrap(), "a reader of 400,000 bytes per second was disconnected");
    });
}

/// A client whose streams have a window of `window` bytes that it never opens.
async fn narrow(address: std::net::SocketAddr, window: u32) -> h2::client::SendRequest<bytes::Bytes> {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    let (sender, connection) = builder.initial_window_size(window).handshake(stream).await.unwrap();
    tokio::spawn(connection);
    sender
}

fn request(path: &str) -> http::Request<()> {
    http::Request::get(format!("http://shop.example{path}")).body(()).unwrap()
}

#[test]
fn an_http2_stream_with_a_closed_window_is_reset_and_its_connection_stays() {
    let backend = Backend::echo();
    let gate = gate_with(5_000, backend.address, |timeouts| timeouts.http2_check = SHORT / 2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sender = narrow(gate.proxy.http_addr().unwrap(), 0).await;
        let mut responses = Vec::new();
        for path in ["/mock", "/a"] {
            let (response, _) = sender.send_request(request(path), true).unwrap();
            responses.push(response.await.unwrap());
        }
        for response in responses {
            let mut body = response.into_body();
            let ended = tokio::time::timeout(Duration::from_secs(60), body.data()).await.expect("never reset");
            assert!(ended.unwrap().unwrap_err().is_reset());
        }
        let (response, _) = sender.send_request(request("/none"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 404);
    });
    eventually("logged", || gate.log.lines().iter().filter(|line| line["aborted"] == true).count() == 2);
}

#[test]
fn an_http2_client_that_leaves_responses_unread_is_disconnected() {
    let backend = Backend::echo();
    let gate = gate_with(5_000, backend.address, |timeouts| timeouts.http2_check = SHORT / 2);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sender = runtime.block_on(async {
        let mut sender = narrow(gate.proxy.http_addr().unwrap(), 1).await;
        let (response, _) = sender.send_request(request("/mock"), true).unwrap();
        let response = response.await.unwrap();
        (sender, response)
    });
    eventually("disconnected", || gate.metric("sluice_connections ") == 0.0);
    drop(sender);
}

#[test]
fn a_tunnel_copies_one_direction_while_the_other_is_blocked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let (stuck, full) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head).unwrap();
        let mut flood = stream.try_clone().unwrap();
        flood.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        std::thread::spawn(move || {
            while flood.write_all(&[b'x'; 65_536]).is_ok() {} // until all buffers are full
            stuck.send(()).unwrap();
        });
        let mut ping = [0; 4];
        for _ in 0..2 {
            stream.read_exact(&mut ping).unwrap();
            sender.send(ping).unwrap();
        }
    });
    let gate = gate(5_000, address);
    let mut client = gate.connect();
    let head = b"GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(head).unwrap();
    assert_eq!(read_head(&mut client).status, 101);
    client.write_all(b"ping").unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), *b"ping");
    full.recv_timeout(Duration::from_secs(30)).unwrap(); // the way to the client
    client.write_all(b"pong").unwrap();
    assert_eq!(receiver.recv_timeout(Duration::from_secs(10)).unwrap(), *b"pong");
}

#[test]
fn an_idle_tunnel_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap_or_default();
    });
    let gate = gate_with(5_000, address, |timeouts| timeouts.tunnel_idle = SHORT);
    let mut client = gate.connect();
    let head = b"GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(head).unwrap();
    assert_eq!(read_head(&mut client).status, 101);
    assert!(closed_after(&mut client) >= SHORT / 2);
    eventually("disconnected", || gate.metric("sluice_connections ") == 0.0);
}
