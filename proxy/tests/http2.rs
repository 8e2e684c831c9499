//! HTTP/2 with clients and backends: trailers, and backends that reject a stream as not processed.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use sluice_kit::http2_backend::{Http2Backend, Number, RawBackend, Reaction, runtime};
use sluice_wire::*;

use crate::harness::*;

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

/// Responds with the body and trailers that were received, and sends trailers.
async fn echo(request: Request<Incoming>) -> Response<impl http_body::Body<Data = Bytes, Error = Infallible> + Send> {
    let (mut body, mut data, mut seen) = (request.into_body(), Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(piece) => data.extend_from_slice(&piece),
            Err(frame) => seen = frame.into_trailers().unwrap(),
        }
    }
    let text = format!("{} {seen:?}", String::from_utf8(data).unwrap());
    Response::new(frames(vec![Frame::data(Bytes::from(text)), trailers("grpc-status", "0")]))
}

#[test]
fn trailers_of_responses_are_forwarded_and_those_of_requests_are_not() {
    let runtime = runtime();
    let gate = gate(Http2Backend::start(&runtime, 100, echo).address);
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

#[test]
fn a_response_with_white_space_around_a_value_is_malformed() {
    let runtime = runtime();
    let padded = |request: Request<Incoming>| async move {
        let value = match request.uri().path() {
            "/front" => " x",
            "/back" => "x\t",
            _ => "x y",
        };
        Response::builder().header("x-value", value).body(frames(vec![])).unwrap()
    };
    let gate = gate(Http2Backend::start(&runtime, 100, padded).address);
    for (path, status) in [("/front", 502), ("/back", 502), ("/inside", 200)] {
        assert_eq!(gate.get(path).status, status, "{path}");
    }
}

#[test]
fn a_request_that_the_backend_did_not_process_is_sent_again() {
    let runtime = runtime();
    let every_second =
        |number: Number| if number.of_all.is_multiple_of(2) { Reaction::Reject } else { Reaction::Respond };
    let backend = RawBackend::start(&runtime, 100, every_second);
    backend.respond.send_replace(true);
    let gate = gate(backend.address);
    let client = Http2::connect(&gate);
    for method in ["GET", "POST", "GET", "POST"] {
        let request = Request::builder().method(method).uri("http://shop.example/a").body(Http2::empty()).unwrap();
        assert_eq!(client.ask(request).1, "done", "{method}");
    }
    // The connection of a rejected stream stays in use.
    assert_eq!((backend.requests(), backend.connections()), (7, 1));
}

#[test]
fn a_backend_that_shuts_down_fails_no_request() {
    let runtime = runtime();
    // The first request of a connection gets a response, the second GOAWAY.
    let second = |number: Number| if number.of_connection > 1 { Reaction::GoAway } else { Reaction::Respond };
    let backend = RawBackend::start(&runtime, 100, second);
    backend.respond.send_replace(true);
    let gate = gate(backend.address);
    let client = Http2::connect(&gate);
    for _ in 0..6 {
        let request = Request::get("http://shop.example/a").body(Http2::empty()).unwrap();
        let (status, text, _) = client.ask(request);
        assert_eq!((status, text.as_str()), (200, "done"));
    }
    assert_eq!(backend.connections(), 6);
}
