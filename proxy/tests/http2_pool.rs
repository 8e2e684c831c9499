//! HTTP/2 connections to backends: slow streams, stream limits and connections that go away never block other requests.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use sluice_kit::eventually_async as until;
use sluice_kit::http2_backend::{Http2Backend, Number, RawBackend, Reaction, runtime};
use sluice_proxy::Timeouts;
use sluice_wire::*;

use crate::harness::*;

/// Longer than any of these requests should take, and shorter than the rule's timeout.
const SOON: Duration = Duration::from_secs(10);
const RULE_TIMEOUT_MS: u64 = 20_000;

type Reply = BoxStream<'static, Result<Frame<Bytes>, Infallible>>;

/// No test of this file is about the time that a connection takes, except where it sets one: a machine that stands still
/// for two seconds must not fail a request.
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
async fn respond(request: Request<Incoming>) -> Response<StreamBody<Reply>> {
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
    Response::new(StreamBody::new(reply))
}

/// A client on one connection, so that one worker thread has all its requests. Its streams have a window of 4 KiB that
/// opens only for those that are read.
#[derive(Clone)]
struct Client {
    sender: h2::client::SendRequest<Bytes>,
}

impl Client {
    async fn connect(gate: &Gate) -> Self {
        let stream = tokio::net::TcpStream::connect(gate.proxy.http_addr().unwrap()).await.unwrap();
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

/// Runs `test` with a backend that allows `max_streams` on a connection. Returns how many connections it had.
fn with_backend(max_streams: u32, test: impl AsyncFnOnce(Client)) -> usize {
    let runtime = runtime();
    let backend = Http2Backend::start(&runtime, max_streams, respond);
    let gate = gate_with(backend.address, |_| {});
    runtime.block_on(async { test(Client::connect(&gate).await).await });
    backend.connections()
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
    with_backend(250, async |client| {
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
    let connections = with_backend(250, async |client| {
        let slow = client.begin("/big", 120).await;
        assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()));
        drop(slow);
    });
    assert!(connections <= 3, "{connections}");
}

#[test]
fn slow_downloads_and_uploads_that_the_backend_does_not_read_block_no_request() {
    with_backend(250, async |client| {
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
        let connections = with_backend(limit, async |client| {
            let events = client.begin("/events", usize::try_from(limit).unwrap().max(5)).await;
            assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()), "{limit}");
            drop(events);
            // The streams that ended are free again: no connection is opened for each request.
            for _ in 0..20 {
                assert_eq!(client.fetch("GET", "/small", None).await, (200, "0".into()), "{limit}");
            }
        });
        let needed = if limit == 1 { 6 } else { 2 };
        assert!((2..=needed).contains(&connections), "limit {limit}: {connections} connections");
    }
}

/// Runs `test` with a backend of raw frames that announces `limit` streams, and a proxy with changed timeouts.
fn with_raw_backend(
    limit: u32,
    change: impl FnOnce(&mut Timeouts),
    react: impl Fn(Number) -> Reaction + Send + Sync + 'static,
    test: impl AsyncFnOnce(Client, &RawBackend, &Gate),
) {
    let runtime = runtime();
    let backend = RawBackend::start(&runtime, limit, react);
    let gate = gate_with(backend.address, change);
    runtime.block_on(async { test(Client::connect(&gate).await, &backend, &gate).await });
}

fn responds(_: Number) -> Reaction {
    Reaction::Respond
}

#[test]
fn requests_wait_while_a_backend_allows_no_streams_and_go_on_when_it_does() {
    with_raw_backend(
        0,
        |_| {},
        responds,
        async |client, backend, _| {
            backend.respond.send_replace(true);
            let waiting: Vec<_> = (0..5).map(|_| tokio::spawn(fetch(client.clone()))).collect();
            until("a connection", || backend.connections() > 0).await;
            assert!(waiting.iter().all(|request| !request.is_finished()));
            assert_eq!(backend.most(), 0);
            // Another connection would have no streams either.
            assert_eq!(backend.connections(), 1);
            backend.limit.send_replace(1);
            for request in waiting {
                assert_eq!(request.await.unwrap(), (200, "done".into()));
            }
        },
    );
}

#[test]
fn a_request_that_gets_no_stream_in_time_is_rejected() {
    let short = |timeouts: &mut Timeouts| timeouts.upstream.stream = Duration::from_millis(200);
    with_raw_backend(0, short, responds, async |client, _, gate| {
        let (status, body) = fetch(client).await;
        assert_eq!(status, 503, "{body}");
        until("logged", || gate.log.lines().iter().any(|line| line["reason"] == "UpstreamBusy")).await;
    });
}

#[test]
fn idle_connections_are_closed_and_used_ones_are_kept() {
    let short = |timeouts: &mut Timeouts| timeouts.upstream.idle = Duration::from_millis(400);
    with_raw_backend(1, short, responds, async |client, backend, _| {
        let running: Vec<_> = (0..3).map(|_| tokio::spawn(fetch(client.clone()))).collect();
        until("three streams", || backend.open() == 3).await;
        assert_eq!(backend.connected(), 3);
        backend.respond.send_replace(true);
        for request in running {
            assert_eq!(request.await.unwrap(), (200, "done".into()));
        }
        // From here on one of them is sufficient.
        let fewer = async {
            while backend.connected() > 1 {
                assert_eq!(fetch(client.clone()).await, (200, "done".into()));
            }
        };
        soon("the end of two connections", fewer).await;
        until("no connection", || backend.connected() == 0).await;
        assert_eq!(fetch(client).await, (200, "done".into()));
    });
}

async fn fetch(client: Client) -> (u16, String) {
    client.fetch("GET", "/a", None).await
}

#[test]
fn a_limit_that_is_lowered_while_requests_run_is_respected_and_blocks_no_request() {
    with_raw_backend(
        50,
        |_| {},
        responds,
        async |client, backend, _| {
            let running: Vec<_> = (0..10).map(|_| tokio::spawn(fetch(client.clone()))).collect();
            until("ten streams", || backend.open() == 10).await;
            assert_eq!(backend.connections(), 1);
            backend.limit.send_replace(4);
            let more: Vec<_> = (0..3).map(|_| tokio::spawn(fetch(client.clone()))).collect();
            until("three streams more", || backend.open() == 13).await;
            backend.respond.send_replace(true);
            for request in running.into_iter().chain(more) {
                assert_eq!(request.await.unwrap(), (200, "done".into()));
            }
            assert!(backend.connections() <= 3, "{}", backend.connections());
        },
    );
}

#[test]
fn connections_that_go_away_under_load_fail_no_request() {
    // With 100 streams a connection has streams to spare, with 4 it has none. In the last rows more requests are in flight than
    // a connection processes: those that were rejected come first on the next one.
    for (limit, goes, in_flight) in
        [(100, 30, 12), (4, 30, 12), (100, 5, 3), (4, 5, 3), (100, 5, 12), (4, 5, 12), (100, 2, 8)]
    {
        let react = move |number: Number| {
            if number.of_connection >= goes { Reaction::GoAway } else { Reaction::Respond }
        };
        with_raw_backend(
            limit,
            |_| {},
            react,
            async |client, backend, _| {
                backend.respond.send_replace(true);
                let requests = futures::stream::iter(0..300).map(|number| {
                    let (client, method) = (&client, if number % 2 == 1 { "POST" } else { "GET" });
                    async move { (method, client.fetch(method, "/a", None).await) }
                });
                let responses: Vec<_> = requests.buffer_unordered(in_flight).collect().await;
                let good = (200, "done".to_owned());
                let failed: Vec<_> = responses.iter().filter(|(_, response)| *response != good).collect();
                assert!(failed.is_empty(), "limit {limit}: {failed:?}");
                assert!(backend.connections() >= 10, "{}", backend.connections());
            },
        );
    }
}
