//! Limits while the configuration and the fleet change under traffic.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sluice_proxy::run::{AddressHeader, TrustedProxies};
use sluice_wire::*;

use crate::harness::*;
use crate::policy::{signer, token};

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

fn per_client(burst: u32) -> ClientThrottle {
    ClientThrottle { throttle: Throttle { rate: 1, per_ms: 86_400_000, burst }, ipv4_prefix: 24, ipv6_prefix: 64 }
}

/// The status, and the headers with the limits, of a request from `source` behind a trusted proxy.
fn limited_get(gate: &Gate, path: &str, source: &str, token: Option<&str>) -> (u16, String, String) {
    let mut headers = vec![("x-forwarded-for", source)];
    headers.extend(token.map(|token| ("authorization", token)));
    let response = gate.request("GET", path, &headers, "");
    let header = |name| response.header(name).unwrap_or_default().to_owned();
    (response.status, header("ratelimit-policy"), header("ratelimit"))
}

#[test]
fn each_client_has_its_own_limit_before_credentials_are_verified() {
    let mut gate = Gate::configured(|settings| {
        let (networks, header) = (vec!["127.0.0.0/8".parse().unwrap()], AddressHeader::XForwardedFor);
        settings.trusted_proxies = TrustedProxies { networks, header, hops: None };
    });
    let (key, set) = signer();
    let (name, login) = login(set);
    let own = RulePolicy { client_throttle: Some(per_client(2)), ..policy(mock("own")) };
    let guarded = RulePolicy {
        throttle: Some(Throttle { rate: 1, per_ms: 1000, burst: 7 }),
        authorizer: Some(AuthorizerUse { part: name.clone(), scopes: vec![] }),
        ..policy(mock("guarded"))
    };
    let stage = StagePart { client_throttle: Some(per_client(3)), rate_limit_headers: true, ..stage() };
    gate.put(vec![
        stage_part(stage),
        (name, PartBody::Authorizer(login)),
        route("r", vec![rule("own", "GET", "/own", own), rule("guarded", "GET", "/guarded", guarded)]),
    ]);
    let whole = |q: u32| format!("\"client\";q={q};w={}", q * 86_400);
    for (expected, left) in [(200, 1), (200, 0), (429, 0), (429, 0)] {
        let (status, policy, state) = limited_get(&gate, "/own", "192.0.2.7", None);
        assert_eq!((status, policy), (expected, whole(2)));
        assert!(state.starts_with(&format!("\"client\";r={left};t=")), "{state}");
    }
    // Of the same network, of another one, and with another rule.
    assert_eq!(limited_get(&gate, "/own", "192.0.2.200", None).0, 429);
    assert_eq!(limited_get(&gate, "/own", "192.0.3.7", None).0, 200);
    for expected in [401, 401, 401, 429] {
        let (status, policy, _) = limited_get(&gate, "/guarded", "192.0.2.7", Some("Bearer x"));
        assert_eq!((status, policy), (expected, whole(3)));
    }
    let (status, policy, state) = limited_get(&gate, "/guarded", "2001:db8::1", Some(&token(&key, "ann", "")));
    assert_eq!((status, policy), (200, format!("{}, \"rule\";q=7;w=7", whole(3))));
    assert!(state.contains("\"client\";r=2;t=") && state.contains("\"rule\";r=6;t=1"), "{state}");
    assert_eq!(gate.metric(r#"sluice_throttled_total{scope="client",stage="shop/prod"}"#), 4.0);
}
