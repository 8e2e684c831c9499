//! Buffered request bodies: when they are buffered, the limits, and what buffering permits. Streamed bodies are tested in
//! `forwarding` and `slow`.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use sluice_wire::*;

use crate::harness::*;

fn gate_with(behavior: Behavior, buffer_limit: Option<u64>, address: SocketAddr, memory: u64) -> Gate {
    gate_with_limits(behavior, (None, buffer_limit), address, memory)
}

fn gate_with_limits(
    behavior: Behavior,
    (body_limit, buffer_limit): (Option<u64>, Option<u64>),
    address: SocketAddr,
    memory: u64,
) -> Gate {
    // One thread: requests one after the other use the same connection to the backend.
    let mut gate =
        Gate::configured(|settings| (settings.limits.buffer_memory, settings.threads) = (Some(memory), Some(1)));
    let served = RulePolicy { body_limit, buffer_limit, ..policy(service()) };
    let rules = vec![rule("r", "ANY", "/a", served)];
    gate.put(vec![stage_part(StagePart { behavior, ..stage() }), upstream(&[address]), route("r", rules)]);
    gate
}

const CHUNKED: &str = "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n";

#[test]
fn an_aws_stage_gives_its_integration_a_body_with_a_length() {
    let backend = Backend::echo();
    for behavior in [Behavior::AwsRest, Behavior::AwsHttp] {
        let gate = gate_with(behavior, None, backend.address, 1 << 20);
        let response = gate.raw(&format!("{CHUNKED}3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"));
        assert_eq!(response.status, 200);
        let body = response.body.to_lowercase();
        assert!(body.contains("content-length: 5") && body.ends_with("hello"), "{body}");
        assert!(!body.contains("transfer-encoding"), "{body}");
        assert_eq!(gate.metric("sluice_buffered_body_bytes "), 0.0);
    }
}

#[test]
fn a_body_that_is_too_long_to_be_buffered_never_reaches_the_integration() {
    let backend = Backend::echo();
    let gate = gate_with(Behavior::AwsHttp, Some(4), backend.address, 1 << 20);
    let response = gate.raw(&format!("{CHUNKED}3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"));
    assert_eq!((response.status, backend.requests()), (413, 0));
    // A length that is known in advance needs no buffer, and has the stage's limit.
    assert_eq!(gate.request("POST", "/a", &[], "hello").status, 200);
}

#[test]
fn a_rule_rejects_bodies_over_its_limit_with_each_behavior() {
    let backend = Backend::echo();
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        let gate = gate_with_limits(behavior, (Some(4), None), backend.address, 1 << 20);
        let before = backend.requests();
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
            assert_eq!(gate.request(method, "/a", &[], "hello").status, 413, "{behavior:?} {method}");
        }
        assert_eq!(backend.requests(), before, "{behavior:?}: a known length is rejected before the backend is called");
        for method in ["POST", "PUT"] {
            let accepted = gate.request(method, "/a", &[], "hell");
            assert!(accepted.status == 200 && accepted.body.ends_with("hell"), "{behavior:?} {method}");
        }
        for kind in ["text/plain", "application/grpc"] {
            let head = CHUNKED.replace("\r\n\r\n", &format!("\r\ncontent-type: {kind}\r\n\r\n"));
            let whole = gate.raw(&format!("{head}3\r\nhel\r\n1\r\nl\r\n0\r\n\r\n"));
            assert_eq!(whole.status, 200, "{behavior:?} {kind} of unknown length");
            let longer = gate.raw(&format!("{head}3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"));
            assert_eq!(longer.status, 413, "{behavior:?} {kind} of unknown length");
        }
        assert_eq!(
            gate.metric(r#"sluice_rejects_total{reason="BodyTooLarge",stage="shop/prod"}"#),
            7.0,
            "{behavior:?}"
        );
    }
}

#[test]
fn the_limit_of_a_rule_does_not_raise_that_of_its_behavior() {
    let backend = Backend::echo();
    let length = (10 << 20) + 1;
    let head = format!("POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: {length}\r\n\r\n");
    for behavior in [Behavior::AwsRest, Behavior::AwsHttp] {
        let gate = gate_with_limits(behavior, (Some(1 << 30), Some(1 << 30)), backend.address, 1 << 20);
        assert_eq!(gate.raw(&head).status, 413, "{behavior:?}");
    }
    let gate = gate_with_limits(Behavior::Native, (Some(length), None), backend.address, 1 << 20);
    assert_eq!(gate.request("POST", "/a", &[], &"x".repeat(length as usize)).status, 200);
    assert_eq!(gate.raw(&head.replace(&length.to_string(), &(length + 1).to_string())).status, 413);
}

#[test]
fn the_limit_for_buffered_bodies_is_at_most_the_limit_for_bodies() {
    let backend = Backend::echo();
    let gate = gate_with_limits(Behavior::AwsHttp, (Some(4), Some(100)), backend.address, 1 << 20);
    let response = gate.raw(&format!("{CHUNKED}3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"));
    assert_eq!((response.status, backend.requests()), (413, 0));
}

#[test]
fn a_call_of_grpc_is_streamed_by_an_aws_stage_too() {
    let backend = Backend::echo();
    let gate = gate_with(Behavior::AwsHttp, Some(4), backend.address, 0);
    let head = CHUNKED.replace("\r\n\r\n", "\r\ncontent-type: application/grpc+proto\r\n\r\n");
    let response = gate.raw(&format!("{head}5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!(response.status, 200);
}

#[test]
fn when_the_memory_for_bodies_is_in_use_a_request_that_needs_some_is_rejected() {
    let backend = Backend::echo();
    let gate = gate_with(Behavior::AwsHttp, None, backend.address, 20 * 1024);
    let mut slow = gate.connect();
    slow.write_all(format!("{CHUNKED}3\r\nhel\r\n").as_bytes()).unwrap();
    eventually("buffered", || gate.metric("sluice_buffered_body_bytes ") > 0.0);
    let response = gate.raw(&format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n"));
    assert_eq!((response.status, backend.requests()), (503, 0));
    assert_eq!(gate.metric(r#"sluice_rejects_total{reason="BufferMemory",stage="shop/prod"}"#), 1.0);
    assert_eq!(gate.metric("sluice_buffered_body_limit_bytes "), 20.0 * 1024.0);
    // A body whose length is known is not buffered.
    assert_eq!(gate.request("POST", "/a", &[], "hello").status, 200);
    slow.write_all(b"2\r\nlo\r\n0\r\n\r\n").unwrap();
    assert_eq!(read_response(&mut slow).status, 200);
    eventually("released", || gate.metric("sluice_buffered_body_bytes ") == 0.0);
    assert_eq!(gate.raw(&format!("{CHUNKED}5\r\nhello\r\n0\r\n\r\n")).status, 200);
}

#[test]
fn a_client_that_disconnects_releases_the_memory_of_its_body() {
    let backend = Backend::echo();
    let gate = gate_with(Behavior::AwsHttp, None, backend.address, 20 * 1024);
    let mut slow = gate.connect();
    slow.write_all(format!("{CHUNKED}3\r\nhel\r\n").as_bytes()).unwrap();
    eventually("buffered", || gate.metric("sluice_buffered_body_bytes ") > 0.0);
    drop(slow);
    eventually("released", || gate.metric("sluice_buffered_body_bytes ") == 0.0);
}

/// Responds to the first request of each connection, and closes the connection when it has read the second.
fn closing_at_the_second_request() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = connections.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            std::thread::spawn(move || {
                let head = read_head(&mut stream);
                let mut body = vec![0; head.header("content-length").map_or(0, |length| length.parse().unwrap())];
                stream.read_exact(&mut body).unwrap();
                let text = String::from_utf8(body).unwrap();
                stream.write_all(ok(&format!("got {text}")).as_bytes()).unwrap();
                let _ = stream.read(&mut [0; 4096]);
            });
        }
    });
    (address, connections)
}

#[test]
fn an_idempotent_request_with_a_small_body_is_sent_once_more_when_its_connection_is_lost() {
    for method in ["PUT", "DELETE"] {
        let (address, connections) = closing_at_the_second_request();
        let gate = gate_with(Behavior::Native, None, address, 1 << 20);
        for _ in 0..5 {
            let response = gate.request(method, "/a", &[], "hello");
            assert_eq!((response.status, response.body.as_str()), (200, "got hello"), "{method}");
        }
        assert_eq!(connections.load(Ordering::SeqCst), 5);
        eventually("released", || gate.metric("sluice_buffered_body_bytes ") == 0.0);
    }
}

#[test]
fn other_requests_with_a_body_are_not_sent_again() {
    for (method, memory, length) in [("POST", 1 << 20, 5), ("PUT", 0, 5), ("PUT", 1 << 20, 65 * 1024)] {
        let (address, connections) = closing_at_the_second_request();
        let gate = gate_with(Behavior::Native, None, address, memory);
        let body = "x".repeat(length);
        assert_eq!(gate.request(method, "/a", &[], &body).status, 200, "{method} of {length} bytes");
        assert_eq!(gate.request(method, "/a", &[], &body).status, 502, "{method} of {length} bytes");
        assert_eq!(connections.load(Ordering::SeqCst), 1);
    }
}
