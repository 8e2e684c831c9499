//! Clients and backends that are slow, quiet, or take nothing: which of them are waited for, and for how long.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use sluice_wire::*;

use crate::harness::*;

fn gate(timeout_ms: u64, address: std::net::SocketAddr) -> Gate {
    let mut gate = Gate::start();
    let served = RulePolicy { timeout_ms, ..policy(service()) };
    let rules = vec![rule("r", "ANY", "/a", served), rule("m", "GET", "/mock", policy(mock("mocked")))];
    gate.put(vec![stage_part(stage()), upstream(&[address]), route("r", rules)]);
    gate
}

/// Waits for something that takes longer than [`eventually`] allows.
fn within(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What takes half a minute and more, all at once.
#[test]
fn long_waits_end_when_they_should() {
    let all: [fn(); 7] = [
        a_kept_connection_may_be_quiet_and_a_head_that_has_begun_may_not,
        a_body_that_trickles_is_ended,
        a_quiet_stream_lives_on,
        a_reader_that_takes_nothing_is_let_go,
        a_reader_that_takes_very_little_is_let_go_and_a_slow_one_is_not,
        an_http2_stream_with_a_closed_window_is_reset_and_its_connection_stays,
        an_http2_client_that_leaves_answers_lying_is_let_go,
    ];
    let threads = all.map(std::thread::spawn);
    let failed = threads.map(std::thread::JoinHandle::join).iter().filter(|result| result.is_err()).count();
    assert_eq!(failed, 0, "the panics above say which");
}

#[test]
fn the_rules_time_is_the_backends_not_the_uploads() {
    let backend = Backend::echo();
    let gate = gate(400, backend.address);
    let mut stream = gate.connect();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 4\r\n\r\n").unwrap();
    // Pieces that come within the time, and a pause of the client that is longer.
    for pause in [200, 200, 200, 900] {
        std::thread::sleep(Duration::from_millis(pause));
        stream.write_all(b"x").unwrap();
    }
    let answer = read_answer(&mut stream);
    assert_eq!(answer.status, 200);
    assert!(answer.body.ends_with("xxxx"), "{}", answer.body);
}

#[test]
fn a_backend_that_is_silent_after_an_upload_or_takes_none_is_a_504() {
    // Takes connections and reads nothing.
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

fn a_kept_connection_may_be_quiet_and_a_head_that_has_begun_may_not() {
    let backend = Backend::echo();
    let gate = gate(5_000, backend.address);
    let mut stream = gate.connect();
    stream.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    for pause in [0, 20] {
        std::thread::sleep(Duration::from_secs(pause));
        stream.write_all(b"GET /mock HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
        assert_eq!(read_answer(&mut stream).body, "mocked", "after {pause} s");
    }
    // A byte now and then does not buy time.
    let started = Instant::now();
    let mut trickling = stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for byte in b"GET /mock HTTP/1.1\r\nx-slow: 1".iter().cycle() {
            if trickling.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    });
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap_or_default();
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    let waited = started.elapsed();
    assert!((9..20).contains(&waited.as_secs()), "{waited:?}");
}

#[test]
fn an_upload_goes_on_after_its_answer() {
    const LENGTH: usize = 30;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = gate(5_000, listener.local_addr().unwrap());
    let (told, heard) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        let mut body = [0; LENGTH];
        told.send(stream.read_exact(&mut body).map(|()| body)).unwrap();
    });
    let mut stream = gate.connect();
    let head = format!("POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {LENGTH}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    assert_eq!(read_answer(&mut stream).body, "ok");
    // Longer than a head may take.
    for _ in 0..LENGTH {
        std::thread::sleep(Duration::from_millis(500));
        stream.write_all(b"x").unwrap();
    }
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap().unwrap(), [b'x'; LENGTH]);
}

fn a_body_that_trickles_is_ended() {
    let backend = Backend::echo();
    let gate = gate(5_000, backend.address);
    let mut stream = gate.connect();
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    stream.write_all(b"POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 100000\r\n\r\n").unwrap();
    let started = Instant::now();
    let mut seen = [0; 12];
    let mut answered = false;
    while !answered && started.elapsed() < Duration::from_secs(60) {
        stream.write_all(b"x").unwrap();
        answered = stream.read_exact(&mut seen).is_ok();
    }
    assert_eq!(String::from_utf8_lossy(&seen), "HTTP/1.1 408", "{:?}", started.elapsed());
    assert!(started.elapsed() > Duration::from_secs(20), "{:?}", started.elapsed());
}

fn a_quiet_stream_lives_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        std::thread::sleep(Duration::from_secs(33));
        stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").unwrap();
    });
    let gate = gate(5_000, address);
    let mut stream = gate.connect();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).body, "firstlast");
}

fn a_reader_that_takes_nothing_is_let_go() {
    let backend = Backend::start(|_, _| ok(&"x".repeat(50_000_000)));
    let gate = gate(5_000, backend.address);
    let mut stream = gate.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    eventually("asked", || backend.requests.load(std::sync::atomic::Ordering::SeqCst) == 1);
    within(Duration::from_secs(60), "let go", || gate.metric("sluice_connections ") == 0.0);
    eventually("logged", || gate.log.lines().iter().any(|line| line["aborted"] == true));
    drop(stream);
}

/// A client that takes `bytes` ten times a second; false: it was let go.
fn takes(gate: &Gate, bytes: usize, time: Duration) -> bool {
    let address = gate.proxy.http_addr().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::for_address(address), socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(16 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut stream: std::net::TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    let until = Instant::now() + time;
    let mut buffer = vec![0; bytes];
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(100));
        if stream.read_exact(&mut buffer).is_err() {
            return false;
        }
    }
    gate.metric("sluice_connections ") == 1.0
}

fn a_reader_that_takes_very_little_is_let_go_and_a_slow_one_is_not() {
    let answer = || Backend::start(|_, _| ok(&"x".repeat(50_000_000)));
    let (one, two) = (answer(), answer());
    let (one, two) = (gate(5_000, one.address), gate(5_000, two.address));
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| takes(&two, 2_000, Duration::from_secs(50)));
        assert!(!takes(&one, 20, Duration::from_secs(60)), "a reader of 200 bytes per second is kept");
        assert!(slow.join().unwrap(), "a reader of 20,000 bytes per second was let go");
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

fn an_http2_stream_with_a_closed_window_is_reset_and_its_connection_stays() {
    let backend = Backend::echo();
    let gate = gate(5_000, backend.address);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut sender = narrow(gate.proxy.http_addr().unwrap(), 0).await;
        let mut answers = Vec::new();
        for path in ["/mock", "/a"] {
            let (answer, _) = sender.send_request(request(path), true).unwrap();
            answers.push(answer.await.unwrap());
        }
        for answer in answers {
            let mut body = answer.into_body();
            let ended = tokio::time::timeout(Duration::from_secs(60), body.data()).await.expect("never reset");
            assert!(ended.unwrap().unwrap_err().is_reset());
        }
        let (answer, _) = sender.send_request(request("/none"), true).unwrap();
        assert_eq!(answer.await.unwrap().status(), 404);
    });
    eventually("logged", || gate.log.lines().iter().filter(|line| line["aborted"] == true).count() == 2);
}

fn an_http2_client_that_leaves_answers_lying_is_let_go() {
    let backend = Backend::echo();
    let gate = gate(5_000, backend.address);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let sender = runtime.block_on(async {
        let mut sender = narrow(gate.proxy.http_addr().unwrap(), 1).await;
        let (answer, _) = sender.send_request(request("/mock"), true).unwrap();
        let answer = answer.await.unwrap();
        (sender, answer)
    });
    within(Duration::from_secs(90), "let go", || gate.metric("sluice_connections ") == 0.0);
    drop(sender);
}

#[test]
fn a_tunnel_carries_one_way_while_the_other_is_full() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (told, heard) = std::sync::mpsc::channel();
    let (stuck, full) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        read_head(&mut stream);
        let head = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(head).unwrap();
        let mut flood = stream.try_clone().unwrap();
        flood.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        std::thread::spawn(move || {
            while flood.write_all(&[b'x'; 65_536]).is_ok() {} // until nobody takes any more
            stuck.send(()).unwrap();
        });
        let mut ping = [0; 4];
        for _ in 0..2 {
            stream.read_exact(&mut ping).unwrap();
            told.send(ping).unwrap();
        }
    });
    let gate = gate(5_000, address);
    let mut client = gate.connect();
    let head = b"GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    client.write_all(head).unwrap();
    assert_eq!(read_head(&mut client).status, 101);
    client.write_all(b"ping").unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), *b"ping");
    full.recv_timeout(Duration::from_secs(30)).unwrap(); // the way to the client
    client.write_all(b"pong").unwrap();
    assert_eq!(heard.recv_timeout(Duration::from_secs(10)).unwrap(), *b"pong");
}
