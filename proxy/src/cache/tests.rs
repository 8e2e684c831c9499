//! Hits, coalesced requests, and the bound in bytes.

use sluice_wire::{Behavior, CacheScope, HeaderEdits, Integration, Invalidation, Mock, PartKind, PartName};
use sluice_wire::{Rule, RuleAction, RuleCache, RulePolicy, StageCache, Unauthorized};

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::fetch::{FILL_TIMEOUT, Wait};
use super::store::HIT_FOR_MISS;
use super::*;
use crate::template::NoVariables;

const LONG: Duration = Duration::from_secs(30);

fn key(path: &str) -> Key {
    let cache = RuleCache {
        ttl_ms: None,
        keys: vec![],
        unkeyed: vec![],
        methods: vec!["GET".into()],
        scope: CacheScope::Shared,
    };
    let stage = StageCache {
        ttl_ms: 1000,
        max_bytes: 0,
        invalidation: Invalidation::None,
        unauthorized: Unauthorized::FailWith403,
    };
    let policy = RulePolicy {
        source: None,
        authorize: Vec::new(),
        authorizer: None,
        api_key: false,
        optional_key: false,
        alternative_key: false,
        throttle: None,
        client_throttle: None,
        cors: None,
        cache: None,
        request_headers: HeaderEdits::default(),
        response_headers: HeaderEdits::default(),
        timeout_ms: 1000,
        body_limit: None,
        buffer_limit: None,
        integration: Integration::Mock(Mock { status: 200, headers: vec![], body: String::new() }),
    };
    let rule = Rule {
        name: "x".into(),
        methods: vec![],
        path: "/{p+}".parse().unwrap(),
        headers: vec![],
        query: vec![],
        action: RuleAction::Serve(Box::new(policy)),
    };
    let (stage_name, route) = (PartName::new(PartKind::Stage, "a/s"), PartName::new(PartKind::Route, "a/r"));
    let rule_at_stage =
        RuleAtStage { stage: &stage_name, behavior: Behavior::Native, route: &route, version: None, rule: &rule };
    let anonymous =
        CallerKey { identity: None, credential: None, api_key: None, certificate: None, headers: &HeaderMap::new() };
    let port = HeaderValue::from_static("80");
    let target =
        Target { method: &http::Method::GET, path, authority: None, tls: false, port: &port, certificate: None };
    CachePolicy::compile(&rule_at_stage, &cache, &stage).key(&target, anonymous, &NoVariables)
}

fn head(now: Instant, ttl: Duration) -> Head {
    let (headers, age) = (HeaderMap::new(), Duration::ZERO);
    Head { status: StatusCode::OK, headers, stored_at: now, ttl, age, variant: None }
}

fn keep(lead: Lead, body: &str, now: Instant, ttl: Duration) {
    lead.keep(head(now, ttl), body.as_bytes().into());
}

fn response(waited: Waited) -> Arc<Stored> {
    match waited {
        Waited::Response(stored) => stored,
        other => panic!("{other:?} instead of a response"),
    }
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
fn a_response_is_a_hit_until_it_is_stale() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    keep(lead(cache.look(key("/a"), now)), "a", now, Duration::from_secs(5));
    let Look::Hit(hit) = cache.look(key("/a"), now + Duration::from_secs(4)) else { panic!("no hit") };
    assert_eq!(hit.body, "a");
    assert_eq!(hit.age(now + Duration::from_secs(4)), Duration::from_secs(4));
    assert_eq!(hit.remaining(now + Duration::from_secs(4)), Some(Duration::from_secs(1)));
    drop(lead(cache.look(key("/a"), now + Duration::from_secs(5))));
    drop(lead(cache.look(key("/b"), now)));
}

#[tokio::test]
async fn one_of_many_requests_calls_the_backend_and_all_get_its_response() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let leader = lead(cache.look(key("/a"), now));
    let followers: Vec<_> =
        (0..100).map(|_| tokio::spawn(wait(cache.look(key("/a"), now)).response(now + LONG))).collect();
    keep(leader, "once", now, LONG);
    for follower in followers {
        assert_eq!(response(follower.await.unwrap()).body, "once");
    }
    assert!(cache.fetches.is_empty());
}

#[tokio::test]
async fn when_the_leader_fails_another_request_leads() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let mut leader = lead(cache.look(key("/a"), now));
    let mut waiting: Vec<Wait> = (0..10).map(|_| wait(cache.look(key("/a"), now))).collect();
    while !waiting.is_empty() {
        drop(leader);
        let mut looks = Vec::new();
        for wait in waiting.drain(..) {
            assert!(matches!(wait.response(now + LONG).await, Waited::Again));
            looks.push(cache.look(key("/a"), now));
        }
        let mut looks = looks.into_iter();
        leader = lead(looks.next().unwrap());
        waiting.extend(looks.map(wait));
    }
    keep(leader, "at last", now, LONG);
    assert!(matches!(cache.look(key("/a"), now), Look::Hit(_)));
    assert!(cache.fetches.is_empty());
}

#[tokio::test]
async fn a_leader_whose_client_does_not_read_delays_no_follower() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let begun = now - FILL_TIMEOUT;
    let stalled = Fill::begin(lead(cache.look(key("/a"), now)), head(now, LONG), None, begun).unwrap();
    // All look again, one leads, and the stalled one's end is not the end of the new flight.
    let (one, two) = (wait(cache.look(key("/a"), now)), wait(cache.look(key("/a"), now)));
    assert!(matches!(one.response(now + LONG).await, Waited::Again));
    let leader = lead(cache.look(key("/a"), now));
    assert!(matches!(two.response(now + LONG).await, Waited::Again));
    let two = wait(cache.look(key("/a"), now));
    drop(stalled);
    let three = wait(cache.look(key("/a"), now));
    keep(leader, "fresh", now, LONG);
    assert_eq!(response(two.response(now + LONG).await).body, "fresh");
    assert_eq!(response(three.response(now + LONG).await).body, "fresh");
    assert!(cache.fetches.is_empty());
}

#[tokio::test]
async fn no_request_waits_past_its_deadline() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let leader = lead(cache.look(key("/a"), now));
    let follower = wait(cache.look(key("/a"), now));
    assert!(matches!(follower.response(now).await, Waited::Late));
    // The backend responds after all: this request may call it.
    let mut keep = Fill::begin(leader, head(now, LONG), None, now + LONG).unwrap();
    let follower = wait(cache.look(key("/a"), now));
    assert!(matches!(follower.response(now).await, Waited::Alone));
    assert!(keep.add(b"late"));
    keep.finish();
    assert!(matches!(cache.look(key("/a"), now), Look::Hit(_)));
}

#[test]
fn a_stored_response_shares_no_memory_with_its_connection() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let buffer = Bytes::from(vec![b'x'; 64 << 10]);
    let within = |bytes: &[u8]| buffer.as_ptr_range().contains(&bytes.as_ptr());
    let mut head = head(now, LONG);
    head.headers.append("x-a", HeaderValue::from_maybe_shared(buffer.slice(..100)).unwrap());
    head.headers.append("x-a", HeaderValue::from_maybe_shared(buffer.slice(100..200)).unwrap());
    assert!(head.headers.values().all(|value| within(value.as_bytes())));
    let mut keep = Fill::begin(lead(cache.look(key("/a"), now)), head, Some(10), now).unwrap();
    assert!(keep.add(&buffer.slice(..10)));
    keep.finish();
    let Look::Hit(hit) = cache.look(key("/a"), now) else { panic!("no hit") };
    assert!(!within(&hit.body) && !hit.headers.values().any(|value| within(value.as_bytes())));
    assert_eq!((hit.body.len(), hit.headers.get_all("x-a").iter().count()), (10, 2));
}

#[test]
fn copies_of_incomplete_responses_share_a_budget() {
    let cache = Cache::new(4 << 20);
    let now = Instant::now();
    let begin = |path: &str, length| Fill::begin(lead(cache.look(key(path), now)), head(now, LONG), length, now);
    let whole = begin("/a", Some(1 << 19)).unwrap();
    let mut growing = begin("/b", None).unwrap();
    assert!(begin("/c", Some(1 << 20)).is_none());
    // No request waits for a response that cannot be stored.
    drop((lead(cache.look(key("/c"), now)), lead(cache.look(key("/c"), now))));
    let piece = vec![0; 1 << 18];
    assert!(growing.add(&piece) && growing.add(&piece));
    assert!(!growing.add(b"x"));
    growing.give_up();
    assert_eq!(cache.budget.taken(), 1 << 19);
    let mut again = begin("/d", Some(1 << 19)).unwrap();
    assert!(again.add(&piece));
    again.finish();
    drop(whole);
    assert_eq!(cache.budget.taken(), 0);
    assert!(begin("/e", Some(1 << 20)).is_some() && begin("/f", Some((1 << 20) + 1)).is_none());
}

#[test]
fn requests_for_uncacheable_responses_are_not_coalesced() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    lead(cache.look(key("/a"), now)).pass(now);
    let both = (cache.look(key("/a"), now), cache.look(key("/a"), now));
    assert!(matches!(both, (Look::Lead(_), Look::Lead(_))), "{both:?}");
    drop(both);
    let later = now + HIT_FOR_MISS + Duration::from_secs(1);
    let both = (cache.look(key("/a"), later), cache.look(key("/a"), later));
    assert!(matches!(both, (Look::Lead(_), Look::Wait(_))), "{both:?}");
}

#[test]
fn a_refresh_replaces_the_entry() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    keep(lead(cache.look(key("/a"), now)), "old", now, LONG);
    keep(cache.refresh(key("/a")), "new", now, LONG);
    let Look::Hit(hit) = cache.look(key("/a"), now) else { panic!("no hit") };
    assert_eq!(hit.body, "new");
}

#[test]
fn the_store_never_outgrows_its_bytes() {
    let cache = Cache::new(64 << 10);
    let now = Instant::now();
    for i in 0..1000 {
        cache.refresh(key(&format!("/{i}"))).keep(head(now, LONG), vec![0; 1024].into());
        assert!(cache.stored.weight() <= 64 << 10);
    }
    assert!(cache.stored.weight() > 32 << 10);
    cache.resize(16 << 10);
    assert!(cache.stored.weight() <= 16 << 10);
}

#[test]
fn a_change_of_a_path_invalidates_what_was_requested_before_it() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let second = Duration::from_secs(1);
    keep(lead(cache.look(key("/a"), now)), "old", now, LONG);
    keep(lead(cache.look(key("/b"), now)), "other", now, LONG);
    let arriving = lead(cache.look(key("/c"), now));
    for path in ["/a", "/c"] {
        cache.invalidate(path, now + second);
    }
    assert!(matches!(cache.look(key("/b"), now + second), Look::Hit(_)));
    drop(lead(cache.look(key("/a"), now + 2 * second)));
    // The fetch that began before the change is not joined, and its response is not stored.
    let later = lead(cache.look(key("/c"), now + 2 * second));
    keep(arriving, "old", now, LONG);
    drop(wait(cache.look(key("/c"), now + 2 * second)));
    keep(later, "new", now + 2 * second, LONG);
    let Look::Hit(hit) = cache.look(key("/c"), now + 3 * second) else { panic!("no hit") };
    assert_eq!(hit.body, "new");
    assert!(cache.fetches.is_empty());
}

#[test]
fn the_age_of_a_response_goes_on() {
    let cache = Cache::new(1 << 20);
    let now = Instant::now();
    let head = Head { age: Duration::from_secs(30), ..head(now, Duration::from_secs(10)) };
    cache.refresh(key("/a")).keep(head, Box::default());
    let later = now + Duration::from_secs(4);
    let hit = cache.fresh(&key("/a"), later).unwrap();
    assert_eq!((hit.age(later), hit.remaining(later)), (Duration::from_secs(34), Some(Duration::from_secs(6))));
}
