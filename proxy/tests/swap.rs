//! Changes of configuration while requests are in progress.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sluice_wire::*;

use crate::harness::*;

#[test]
fn no_request_fails_while_the_configuration_changes() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        route("r", vec![rule("r", "GET", "/a", policy(service()))]),
    ]);
    let stop = Arc::new(AtomicBool::new(false));
    let address = gate.proxy.http_addr().unwrap();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                let mut count = 0;
                while !stop.load(Ordering::SeqCst) {
                    std::io::Write::write_all(&mut stream, b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
                    assert_eq!(read_response(&mut stream).status, 200);
                    count += 1;
                }
                count
            })
        })
        .collect();
    for n in 0..100 {
        let other = route("other", vec![rule("o", "GET", &format!("/o{n}"), policy(mock("o")))]);
        gate.put(vec![other, upstream(&[backend.address])]);
        assert_eq!(gate.get(&format!("/o{n}")).status, 200);
    }
    stop.store(true, Ordering::SeqCst);
    let total: u32 = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(total > 100, "{total}");
}

#[test]
fn a_change_with_another_base_or_a_wrong_version_is_rejected() {
    let gate = Gate::start();
    let (name, body) = stage_part(stage());
    let part = Part::new(name.clone(), &body);
    let version = Parts::from_iter([(name, part.hash)]).version();
    let wrong = gate.proxy.apply(Delta { base: Hash::of(b"x"), version, upsert: vec![part.clone()], remove: vec![] });
    assert!(matches!(wrong.outcome, Outcome::Rejected { .. }));
    let wrong = gate.proxy.apply(Delta {
        base: Hash::NONE,
        version: Hash::of(b"x"),
        upsert: vec![part.clone()],
        remove: vec![],
    });
    assert!(matches!(wrong.outcome, Outcome::Rejected { .. }));
    assert_eq!(gate.metric("sluice_config_rejected_total"), 2.0);
    assert_eq!(gate.get("/").status, 503);
    let right = gate.proxy.apply(Delta { base: Hash::NONE, version, upsert: vec![part], remove: vec![] });
    assert_eq!(right.outcome, Outcome::Applied);
    assert_eq!(gate.get("/").status, 404);
}

#[test]
fn a_part_of_a_newer_version_affects_no_other_part() {
    let mut gate = Gate::start();
    gate.put(vec![stage_part(stage()), route("good", vec![rule("g", "GET", "/good", policy(mock("good")))])]);
    let (name, body) = route(
        "new",
        vec![rule("n", "GET", "/new", policy(mock("new"))), rule("m", "GET", "/old", policy(mock("old")))],
    );
    let json = Part::new(name.clone(), &body).json.replacen(r#"{"Mock":"#, r#"{"Lambda":"#, 1);
    let part = Part { name: name.clone(), hash: Hash::of(json.as_bytes()), json: json.into() };
    let (good, stage) = (route("good", vec![rule("g", "GET", "/good", policy(mock("good")))]), stage_part(stage()));
    let mut parts: Vec<Part> = [good, stage].iter().map(|(name, body)| Part::new(name.clone(), body)).collect();
    parts.push(part);
    let version = parts.iter().map(|part| (part.name.clone(), part.hash)).collect::<Parts<Hash>>().version();
    let ack = gate.proxy.apply(Delta { base: Hash::NONE, version, upsert: parts, remove: vec![] });
    assert_eq!(ack.diagnostics.len(), 1, "{ack:?}");
    assert_eq!(ack.diagnostics[0].object.id(), "shop/new");
    assert_eq!((gate.get("/good").status, gate.get("/new").status, gate.get("/old").status), (200, 500, 200));
}

#[test]
fn removed_parts_are_not_served() {
    let mut gate = Gate::start();
    let (name, body) = route("r", vec![rule("r", "GET", "/a", policy(mock("a")))]);
    gate.put(vec![stage_part(stage()), (name.clone(), body)]);
    assert_eq!(gate.get("/a").status, 200);
    gate.remove(name);
    assert_eq!(gate.get("/a").status, 404);
    gate.remove(stage_name());
}

#[test]
fn a_proxy_that_shuts_down_completes_requests_in_progress() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let backend = Backend::start(move |_, _| {
        wait.lock().unwrap().recv().unwrap();
        ok("slow")
    });
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        route("r", vec![rule("r", "GET", "/a", policy(service()))]),
    ]);
    let mut stream = gate.connect();
    std::io::Write::write_all(&mut stream, b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    eventually("a request", || backend.requests.load(Ordering::SeqCst) == 1);
    let address = gate.proxy.http_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| gate.proxy.shutdown(std::time::Duration::from_secs(10)));
        eventually("no new connections", || std::net::TcpStream::connect(address).is_err());
        go.send(()).unwrap();
        assert_eq!(read_response(&mut stream).body, "slow");
    });
    assert!(std::net::TcpStream::connect(address).is_err());
}
