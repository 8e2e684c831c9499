//! HTTP/2 with clients and backends: trailers, and backends that reject a stream as not processed.

use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_wire::*;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::harness::*;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn gate(address: SocketAddr) -> Gate {
    let mut gate = Gate::start();
    let (name, body) = upstream(&[address]);
    let PartBody::Upstream(body) = body else { unreachable!() };
    gate.put(vec![
        stage_part(stage()),
        (name, PartBody::Upstream(UpstreamPart { h2c: true, ..body })),
        route("r", vec![rule("r", "ANY", "/{p+}", policy(service()))]),
    ]);
    gate
}

fn frames(list: Vec<Frame<Bytes>>) -> impl http_body::Body<Data = Bytes, Error = Infallible> + Send + Sync {
    StreamBody::new(futures::stream::iter(list.into_iter().map(Ok)))
}

fn trailers(name: &'static str, value: &'static str) -> Frame<Bytes> {
    let mut map = HeaderMap::new();
    map.insert(name, value.parse().unwrap());
    Frame::trailers(map)
}

/// A backend that responds with the body and trailers that it received, and sends trailers.
async fn echo(listener: TcpListener) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async move {
            let (mut body, mut data, mut seen) = (request.into_body(), Vec::new(), HeaderMap::new());
            while let Some(frame) = body.frame().await {
                match frame.unwrap().into_data() {
                    Ok(piece) => data.extend_from_slice(&piece),
                    Err(frame) => seen = frame.into_trailers().unwrap(),
                }
            }
            let text = format!("{} {seen:?}", String::from_utf8(data).unwrap());
            let response = frames(vec![Frame::data(Bytes::from(text)), trailers("grpc-status", "0")]);
            Ok::<_, Infallible>(Response::new(response))
        });
        let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
    }
}

#[test]
fn trailers_of_responses_are_forwarded_and_those_of_requests_are_not() {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let gate = gate(listener.local_addr().unwrap());
    runtime.spawn(echo(listener));
    let client = Http2::connect(&gate);
    let body = frames(vec![Frame::data(Bytes::from_static(b"hello")), trailers("x-user-id", "evil")]);
    let request = Request::post("http://shop.example/a").header("content-type", "application/grpc");
    let (status, text, seen) = client.ask(request.body(body).unwrap());
    assert_eq!((status, text.as_str()), (200, "hello {}"));
    assert_eq!(seen.get("grpc-status").map(|value| value.as_bytes()), Some(&b"0"[..]));
    let head = "POST /a HTTP/1.1\r\nhost: shop.example\r\ntrailer: x-user-id\r\ntransfer-encoding: chunked\r\n\r\n";
    let response = gate.raw(&format!("{head}5\r\nhello\r\n0\r\nx-user-id: evil\r\n\r\n"));
    assert_eq!(response.body, "hello {}");
}

/// A backend that rejects every second stream with REFUSED_STREAM.
async fn rejecting(listener: TcpListener, count: Arc<AtomicUsize>, connections: Arc<AtomicUsize>) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::SeqCst);
        let count = count.clone();
        tokio::spawn(async move {
            let mut connection = h2::server::handshake(stream).await.unwrap();
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                if count.fetch_add(1, Ordering::SeqCst) % 2 == 1 {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                    continue;
                }
                let mut body = respond.send_response(Response::new(()), false).unwrap();
                body.send_data(Bytes::from_static(b"done"), true).unwrap();
            }
        });
    }
}

#[test]
fn a_request_that_the_backend_did_not_process_is_sent_again() {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let gate = gate(listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let connections = Arc::new(AtomicUsize::new(0));
    runtime.spawn(rejecting(listener, count.clone(), connections.clone()));
    let client = Http2::connect(&gate);
    for method in ["GET", "POST", "GET", "POST"] {
        let request = Request::builder().method(method).uri("http://shop.example/a").body(Http2::empty()).unwrap();
        assert_eq!(client.ask(request).1, "done", "{method}");
    }
    assert_eq!(count.load(Ordering::SeqCst), 7);
    // The connection of a rejected stream stays in use.
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

#[test]
fn a_backend_that_shuts_down_fails_no_request() {
    // A raw backend: it responds to the first request of a connection and sends GOAWAY for it at the second.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gate = gate(listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let opened = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            opened.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || going(stream.unwrap()));
        }
    });
    let client = Http2::connect(&gate);
    for _ in 0..6 {
        let request = Request::get("http://shop.example/a").body(Http2::empty()).unwrap();
        let (status, text, _) = client.ask(request);
        assert_eq!((status, text.as_str()), (200, "done"));
    }
    assert_eq!(connections.load(Ordering::SeqCst), 6);
}

fn going(mut stream: std::net::TcpStream) {
    use std::io::Read as _;
    let mut preface = [0; 24];
    stream.read_exact(&mut preface).unwrap();
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let mut served = false;
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).is_err() {
            return;
        }
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        stream.read_exact(&mut payload).unwrap();
        match (head[3], served) {
            (4, _) if head[4] & 1 == 0 => stream.write_all(&[0, 0, 0, 4, 1, 0, 0, 0, 0]).unwrap(),
            (1, false) => {
                served = true;
                let id = [head[5], head[6], head[7], head[8]];
                // :status 200, by its number in the static table; then the body.
                stream.write_all(&[&[0, 0, 1, 1, 4][..], &id, &[0x88]].concat()).unwrap();
                stream.write_all(&[&[0, 0, 4, 0, 1][..], &id, b"done"].concat()).unwrap();
            }
            (1, true) => {
                // GOAWAY: nothing after the first stream was processed.
                stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]).unwrap();
                return;
            }
            _ => {}
        }
    }
}
