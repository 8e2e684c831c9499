//! Hits, single flight, and the bound in bytes.

use sluice_wire::{Behavior, CacheScope, Invalidation, PartKind, PartName, RuleCache, StageCache, Unauthorized};

use super::*;

const LONG: Duration = Duration::from_secs(30);

fn key(path: &str) -> Key {
    let rule = RuleCache { ttl_ms: None, keys: vec![], methods: vec!["GET".into()], scope: CacheScope::Shared };
    let stage = StageCache {
        ttl_ms: 1000,
        max_bytes: 0,
        invalidation: Invalidation::None,
        unauthorized: Unauthorized::FailWith403,
    };
    let (stage_name, route) = (PartName::new(PartKind::Stage, "a/s"), PartName::new(PartKind::Route, "a/r"));
    let id = RuleId { stage: &stage_name, route: &route, rule: "x" };
    let policy = CachePolicy::compile(&rule, &stage, Behavior::Native);
    policy.key(id, &http::Method::GET, path, CallerKey::default(), |_| None::<&str>)
}

fn stored(body: &'static str, now: Instant, ttl: Duration) -> Stored {
    let head = Head { status: StatusCode::OK, headers: HeaderMap::new(), stored_at: now, ttl };
    head.with_body(Bytes::from_static(body.as_bytes()))
}

fn lead(look: Look) -> Lead {
    match look {
        Look::Lead(lead) => lead,
        other => panic!("{other:?} instead of a lead"),
    }
}

fn wait(look: Look) -> Wait {
    match look {
        Look::Wait(wait) => wait,
        other => panic!("{other:?} instead of a wait"),
    }
}

#[test]
fn an_answer_is_a_hit_until_it_is_stale() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    lead(cache.look(key("/a"), now)).keep(stored("a", now, Duration::from_secs(5)));
    let Look::Hit(hit) = cache.look(key("/a"), now + Duration::from_secs(4)) else { panic!("no hit") };
    assert_eq!(hit.body, "a");
    assert_eq!(hit.age(now + Duration::from_secs(4)), Duration::from_secs(4));
    assert_eq!(hit.remaining(now + Duration::from_secs(4)), Some(Duration::from_secs(1)));
    drop(lead(cache.look(key("/a"), now + Duration::from_secs(5))));
    drop(lead(cache.look(key("/b"), now)));
}

#[tokio::test]
async fn of_many_requests_one_leads_and_all_get_its_answer() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let leader = lead(cache.look(key("/a"), now));
    let followers: Vec<_> = (0..100).map(|_| tokio::spawn(wait(cache.look(key("/a"), now)).answer(LONG))).collect();
    leader.keep(stored("once", now, LONG));
    for follower in followers {
        assert_eq!(follower.await.unwrap().unwrap().body, "once");
    }
    assert!(cache.flights().is_empty());
}

#[tokio::test]
async fn a_leader_that_gives_up_lets_the_others_go_on() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let leader = lead(cache.look(key("/a"), now));
    let follower = wait(cache.look(key("/a"), now));
    drop(leader);
    assert!(follower.answer(LONG).await.is_none());
    drop(lead(cache.look(key("/a"), now)));
    assert!(cache.flights().is_empty());
}

#[tokio::test]
async fn a_leader_that_takes_too_long_is_not_waited_for() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let leader = lead(cache.look(key("/a"), now));
    let follower = wait(cache.look(key("/a"), now));
    assert!(follower.answer(Duration::from_millis(1)).await.is_none());
    leader.keep(stored("late", now, LONG));
    assert!(matches!(cache.look(key("/a"), now), Look::Hit(_)));
}

#[test]
fn what_cannot_be_kept_is_not_waited_for() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    lead(cache.look(key("/a"), now)).pass(now);
    let (one, two) = (lead(cache.look(key("/a"), now)), lead(cache.look(key("/a"), now)));
    drop((one, two));
    let later = now + APART + Duration::from_secs(1);
    let _leader = lead(cache.look(key("/a"), later));
    drop(wait(cache.look(key("/a"), later)));
}

#[test]
fn a_refresh_replaces_what_is_kept() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    lead(cache.look(key("/a"), now)).keep(stored("old", now, LONG));
    cache.refresh(key("/a")).keep(stored("new", now, LONG));
    let Look::Hit(hit) = cache.look(key("/a"), now) else { panic!("no hit") };
    assert_eq!(hit.body, "new");
}

#[test]
fn the_store_never_outgrows_its_bytes() {
    let cache = Cache::new(64 << 10);
    let now = Instant::now();
    for i in 0..1000 {
        let head = Head { status: StatusCode::OK, headers: HeaderMap::new(), stored_at: now, ttl: LONG };
        cache.refresh(key(&format!("/{i}"))).keep(head.with_body(Bytes::from(vec![0; 1024])));
        assert!(cache.stored.weight() <= 64 << 10);
    }
    assert!(cache.stored.weight() > 32 << 10);
    cache.resize(16 << 10);
    assert!(cache.stored.weight() <= 16 << 10);
}
