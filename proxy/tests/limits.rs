//! Limits while the configuration and the fleet change under traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sluice_wire::*;

use crate::harness::*;

fn limited(burst: u32) -> (PartName, PartBody) {
    stage_part(StagePart { throttle: Some(Throttle { rate: 0, per_ms: 1000, burst }), ..stage() })
}

/// Clients that send requests until they are stopped; counts the responses with 200.
struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    clients: Vec<std::thread::JoinHandle<usize>>,
}

impl Traffic {
    fn start(gate: &Gate) -> Self {
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let address = gate.proxy.http_addr().unwrap();
        let client = |_| {
            let (stop, sent) = (stop.clone(), sent.clone());
            std::thread::spawn(move || {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                let mut passed = 0;
                while !stop.load(Ordering::SeqCst) {
                    std::io::Write::write_all(&mut stream, b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
                    let status = read_response(&mut stream).status;
                    assert!(status == 200 || status == 429, "{status}");
                    passed += usize::from(status == 200);
                    sent.fetch_add(1, Ordering::SeqCst);
                }
                passed
            })
        };
        let clients = (0..4).map(client).collect();
        Self { stop, sent, clients }
    }

    /// Waits until this many more responses have arrived.
    fn more(&self, requests: usize) {
        let goal = self.sent.load(Ordering::SeqCst) + requests;
        eventually("requests", || self.sent.load(Ordering::SeqCst) >= goal);
    }

    fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.into_iter().map(|client| client.join().unwrap()).sum()
    }
}

#[test]
fn changes_of_burst_and_fleet_under_traffic_add_no_tokens() {
    let mut gate = Gate::start();
    gate.put(vec![limited(100), route("r", vec![rule("a", "GET", "/a", policy(mock("a")))])]);
    let traffic = Traffic::start(&gate);
    traffic.more(200);
    for round in 0..10 {
        for burst in [10, 0, 50, 100] {
            gate.put(vec![limited(burst)]);
            traffic.more(20);
        }
        for proxies in [2, 3 + round, 1] {
            gate.proxy.set_fleet(proxies);
            traffic.more(20);
        }
    }
    // A larger burst permits more requests, and they are served.
    gate.put(vec![limited(130)]);
    traffic.more(200);
    assert_eq!(traffic.stop(), 130);
}

#[test]
fn a_growing_fleet_under_traffic_lets_no_more_through_than_one_proxy() {
    let mut gate = Gate::start();
    gate.put(vec![limited(100), route("r", vec![rule("a", "GET", "/a", policy(mock("a")))])]);
    let traffic = Traffic::start(&gate);
    for proxies in [4, 3, 2, 1] {
        gate.proxy.set_fleet(proxies);
        traffic.more(200);
    }
    assert_eq!(traffic.stop(), 100);
}
