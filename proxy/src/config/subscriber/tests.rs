//! Deltas that apply, and deltas that must not.

use std::collections::BTreeMap;
use std::slice::from_ref;
use std::sync::{Arc, Mutex};

use sluice_wire::{MAX_PART_BYTES, Part, PartKind, Parts};

use super::*;

type Calls = Arc<Mutex<Vec<(usize, Vec<String>, Vec<String>)>>>;

pub(crate) fn recording() -> (Sink, Calls) {
    let calls = Calls::default();
    let record = Arc::clone(&calls);
    let names = |names: &[PartName]| names.iter().map(ToString::to_string).collect();
    let apply = Box::new(move |parts: &Parts<Part>, changed: &[PartName], removed: &[PartName]| {
        record.lock().unwrap().push((parts.len(), names(changed), names(removed)));
        Vec::new()
    });
    let sink = Sink {
        apply,
        set_fleet: Box::new(|_| {}),
        set_connected: Box::new(|_| {}),
        rejected: Box::new(|| {}),
        access_reviews: AccessReviews::default(),
        key_uses: KeyUses::default(),
    };
    (sink, calls)
}

fn part(id: &str, json: &str) -> Part {
    Part { name: PartName::new(PartKind::Route, id), hash: Hash::of(json.as_bytes()), json: json.into() }
}

fn delta(base: Hash, before: &[Part], upsert: &[Part], remove: &[&Part]) -> Delta {
    let mut all: Parts<Hash> = before.iter().chain(upsert).map(|p| (p.name.clone(), p.hash)).collect();
    let remove: Vec<PartName> = remove.iter().map(|part| part.name.clone()).collect();
    for name in &remove {
        all.remove(name);
    }
    Delta { base, version: all.version(), upsert: upsert.to_vec(), remove }
}

fn outcome(subscriber: &mut Subscriber, delta: Delta) -> Outcome {
    match subscriber.on_frame(Down::Delta(delta)) {
        Some(Up::Ack(ack)) => ack.outcome,
        other => panic!("{other:?} instead of an ack"),
    }
}

#[test]
fn deltas_change_what_they_name_and_nothing_else() {
    let (sink, calls) = recording();
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink, None);
    let (a, b, b2) = (part("n/a", "{}"), part("n/b", "{}"), part("n/b", "[]"));
    assert_eq!(outcome(&mut subscriber, delta(Hash::NONE, &[], &[a.clone(), b.clone()], &[])), Outcome::Applied);
    let base = subscriber.version();
    assert_eq!(outcome(&mut subscriber, delta(base, &[a.clone(), b.clone()], from_ref(&b2), &[&a])), Outcome::Applied);
    // An empty one, and one that sends what is here already, are acknowledged without work.
    let base = subscriber.version();
    assert_eq!(outcome(&mut subscriber, delta(base, from_ref(&b2), &[], &[])), Outcome::Applied);
    assert_eq!(outcome(&mut subscriber, delta(Hash::NONE, &[], from_ref(&b2), &[])), Outcome::Applied);
    let calls = calls.lock().unwrap();
    let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0], (2, names(&["route/n/a", "route/n/b"]), vec![]));
    assert_eq!(calls[1], (1, names(&["route/n/b"]), names(&["route/n/a"])));
    let Up::Hello(hello) = subscriber.hello() else { panic!("no hello") };
    assert_eq!(hello.parts, BTreeMap::from([(b2.name, b2.hash)]));
}

#[test]
fn a_full_delta_takes_away_what_it_does_not_name() {
    let (sink, calls) = recording();
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink, None);
    let (a, b) = (part("n/a", "{}"), part("n/b", "{}"));
    outcome(&mut subscriber, delta(Hash::NONE, &[], &[a], &[]));
    assert_eq!(outcome(&mut subscriber, delta(Hash::NONE, &[], &[b], &[])), Outcome::Applied);
    assert_eq!(calls.lock().unwrap()[1].2, vec!["route/n/a".to_owned()]);
}

#[test]
fn a_mismatch_is_rejected_and_changes_nothing() {
    let (sink, calls) = recording();
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink, None);
    let a = part("n/a", "{}");
    outcome(&mut subscriber, delta(Hash::NONE, &[], from_ref(&a), &[]));
    let base = subscriber.version();
    let b = part("n/b", "{}");
    let lying = Part { hash: Hash::of(b"else"), ..b.clone() };
    let long = part("n/b", &" ".repeat(MAX_PART_BYTES + 1));
    let wrong_version = Delta { version: Hash::of(b"x"), ..delta(base, from_ref(&a), from_ref(&b), &[]) };
    let wrong_base = delta(Hash::of(b"x"), from_ref(&a), &[b], &[]);
    for bad in [delta(base, from_ref(&a), &[lying], &[]), delta(base, &[a], &[long], &[]), wrong_version, wrong_base] {
        assert!(matches!(outcome(&mut subscriber, bad), Outcome::Rejected { .. }));
        assert_eq!(subscriber.version(), base);
    }
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_restart_serves_the_last_known_good_before_anything_arrives() {
    let dir = std::env::temp_dir().join(format!("sluice-subscriber-{}", std::process::id()));
    let store = Store::open(&dir, &FleetName::default()).unwrap();
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), recording().0, Some(store.clone()));
    outcome(&mut subscriber, delta(Hash::NONE, &[], &[part("n/a", "{}")], &[]));
    let version = subscriber.version();
    let (sink, calls) = recording();
    assert!(subscriber.on_frame(Down::Fleet { proxies: 3 }).is_none());
    store.flush().await;
    let shares = Arc::new(Mutex::new(1));
    let received = Arc::clone(&shares);
    let sink = Sink { set_fleet: Box::new(move |proxies| *received.lock().unwrap() = proxies), ..sink };
    let again = Subscriber::start("p".into(), FleetName::default(), sink, Some(store));
    assert_eq!(*shares.lock().unwrap(), 3);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(again.version(), version);
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[test]
fn an_empty_configuration_is_valid_and_can_be_continued() {
    let (sink, calls) = recording();
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), sink, None);
    for _ in 0..2 {
        assert_eq!(outcome(&mut subscriber, delta(Hash::NONE, &[], &[], &[])), Outcome::Applied);
        assert_eq!(calls.lock().unwrap().len(), 1);
    }
    let base = subscriber.version();
    assert_eq!(outcome(&mut subscriber, delta(base, &[], &[part("n/a", "{}")], &[])), Outcome::Applied);
}

#[test]
fn pings_get_a_pong() {
    let mut subscriber = Subscriber::start("p".into(), FleetName::default(), recording().0, None);
    assert_eq!(subscriber.on_frame(Down::Ping), Some(Up::Pong));
    assert_eq!(subscriber.on_frame(Down::Fleet { proxies: 0 }), None);
}
