//! Forwarding: what a backend receives, what the client receives, and what happens when a backend fails.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_wire::*;

use crate::harness::*;

fn gate(addresses: &[std::net::SocketAddr], path: &str) -> Gate {
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage()),
        upstream(addresses),
        route("r", vec![rule("r", "ANY", path, policy(service()))]),
    ]);
    gate
}

#[test]
fn a_request_reaches_the_backend_and_its_response_the_client() {
    let backend = Backend::echo();
    let gate = gate(&[backend.address], "/{path+}");
    let response = gate.request("POST", "/a/%62?q=1&r=%20", &[("x-mine", "yes")], "hello");
    assert_eq!(response.status, 200);
    assert!(response.body.starts_with("POST /a/b?q=1&r=%20 HTTP/1.1\r\n"), "{}", response.body);
    assert!(response.body.ends_with("hello"), "{}", response.body);
    let lower = response.body.to_ascii_lowercase();
    for line in [
        "x-mine: yes",
        "host: shop.example",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: shop.example",
    ] {
        assert!(lower.contains(line), "{line} in {lower}");
    }
    // Connections are kept per thread: many requests need few.
    for _ in 0..20 {
        assert_eq!(gate.get("/x").status, 200);
    }
    assert!(backend.connections.load(Ordering::SeqCst) <= 4, "{}", backend.connections.load(Ordering::SeqCst));
    eventually("counted", || gate.metric(r#"sluice_requests_total{code="2xx",route="r",stage="shop/prod"}"#) == 21.0);
    eventually("logged", || gate.log.lines().len() == 21);
    // The lines of several threads are in no order.
    let lines = gate.log.lines();
    let line = lines.iter().find(|line| line["method"] == "POST").unwrap();
    assert_eq!((&line["path"], &line["status"], &line["rule"]), (&"/a/b".into(), &200.into(), &"r".into()));
}

#[test]
fn headers_that_identify_a_caller_are_not_forwarded_from_clients() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let mut served = policy(service());
    served.request_headers.set = vec![("x-user-id".into(), "gateway".parse().unwrap())];
    served.request_headers.remove = vec!["x-internal".into()];
    gate.put(vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        route("r", vec![rule("r", "ANY", "/{p+}", served)]),
    ]);
    let headers = [
        ("Forwarded", "for=6.6.6.6"),
        ("X-Forwarded-For", "6.6.6.6"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Forwarded-Prefix", "/evil"),
        ("X-Real-IP", "6.6.6.6"),
        ("X-User-Id", "evil"),
        ("X-Internal", "evil"),
        ("Proxy-Authorization", "evil"),
        ("Keep-Alive", "evil"),
        ("Connection", "x-user-id, x-forwarded-for, x-secret"),
        ("X-Secret", "evil"),
    ];
    let body = gate.request("GET", "/a", &headers, "").body.to_ascii_lowercase();
    assert!(!body.contains("evil") && !body.contains("6.6.6.6"), "{body}");
    assert!(body.contains("x-user-id: gateway") && body.contains("x-forwarded-for: 127.0.0.1"), "{body}");
}

#[test]
fn a_dead_endpoint_is_skipped_and_no_endpoint_is_reported() {
    let backend = Backend::echo();
    let dead = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut gate = gate(&[dead, backend.address], "/a");
    for _ in 0..20 {
        assert_eq!(gate.get("/a").status, 200);
    }
    gate.put(vec![upstream(&[dead])]);
    assert_eq!(gate.get("/a").status, 502);
    gate.put(vec![upstream(&[])]);
    assert_eq!(gate.get("/a").status, 503);
    gate.put(vec![upstream(&[backend.address])]);
    assert_eq!(gate.get("/a").status, 200);
    assert_eq!(gate.metric(r#"sluice_rejects_total{reason="NoEndpoints",stage="shop/prod"}"#), 1.0);
}

#[test]
fn a_closed_idle_connection_fails_no_request_that_may_be_retried() {
    // Responds to the first request of each connection and closes at the second.
    let count = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let seen = count.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            seen.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).unwrap();
                stream.write_all(ok("first").as_bytes()).unwrap();
                let _ = stream.read(&mut buffer);
            });
        }
    });
    let gate = gate(&[address], "/a");
    for _ in 0..10 {
        assert_eq!(gate.get("/a").body, "first");
    }
    assert_eq!(count.load(Ordering::SeqCst), 10);
}

#[test]
fn a_slow_backend_is_a_504() {
    // Responds when the test has ended.
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::start(move |_, _| {
        wait.lock().unwrap().recv().unwrap_or_default();
        ok("late")
    });
    let mut gate = Gate::start();
    let served = RulePolicy { timeout_ms: 100, ..policy(service()) };
    let aws = StagePart { behavior: Behavior::AwsRest, ..stage() };
    gate.put(vec![stage_part(aws), upstream(&[backend.address]), route("r", vec![rule("r", "GET", "/a", served)])]);
    let response = gate.get("/a");
    assert_eq!((response.status, response.body.as_str()), (504, r#"{"message": "Endpoint request timed out"}"#));
    drop(end);
}

#[test]
fn white_space_before_the_colon_of_a_backends_header_is_removed() {
    for head in [
        "x-bad : 1\r\ncontent-length: 2",
        "x-bad\t: 1\r\ncontent-length : 2",
        "x-bad \t :1 \r\ntransfer-encoding : chunked",
    ] {
        let body = if head.contains("chunked") { "2\r\nok\r\n0\r\n\r\n" } else { "ok" };
        let backend = Backend::start(move |_, _| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}"));
        let response = gate(&[backend.address], "/a").get("/a");
        assert_eq!((response.status, response.header("x-bad")), (200, Some("1")), "{head}: {response:?}");
        assert!(response.body.contains("ok"), "{head}: {response:?}");
    }
}

#[test]
fn nonsense_from_a_backend_is_a_502() {
    let backend = Backend::start(|_, _| "NONSENSE\r\n\r\n".into());
    assert_eq!(gate(&[backend.address], "/a").get("/a").status, 502);
}

#[test]
fn a_body_is_streamed_while_the_backend_sends_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (go, wait) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut buffer = [0; 4096];
        let _ = stream.read(&mut buffer).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").unwrap();
        wait.recv().unwrap();
        stream.write_all(b"4\r\nlast\r\n0\r\n\r\n").unwrap();
    });
    let gate = gate(&[address], "/a");
    let mut client = gate.connect();
    client.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    assert_eq!(read_head(&mut client).status, 200);
    let mut first = [0; 10];
    client.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"5\r\nfirst\r\n");
    go.send(()).unwrap();
    let mut last = [0; 14];
    client.read_exact(&mut last).unwrap();
    assert_eq!(&last, b"4\r\nlast\r\n0\r\n\r\n");
}

#[test]
fn websockets_pass_through_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let head = String::from_utf8(read_until_blank(&mut stream)).unwrap().to_ascii_lowercase();
            assert!(head.contains("upgrade: websocket") && head.contains("sec-websocket-key: abc"), "{head}");
            assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
            stream
                .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")
                .unwrap();
            let mut buffer = [0; 4];
            stream.read_exact(&mut buffer).unwrap();
            stream.write_all(&buffer).unwrap();
        }
    });
    let gate = gate(&[address], "/a");
    // Fields that announce no content change nothing (RFC 9110, 8.6).
    for fields in [
        "connection: Upgrade\r\n",
        "connection: Upgrade\r\ncontent-length: 0\r\n",
        "content-length:  00 \r\nconnection: keep-alive, Upgrade\r\n",
        "connection: upgrade, content-length\r\ncontent-length: 0\r\n",
        "connection: Upgrade\r\nexpect: 100-continue\r\ncontent-length: 0\r\n",
    ] {
        let mut client = gate.connect();
        let request = format!(
            "GET /a HTTP/1.1\r\nhost: shop.example\r\n{fields}upgrade: websocket\r\nsec-websocket-key: abc\r\n\r\n"
        );
        client.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_head(&mut client).status, 101, "{fields}");
        client.write_all(b"ping").unwrap();
        let mut buffer = [0; 4];
        client.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"ping", "{fields}");
    }
    eventually("recorded", || gate.log.lines().iter().filter(|line| line["status"] == 101).count() == 5);
}

fn read_until_blank(stream: &mut std::net::TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    head
}

#[test]
fn external_urls_get_their_own_path_and_host() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let target = HttpTarget {
        tls: false,
        host: "127.0.0.1".into(),
        port: backend.address.port(),
        path: Some("/v2/{rest}/x".into()),
    };
    let rules = vec![rule("r", "GET", "/{rest+}", policy(Integration::Http(target)))];
    gate.put(vec![stage_part(stage()), route("r", rules)]);
    let body = gate.get("/a/b?q=1").body;
    assert!(body.starts_with("GET /v2/a/b/x?q=1 HTTP/1.1\r\n"), "{body}");
    assert!(body.contains(&format!("host: 127.0.0.1:{}", backend.address.port())), "{body}");
}

#[test]
fn mocks_and_responses_get_the_headers_of_the_rule() {
    let mut gate = Gate::start();
    let mut served = policy(mock("made up"));
    served.response_headers.set = vec![("x-id".into(), "${request.path.id} of ${context.stage}".parse().unwrap())];
    served.response_headers.remove = vec!["content-type".into()];
    gate.put(vec![stage_part(stage()), route("r", vec![rule("r", "GET", "/a/{id}", served)])]);
    let response = gate.get("/a/7");
    assert_eq!((response.header("x-id"), response.header("content-type")), (Some("7 of prod"), None));
}

#[test]
fn http2_works_on_both_sides() {
    use http_body_util::{BodyExt as _, Empty, Limited};
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                let text = format!("{:?} {} {:?}", request.version(), request.uri(), request.headers().get("cookie"));
                Ok::<_, std::convert::Infallible>(http::Response::new(text))
            });
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
        }
    });
    let mut gate = gate(&[], "/{p+}");
    let (name, body) = upstream(&[address]);
    let PartBody::Upstream(body) = body else { unreachable!() };
    gate.put(vec![(name, PartBody::Upstream(UpstreamPart { h2c: true, ..body }))]);
    // From HTTP/1.1 to HTTP/2.
    assert_eq!(gate.get("/a?b").body, "HTTP/2.0 http://shop.example/a?b None");
    // From HTTP/2 to HTTP/2, and to HTTP/1.1.
    let backend = Backend::echo();
    let proxy = gate.proxy.http_addr().unwrap();
    let ask = move |host: &'static str| async move {
        let stream = tokio::net::TcpStream::connect(proxy).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::get("http://shop.example/a")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("host", host);
        let response = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), 65_536);
        #[allow(clippy::disallowed_methods, reason = "capped above")]
        let body = body.collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    };
    let (status, text) = runtime.block_on(ask("shop.example"));
    assert_eq!((status, text.as_str()), (200, "HTTP/2.0 http://shop.example/a Some(\"a=1; b=2\")"));
    gate.put(vec![upstream(&[backend.address])]);
    let (status, text) = runtime.block_on(ask("shop.example"));
    assert_eq!(status, 200);
    assert!(text.contains("cookie: a=1; b=2\r\n") && text.contains("host: shop.example\r\n"), "{text}");
    // A Host that differs from the authority is rejected.
    assert_eq!(runtime.block_on(ask("other.example")).0, 400);
}

#[test]
fn an_ambiguous_response_is_a_502() {
    let rows = [
        "content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 50\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: identity\r\n\r\nhello",
        "content-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        "content-length: 5, 5\r\n\r\nhello",
    ];
    let row = Arc::new(AtomicUsize::new(0));
    let now = row.clone();
    let backend = Backend::start(move |_, _| format!("HTTP/1.1 200 OK\r\n{}", rows[now.load(Ordering::SeqCst)]));
    let mut gate = gate(&[backend.address], "/a");
    for (at, text) in rows.iter().enumerate() {
        row.store(at, Ordering::SeqCst);
        let response = gate.get("/a");
        assert_eq!(response.status, 502, "{text}: {response:?}");
    }
    // Nor is it stored.
    let cached = RulePolicy {
        cache: Some(RuleCache {
            ttl_ms: None,
            keys: vec![],
            unkeyed: vec![],
            methods: vec!["GET".into()],
            scope: CacheScope::Shared,
        }),
        ..policy(service())
    };
    let stage_cache = StageCache {
        max_bytes: 1 << 20,
        ttl_ms: 60_000,
        invalidation: Invalidation::None,
        unauthorized: Unauthorized::FailWith403,
    };
    gate.put(vec![
        stage_part(StagePart { cache: Some(stage_cache), ..stage() }),
        route("r", vec![rule("r", "GET", "/a", cached)]),
    ]);
    row.store(1, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(gate.get("/a").status, 502);
    }
}

#[test]
fn a_body_is_forwarded_whatever_the_method() {
    let backend = Backend::echo();
    let gate = gate(&[backend.address], "/a");
    for method in ["GET", "DELETE", "OPTIONS", "POST"] {
        let text = format!(
            "{method} /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
        );
        let response = gate.raw(&text).body.to_ascii_lowercase();
        assert!(
            response.contains("transfer-encoding: chunked\r\n") && response.contains("hello"),
            "{method}: {response}"
        );
        let response = gate.request(method, "/a", &[], "hello").body.to_ascii_lowercase();
        assert!(response.contains("content-length: 5\r\n") && response.ends_with("hello"), "{method}: {response}");
    }
    // Without a length, from HTTP/2.
    let client = Http2::connect(&gate);
    let streamed = http_body_util::StreamBody::new(futures::stream::iter([Ok::<_, std::convert::Infallible>(
        http_body::Frame::data(bytes::Bytes::from_static(b"hello")),
    )]));
    let request = http::Request::get("http://shop.example/a").body(streamed).unwrap();
    let (status, text, _) = client.ask(request);
    assert_eq!(status, 200);
    assert!(text.contains("transfer-encoding: chunked\r\n") && text.contains("hello"), "{text}");
}

#[test]
fn an_external_name_is_looked_up() {
    let backend = Backend::echo();
    let mut gate = gate(&[], "/a");
    let named = |host: &str, port| {
        let part = UpstreamPart {
            object: ObjectRef::new("Service", "shop", "orders"),
            endpoints: Endpoints::Name { host: host.into(), port },
            h2c: false,
            tls: None,
        };
        (upstream_name(), PartBody::Upstream(part))
    };
    gate.put(vec![named("localhost", backend.address.port())]);
    for _ in 0..3 {
        assert_eq!(gate.get("/a").status, 200);
    }
    gate.put(vec![named("no-such-name.invalid", 80)]);
    assert_eq!(gate.get("/a").status, 502);
    // The gateway itself is no destination, under any name.
    let own = gate.proxy.http_addr().unwrap().port();
    gate.put(vec![named("localhost", own)]);
    let response = gate.get("/a");
    assert_eq!(response.status, 502, "{response:?}");
    gate.put(vec![upstream(&[gate.proxy.http_addr().unwrap()])]);
    assert_eq!(gate.get("/a").status, 502);
    eventually("logged", || gate.log.lines().len() == 6);
}

#[test]
fn two_closed_idle_connections_fail_no_request() {
    // Responds to the first request of each connection and closes at the second.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let barrier = Arc::new(std::sync::Barrier::new(2));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let barrier = barrier.clone();
            std::thread::spawn(move || {
                let head = String::from_utf8(read_until_blank(&mut stream)).unwrap();
                if head.starts_with("GET /pair ") {
                    barrier.wait();
                }
                stream.write_all(ok("first").as_bytes()).unwrap();
                let _ = stream.read(&mut [0; 4096]);
            });
        }
    });
    let gate = gate(&[address], "/{p}");
    // One client connection has one worker with its own connections: two stay open after two concurrent requests.
    let client = Http2::connect(&gate);
    let request = |path: &str| http::Request::get(format!("http://shop.example{path}")).body(Http2::empty()).unwrap();
    for _ in 0..5 {
        let both = client.ask_all(vec![request("/pair"), request("/pair")]);
        assert_eq!(both.iter().map(|(_, text, _)| text.as_str()).collect::<Vec<_>>(), ["first", "first"]);
        assert_eq!(client.ask(request("/one")).1, "first");
        // The open one is closed here; two new ones follow.
        assert_eq!(client.ask(request("/one")).1, "first");
    }
}
