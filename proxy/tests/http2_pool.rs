//! HTTP/2 connections to backends: slow streams, stream limits and connections that go away never block other requests.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_kit::eventually_async as until;
use sluice_proxy::Timeouts;
use sluice_wire::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::harness::*;

/// Longer than any of these requests should take, and shorter than the rule's timeout.
const SOON: Duration = Duration::from_secs(10);
const RULE_TIMEOUT_MS: u64 = 20_000;

type Reply = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// No test of this file is about the time that a connection takes, except where it sets one: a machine that stands still
/// for two seconds must not fail a request.
fn gate(address: SocketAddr) -> Gate {
    gate_with(address, |_| {})
}

fn gate_with(address: SocketAddr, change: impl FnOnce(&mut Timeouts)) -> Gate {
    let mut gate = Gate::with_timeouts(|timeouts| {
        timeouts.upstream.connect = SOON;
        timeouts.upstream.stream = SOON;
        change(timeouts);
    });
    let (name, body) = upstream(&[address]);
    let PartBody::Upstream(body) = body else { unreachable!() };
    let served = RulePolicy { timeout_ms: RULE_TIMEOUT_MS, ..policy(service()) };
    gate.put(vec![
        stage_part(stage()),
        (name, PartBody::Upstream(UpstreamPart { h2c: true, ..body })),
        route("r", vec![rule("r", "ANY", "/{p+}", served)]),
    ]);
    gate
}

fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, Infallible> {
    Ok(Frame::data(bytes.into()))
}

/// `/big` sends 16 MiB, `/events` one event and then nothing, `/unread` neither reads nor responds, everything else is
/// read, and the response is its length.
async fn respond(request: Request<Incoming>) -> Result<Response<StreamBody<Reply>>, Infallible> {
    let reply: Reply = match request.uri().path() {
        "/big" => futures::stream::repeat_with(|| data(vec![b'x'; 16 * 1024])).take(1024).boxed(),
        "/events" => futures::stream::iter([data("event")]).chain(futures::stream::pending()).boxed(),
        "/unread" => {
            let unread = request.into_body();
            std::future::pending::<()>().await;
            drop(unread);
            futures::stream::empty().boxed()
        }
        _ => {
            let length = request.into_body().collect().await.map_or(0, |body| body.to_bytes().len());
            futures::stream::iter([data(length.to_string())]).boxed()
        }
    };
    Ok(Response::new(StreamBody::new(reply)))
}

/// A backend that allows so many streams at a time on each connection, and how many connections it has accepted.
struct Backend {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Backend {
    fn start(runtime: &Runtime, max_streams: u32) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                // The smallest windows that a peer may have: one upload that is not read closes them.
                builder.max_concurrent_streams(max_streams).initial_connection_window_size(65_535);
                builder.initial_stream_window_size(65_535);
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), hyper::service::service_fn(respond)));
            }
        });
        Self { address, connections }
    }
}

/// A client on one connection, so that one worker thread has all its requests. Its streams have a window of 4 KiB that
/// opens only for those that are read.
#[derive(Clone)]
struct Client {
    sender: h2::client::SendRequest<Bytes>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(4096).initial_connection_window_size(16 << 20);
        let (sender, connection) = builder.handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// Sends a request whose body goes on as long as the returned stream is kept.
    async fn send(&self, method: &str, path: &str, body: Option<Bytes>) -> Sent {
        let uri = format!("http://shop.example{path}");
        let request = Request::builder().method(method).uri(uri).body(()).unwrap();
        let mut sender = self.sender.clone().ready().await.unwrap();
        let (response, mut upload) = sender.send_request(request, body.is_none()).unwrap();
        if let Some(body) = body {
            upload.send_data(body, true).unwrap();
        }
        Sent { response, _upload: upload }
    }

    /// Status and body of a request that should get a response soon.
    async fn fetch(&self, method: &str, path: &str, body: Option<Bytes>) -> (u16, String) {
        let what = format!("{method} {path}");
        soon(&what, async {
            let response = self.send(method, path, body).await.response.await.unwrap();
            let status = response.status().as_u16();
            let (mut body, mut text) = (response.into_body(), Vec::new());
            while let Some(data) = body.data().await {
                let data = data.unwrap();
                body.flow_control().release_capacity(data.len()).unwrap();
                text.extend_from_slice(&data);
            }
            (status, String::from_utf8(text).unwrap())
        })
        .await
    }

    /// Begins requests of which nothing more than the head of the response is read.
    async fn begin(&self, path: &str, count: usize) -> Vec<h2::RecvStream> {
        let mut bodies = Vec::new();
        for _ in 0..count {
            let sent = self.send("GET", path, None).await;
            bodies.push(soon(path, sent.response).await.unwrap().into_body());
        }
        bodies
    }
}

struct Sent {
    response: h2::client::ResponseFuture,
    _upload: h2::SendStream<Bytes>,
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, work).await.unwrap_or_else(|_| panic!("{what} is blocked"))
}

#[test]
fn slow_readers_of_a_service_do_not_block_other_requests_to_it() {
    let runtime = runtime();
    let backend = Backend::start(&runtime, 250);
    let gate = gate(backend.address);
    runtime.block_on(async {
        let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
        let slow = client.begin("/big", 8).await;
        for _ in 0..3 {
            assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()));
            assert_eq!(client.fetch("POST", "/small", Some(Bytes::from_static(b"hello"))).await, (200, "5".into()));
        }
        drop(slow);
    });
}

#[test]
fn as_many_slow_readers_as_a_connection_has_streams_do_not_block_other_requests() {
    let runtime = runtime();
    let backend = Backend::start(&runtime, 250);
    let gate = gate(backend.address);
    runtime.block_on(async {
        let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
        let slow = client.begin("/big", 120).await;
        assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()));
        drop(slow);
    });
    assert!(backend.connections.load(Ordering::SeqCst) <= 3, "{:?}", backend.connections);
}

#[test]
fn slow_downloads_and_uploads_that_the_backend_does_not_read_block_no_request() {
    let runtime = runtime();
    let backend = Backend::start(&runtime, 250);
    let gate = gate(backend.address);
    runtime.block_on(async {
        let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
        let slow = client.begin("/big", 8).await;
        let mut unread = Vec::new();
        for _ in 0..4 {
            unread.push(client.send("POST", "/unread", Some(Bytes::from(vec![b'x'; 100_000]))).await);
        }
        // Small uploads that are not read either.
        for _ in 0..8 {
            unread.push(client.send("POST", "/unread", Some(Bytes::from(vec![b'x'; 10_000]))).await);
        }
        for size in [0, 1, 10_000, 300_000] {
            let body = Bytes::from(vec![b'y'; size]);
            assert_eq!(client.fetch("POST", "/read", Some(body)).await, (200, size.to_string()));
        }
        assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()));
        drop((slow, unread));
    });
}

#[test]
fn streams_beyond_the_backends_limit_go_over_further_connections() {
    for limit in [100, 1] {
        let runtime = runtime();
        let backend = Backend::start(&runtime, limit);
        let gate = gate(backend.address);
        runtime.block_on(async {
            let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
            let events = client.begin("/events", usize::try_from(limit).unwrap().max(5)).await;
            assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()), "{limit}");
            drop(events);
            // The streams that ended are free again: no connection is opened for each request.
            for _ in 0..20 {
                assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()), "{limit}");
            }
        });
        let connections = backend.connections.load(Ordering::SeqCst);
        let needed = if limit == 1 { 6 } else { 2 };
        assert!((2..=needed).contains(&connections), "limit {limit}: {connections} connections");
    }
}

/// A backend of raw frames: it announces the limit of streams that `limit` has, and responds to a request when the test
/// permits it. With `goes` it sends GOAWAY at that request of a connection (counted from 1), as not processed.
struct Raw {
    limit: watch::Receiver<u32>,
    respond: watch::Receiver<bool>,
    goes: Option<u32>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const DATA: u8 = 0;
const END_STREAM: u8 = 1;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn limit_settings(limit: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 3][..], &limit.to_be_bytes()].concat())
}

/// `:status 200` by its number in the static table, and a body.
fn done(stream: u32) -> Vec<u8> {
    [frame(HEADERS, 4, stream, &[0x88]), frame(DATA, END_STREAM, stream, b"done")].concat()
}

impl Raw {
    async fn serve(self: Arc<Self>, listener: TcpListener, connections: Arc<AtomicUsize>, connected: Arc<AtomicUsize>) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.fetch_add(1, Ordering::SeqCst);
            connected.fetch_add(1, Ordering::SeqCst);
            let (connection, connected) = (self.clone().connection(stream), connected.clone());
            tokio::spawn(async move {
                connection.await.unwrap_or_default();
                connected.fetch_sub(1, Ordering::SeqCst);
            });
        }
    }

    async fn connection(self: Arc<Self>, stream: tokio::net::TcpStream) -> std::io::Result<()> {
        let (mut reader, mut writer) = stream.into_split();
        let (mut limit, mut respond) = (self.limit.clone(), self.respond.clone());
        reader.read_exact(&mut [0; 24]).await?;
        let first = limit_settings(*limit.borrow_and_update());
        writer.write_all(&first).await?;
        let (frames, mut incoming) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let mut head = [0; 9];
                reader.read_exact(&mut head).await?;
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; usize::try_from(length).unwrap()];
                reader.read_exact(&mut payload).await?;
                let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
                if frames.send((head[3], head[4], stream, payload)).is_err() {
                    return Ok::<(), std::io::Error>(());
                }
            }
        });
        let (mut waiting, mut requests, mut last) = (Vec::new(), 0, 0);
        loop {
            tokio::select! {
                _ = limit.changed() => {
                    let frame = limit_settings(*limit.borrow_and_update());
                    writer.write_all(&frame).await?;
                }
                _ = respond.changed() => {}
                frame = incoming.recv() => {
                    let Some((kind, flags, stream, payload)) = frame else { return Ok(()) };
                    match kind {
                        SETTINGS if flags & 1 == 0 => writer.write_all(&frame_ack()).await?,
                        6 if flags & 1 == 0 => writer.write_all(&self::frame(6, 1, 0, &payload)).await?,
                        HEADERS => {
                            requests += 1;
                            if self.goes.is_some_and(|at| requests >= at) {
                                let goaway = [last_stream(last), [0; 4]].concat();
                                writer.write_all(&self::frame(7, 0, 0, &goaway)).await?;
                                continue;
                            }
                            last = stream;
                            let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
                            self.most.fetch_max(open, Ordering::SeqCst);
                            waiting.push(stream);
                        }
                        _ => {}
                    }
                }
            }
            let may_respond = *respond.borrow_and_update();
            if may_respond {
                for stream in waiting.drain(..) {
                    self.open.fetch_sub(1, Ordering::SeqCst);
                    writer.write_all(&done(stream)).await?;
                }
            }
        }
    }
}

fn frame_ack() -> Vec<u8> {
    frame(SETTINGS, 1, 0, &[])
}

fn last_stream(stream: u32) -> [u8; 4] {
    stream.to_be_bytes()
}

struct RawBackend {
    address: SocketAddr,
    limit: watch::Sender<u32>,
    respond: watch::Sender<bool>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    /// Those that are open.
    connected: Arc<AtomicUsize>,
}

impl RawBackend {
    fn start(runtime: &Runtime, limit: u32, goes: Option<u32>) -> Self {
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (limit, limits) = watch::channel(limit);
        let (respond, responds) = watch::channel(false);
        let [open, most, connections, connected] = std::array::from_fn(|_| Arc::new(AtomicUsize::new(0)));
        let raw = Raw { limit: limits, respond: responds, goes, open: open.clone(), most: most.clone() };
        runtime.spawn(Arc::new(raw).serve(listener, connections.clone(), connected.clone()));
        Self { address, limit, respond, open, most, connections, connected }
    }
}

#[test]
fn requests_wait_while_a_backend_allows_no_streams_and_go_on_when_it_does() {
    let runtime = runtime();
    let backend = RawBackend::start(&runtime, 0, None);
    backend.respond.send_replace(true);
    let gate = gate(backend.address);
    runtime.block_on(async {
        let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
        let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(fetch(client.clone()))).collect();
        until("a connection", || backend.connections.load(Ordering::SeqCst) > 0).await;
        assert!(waiting.iter().all(|request| !request.is_finished()));
        assert_eq!(backend.most.load(Ordering::SeqCst), 0);
        // Another connection would have no streams either.
        assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
        backend.limit.send_replace(1);
        for request in waiting {
            assert_eq!(request.await.unwrap(), (200, "done".into()));
        }
    });
}

#[test]
fn a_request_that_gets_no_stream_in_time_is_rejected() {
    let runtime = runtime();
    let backend = RawBackend::start(&runtime, 0, None);
    let gate = gate_with(backend.address, |timeouts| timeouts.upstream.stream = Duration::from_millis(200));
    runtime.block_on(async {
        let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
        let (status, body) = fetch(client).await;
        assert_eq!(status, 503, "{body}");
    });
    eventually("logged", || gate.log.lines().iter().any(|line| line["reason"] == "UpstreamBusy"));
}

#[test]
fn idle_connections_are_closed_and_used_ones_are_kept() {
    let runtime = runtime();
    let backend = RawBackend::start(&runtime, 1, None);
    let gate = gate_with(backend.address, |timeouts| timeouts.upstream.idle = Duration::from_millis(400));
    runtime.block_on(async {
        let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
        let running: Vec<_> = (0..3).map(|_| tokio::spawn(fetch(client.clone()))).collect();
        until("three streams", || backend.open.load(Ordering::SeqCst) == 3).await;
        assert_eq!(backend.connected.load(Ordering::SeqCst), 3);
        backend.respond.send_replace(true);
        for request in running {
            assert_eq!(request.await.unwrap(), (200, "done".into()));
        }
        // From here on one of them is sufficient.
        let fewer = async {
            while backend.connected.load(Ordering::SeqCst) > 1 {
                assert_eq!(fetch(client.clone()).await, (200, "done".into()));
            }
        };
        soon("the end of two connections", fewer).await;
        until("no connection", || backend.connected.load(Ordering::SeqCst) == 0).await;
        assert_eq!(fetch(client).await, (200, "done".into()));
    });
}

async fn fetch(client: Client) -> (u16, String) {
    client.fetch("GET", "/a", None).await
}

#[test]
fn a_limit_that_is_lowered_while_requests_run_is_respected_and_blocks_no_request() {
    let runtime = runtime();
    let backend = RawBackend::start(&runtime, 50, None);
    let gate = gate(backend.address);
    runtime.block_on(async {
        let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
        let running: Vec<_> = (0..10).map(|_| tokio::spawn(fetch(client.clone()))).collect();
        until("ten streams", || backend.open.load(Ordering::SeqCst) == 10).await;
        assert_eq!(backend.connections.load(Ordering::SeqCst), 1);
        backend.limit.send_replace(4);
        let more: Vec<_> = (0..3).map(|_| tokio::spawn(fetch(client.clone()))).collect();
        until("three streams more", || backend.open.load(Ordering::SeqCst) == 13).await;
        backend.respond.send_replace(true);
        for request in running.into_iter().chain(more) {
            assert_eq!(request.await.unwrap(), (200, "done".into()));
        }
    });
    assert!(backend.connections.load(Ordering::SeqCst) <= 3, "{:?}", backend.connections);
}

#[test]
fn connections_that_go_away_under_load_fail_no_request() {
    // With 100 streams a connection has streams to spare, with 4 it has none. Fewer requests are in flight than a connection
    // processes: otherwise the same request may be rejected each time, and the proxy gives up after 50 times.
    for (limit, goes, in_flight) in [(100, 30, 12), (4, 30, 12), (100, 5, 3), (4, 5, 3)] {
        let runtime = runtime();
        let backend = RawBackend::start(&runtime, limit, Some(goes));
        backend.respond.send_replace(true);
        let gate = gate(backend.address);
        runtime.block_on(async {
            let client = Client::connect(gate.proxy.http_addr().unwrap()).await;
            let requests = futures::stream::iter(0..300).map(|number| {
                let (client, method) = (&client, if number % 2 == 1 { "POST" } else { "GET" });
                async move { (method, client.fetch(method, "/a", None).await) }
            });
            let responses: Vec<_> = requests.buffer_unordered(in_flight).collect().await;
            let good = (200, "done".to_owned());
            let failed: Vec<_> = responses.iter().filter(|(_, response)| *response != good).collect();
            assert!(failed.is_empty(), "limit {limit}: {failed:?}");
        });
        assert!(backend.connections.load(Ordering::SeqCst) >= 10, "{:?}", backend.connections);
    }
}
