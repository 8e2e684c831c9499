//! The cache with real sockets: coalesced requests, separate callers, refreshed responses, and clients that do not read.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_wire::*;

use crate::harness::*;
use crate::policy::{signer, token};

fn cached(unauthorized: Unauthorized) -> StagePart {
    let invalidation = Invalidation::Required;
    let cache = StageCache { ttl_ms: 60_000, max_bytes: 8 << 20, invalidation, unauthorized };
    StagePart { cache: Some(cache), ..stage() }
}

fn caching(scope: CacheScope, keys: Vec<Variable>) -> RuleCache {
    RuleCache { ttl_ms: None, keys, unkeyed: vec![], methods: vec!["GET".into()], scope }
}

fn served(cache: RuleCache) -> RulePolicy {
    RulePolicy { cache: Some(cache), timeout_ms: 60_000, ..policy(service()) }
}

/// `/probe` has a fixed response; all other paths are forwarded and stored.
fn gate(backend: &Backend) -> Gate {
    let mut gate = Gate::start();
    let rules = vec![
        rule("probe", "GET", "/probe", policy(mock("probe"))),
        rule("all", "GET", "/{p+}", served(caching(CacheScope::Caller, vec![]))),
    ];
    gate.put(vec![stage_part(cached(Unauthorized::FailWith403)), upstream(&[backend.address]), route("r", rules)]);
    gate
}

/// A backend whose `n`th response comes from `response`, after the test has sent a token for it.
fn held(response: impl Fn(usize) -> String + Send + Sync + 'static) -> (Backend, Sender<()>) {
    let (release, wait) = channel();
    let (wait, count) = (Mutex::new(wait), AtomicUsize::new(0));
    let backend = Backend::start(move |_, _| {
        wait.lock().unwrap().recv().unwrap();
        response(count.fetch_add(1, Ordering::SeqCst))
    });
    (backend, release)
}

/// One HTTP/2 connection: one worker processes its requests, in their order.
struct Client {
    runtime: tokio::runtime::Runtime,
    sender: SendRequest<Empty<Bytes>>,
}

type Pending = tokio::task::JoinHandle<(u16, String, String)>;

impl Client {
    fn new(gate: &Gate, window: u32) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let address = gate.proxy.http_addr().unwrap();
        let sender = runtime.block_on(async {
            let stream = tokio::net::TcpStream::connect(address).await.unwrap();
            let mut builder = Builder::new(TokioExecutor::new());
            builder.initial_stream_window_size(window).initial_connection_window_size(window);
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { runtime, sender }
    }

    fn send(
        &self,
        path: &str,
    ) -> impl Future<Output = Result<http::Response<hyper::body::Incoming>, hyper::Error>> + use<> {
        let request = http::Request::get(format!("http://shop.example{path}")).body(Empty::new()).unwrap();
        self.sender.clone().send_request(request)
    }

    /// Sends a request now; `wait` returns status, `cache-status` and body.
    fn ask(&self, path: &str) -> Pending {
        let response = self.send(path);
        self.runtime.spawn(async move {
            let response = response.await.unwrap();
            let cache_status = response.headers().get("cache-status").map(|value| value.to_str().unwrap().to_owned());
            let status = response.status().as_u16();
            #[allow(clippy::disallowed_methods, reason = "capped")]
            let body = Limited::new(response.into_body(), 1 << 20).collect().await.unwrap().to_bytes();
            (status, cache_status.unwrap_or_default(), String::from_utf8(body.to_vec()).unwrap())
        })
    }

    fn wait(&self, pending: Pending) -> (u16, String, String) {
        self.runtime.block_on(async { tokio::time::timeout(LONG, pending).await.unwrap().unwrap() })
    }

    /// Waits until the worker has processed everything that was sent before.
    fn settle(&self) {
        assert_eq!(self.wait(self.ask("/probe")).2, "probe");
    }
}

const LONG: std::time::Duration = std::time::Duration::from_secs(20);

fn count(responses: &[(u16, String, String)], result: &str) -> usize {
    responses.iter().filter(|(status, cache_status, _)| *status == 200 && cache_status.contains(result)).count()
}

#[test]
fn requests_that_miss_together_are_one_call() {
    let (backend, release) = held(|n| ok(&format!("response {n}")));
    let gate = gate(&backend);
    let client = Client::new(&gate, 65_535);
    let pending: Vec<Pending> = (0..20).map(|_| client.ask("/a")).collect();
    client.settle();
    eventually("one call", || backend.requests.load(Ordering::SeqCst) == 1);
    release.send(()).unwrap();
    let responses: Vec<_> = pending.into_iter().map(|request| client.wait(request)).collect();
    assert_eq!((count(&responses, "fwd=miss; stored"), count(&responses, "collapsed")), (1, 19), "{responses:?}");
    assert!(responses.iter().all(|(_, _, body)| body == "response 0"), "{responses:?}");
    assert_eq!(backend.requests.load(Ordering::SeqCst), 1);
    assert_eq!(gate.metric(r#"sluice_cache_requests_total{result="collapsed",stage="shop/prod"}"#), 19.0);
}

#[test]
fn when_the_first_call_fails_one_of_the_waiting_requests_makes_the_next() {
    let (backend, release) = held(|n| if n < 2 { "nonsense\r\n\r\n".to_owned() } else { ok("at last") });
    let gate = gate(&backend);
    let client = Client::new(&gate, 65_535);
    let pending: Vec<Pending> = (0..20).map(|_| client.ask("/a")).collect();
    client.settle();
    for call in 1..=3 {
        eventually("the next call", || backend.requests.load(Ordering::SeqCst) == call);
        client.settle();
        release.send(()).unwrap();
    }
    let responses: Vec<_> = pending.into_iter().map(|request| client.wait(request)).collect();
    assert_eq!(responses.iter().filter(|(status, ..)| *status == 502).count(), 2, "{responses:?}");
    assert_eq!((count(&responses, "fwd=miss; stored"), count(&responses, "collapsed")), (1, 17), "{responses:?}");
    assert_eq!(backend.requests.load(Ordering::SeqCst), 3);
}

#[test]
fn when_the_first_client_disconnects_a_waiting_request_calls_the_backend() {
    let (backend, release) = held(|n| ok(&format!("response {n}")));
    let gate = gate(&backend);
    let first = Client::new(&gate, 65_535);
    drop(first.ask("/a"));
    eventually("the first call", || backend.requests.load(Ordering::SeqCst) == 1);
    let client = Client::new(&gate, 65_535);
    let pending: Vec<Pending> = (0..20).map(|_| client.ask("/a")).collect();
    client.settle();
    drop(first);
    release.send(()).unwrap();
    release.send(()).unwrap();
    let responses: Vec<_> = pending.into_iter().map(|request| client.wait(request)).collect();
    assert!(responses.iter().all(|(status, ..)| *status == 200), "{responses:?}");
    // The first call's response may have been complete before its client was known to be disconnected.
    assert!(backend.requests.load(Ordering::SeqCst) <= 2);
}

#[test]
fn a_client_that_does_not_read_delays_no_coalesced_request() {
    let backend = Backend::start(|_, _| ok(&"x".repeat(512 << 10)));
    let gate = gate(&backend);
    // The client reads the head and a little of the body, and then stops reading.
    let slow = Client::new(&gate, 16 << 10);
    let response = slow.runtime.block_on(slow.send("/a")).unwrap();
    assert_eq!(response.status(), 200);
    let began = std::time::Instant::now();
    let second = gate.get("/a");
    assert_eq!((second.status, second.body.len()), (200, 512 << 10));
    assert!(began.elapsed() < std::time::Duration::from_secs(5), "{:?}", began.elapsed());
    let third = gate.get("/a");
    assert!(third.header("cache-status").unwrap().contains("hit"), "{:?}", third.headers);
    assert_eq!(backend.requests.load(Ordering::SeqCst), 2);
    drop(response);
}

#[test]
fn a_client_that_does_not_finish_its_request_delays_no_coalesced_request() {
    let backend = Backend::start(|_, _| ok("response"));
    let gate = gate(&backend);
    let mut slow = gate.connect();
    let request = b"GET /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 10\r\n\r\nhalf";
    std::io::Write::write_all(&mut slow, request).unwrap();
    eventually("the slow call", || backend.connections.load(Ordering::SeqCst) == 1);
    assert_eq!(gate.get("/a").body, "response");
    std::io::Write::write_all(&mut slow, b"a body").unwrap();
    assert_eq!(read_response(&mut slow).body, "response");
    assert_eq!(backend.requests.load(Ordering::SeqCst), 2);
}

#[test]
fn no_caller_gets_the_response_of_another_caller() {
    let backend = Backend::echo();
    let (key, set) = signer();
    let (name, authorizer) = login(set);
    let mut guarded = served(caching(CacheScope::Caller, vec![]));
    guarded.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec![] });
    let plan = PartName::new(PartKind::Plan, "shop/gold");
    let entry = |name: &str, key: &str| KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", name),
        customer: None,
        digest: Hash::of(key.as_bytes()),
        plans: vec![plan.clone()],
    };
    let keys = KeysPart { keys: vec![entry("ann", "key-of-ann-0123456789"), entry("bob", "key-of-bob-0123456789")] };
    let gold = PlanPart {
        object: ObjectRef::new("UsagePlan", "shop", "gold"),
        stages: vec![PlanStage { stage: stage_name(), throttles: vec![] }],
        throttle: None,
    };
    let keyed = RulePolicy { api_key: true, ..served(caching(CacheScope::Caller, vec![])) };
    let rules = vec![
        rule("open", "GET", "/open", served(caching(CacheScope::Caller, vec![]))),
        rule("guarded", "GET", "/guarded", guarded),
        rule("keyed", "GET", "/keyed", keyed),
        rule("shared", "GET", "/shared", served(caching(CacheScope::Shared, vec![]))),
    ];
    let mut gate = Gate::start();
    let parts = vec![
        stage_part(cached(Unauthorized::FailWith403)),
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(authorizer)),
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(keys)),
        (plan, PartBody::Plan(gold)),
        route("r", rules),
    ];
    assert_eq!(gate.put(parts), vec![]);
    let (ann, bob) = (token(&key, "ann", "read"), token(&key, "bob", "read"));
    // A backend may identify its users by any of these, whether or not the rule checks them.
    let callers: Vec<(&str, Vec<(&str, &str)>)> = vec![
        ("/open", vec![]),
        ("/open", vec![("cookie", "session=1")]),
        ("/open", vec![("cookie", "session=2")]),
        ("/open", vec![("x-api-key", "1")]),
        ("/open", vec![("x-api-key", "2")]),
        ("/open", vec![("authorization", "Basic MQ==")]),
        ("/open", vec![("authorization", "Basic Mg==")]),
        ("/guarded", vec![("authorization", &ann)]),
        ("/guarded", vec![("authorization", &bob)]),
        ("/guarded", vec![("authorization", &ann), ("cookie", "session=1")]),
        ("/guarded", vec![("authorization", &ann), ("x-api-key", "1")]),
        ("/keyed", vec![("x-api-key", "key-of-ann-0123456789")]),
        ("/keyed", vec![("x-api-key", "key-of-bob-0123456789")]),
        ("/keyed", vec![("x-api-key", "key-of-bob-0123456789"), ("cookie", "session=1")]),
    ];
    let ask = |(path, headers): &(&str, Vec<(&str, &str)>)| gate.request("GET", path, headers, "");
    let first: Vec<Response> = callers.iter().map(ask).collect();
    assert_eq!(backend.requests.load(Ordering::SeqCst), callers.len());
    for (caller, first) in callers.iter().zip(first) {
        let again = ask(caller);
        assert!(again.header("cache-status").unwrap().contains("hit"), "{caller:?} {again:?}");
        assert_eq!((again.status, again.body), (200, first.body), "{caller:?}");
    }
    // A new token of the same caller finds its responses.
    let renewed = token(&key, "ann", "read write");
    assert!(ask(&("/guarded", vec![("authorization", &renewed)])).header("cache-status").unwrap().contains("hit"));
    // Shared responses are shared by all permitted callers.
    ask(&("/shared", vec![("cookie", "session=1")]));
    let other = ask(&("/shared", vec![("cookie", "session=2")]));
    assert!(other.body.contains("session=1") && other.header("cache-status").unwrap().contains("hit"), "{other:?}");
}

#[test]
fn a_permitted_caller_refreshes_and_others_get_the_configured_response() {
    let made = Arc::new(AtomicUsize::new(0));
    let counter = made.clone();
    let backend = Backend::start(move |_, _| ok(&counter.fetch_add(1, Ordering::SeqCst).to_string()));
    let (key, set) = signer();
    let (name, authorizer) = login(set);
    let mut shared = served(caching(CacheScope::Shared, vec![]));
    shared.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec![] });
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(cached(Unauthorized::FailWith403)),
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(authorizer)),
        route("r", vec![rule("r", "GET", "/a", shared)]),
    ]);
    let (anybody, chosen) = (token(&key, "ann", "read"), token(&key, "bob", "sluice:invalidate-cache"));
    let plain = |gate: &Gate| gate.request("GET", "/a", &[("authorization", &anybody)], "");
    let refresh = |gate: &Gate, token: &str| {
        gate.request("GET", "/a", &[("authorization", token), ("cache-control", "max-age=0")], "")
    };
    assert_eq!(plain(&gate).body, "0");
    let refreshed = refresh(&gate, &chosen);
    assert_eq!(refreshed.body, "1");
    assert!(refreshed.header("cache-status").unwrap().contains("fwd=request; stored"), "{refreshed:?}");
    assert_eq!(plain(&gate).body, "1");
    for (unauthorized, status, warned) in [
        (Unauthorized::FailWith403, 403, false),
        (Unauthorized::SucceedWithWarning, 200, true),
        (Unauthorized::SucceedSilently, 200, false),
    ] {
        gate.put(vec![stage_part(cached(unauthorized))]);
        let response = refresh(&gate, &anybody);
        assert_eq!((response.status, response.header("warning").is_some()), (status, warned), "{unauthorized:?}");
        if status == 200 {
            assert_eq!(response.body, "1");
            assert!(response.header("cache-status").unwrap().contains("hit"), "{response:?}");
        }
        // Other callers get no Warning header, and nothing was fetched.
        assert_eq!((plain(&gate).header("warning"), made.load(Ordering::SeqCst)), (None, 2));
    }
    let mut open = cached(Unauthorized::FailWith403);
    open.cache.as_mut().unwrap().invalidation = Invalidation::None;
    gate.put(vec![stage_part(open)]);
    assert_eq!((refresh(&gate, &anybody).body.as_str(), plain(&gate).body.as_str()), ("2", "2"));
}

#[test]
fn a_changed_rule_does_not_return_earlier_responses() {
    let backend = Backend::echo();
    let other = Backend::start(|_, _| ok("other"));
    let mut gate = Gate::start();
    gate.put(vec![stage_part(cached(Unauthorized::FailWith403)), upstream(&[backend.address])]);
    let put = |gate: &mut Gate, policy: RulePolicy| gate.put(vec![route("r", vec![rule("r", "GET", "/a", policy)])]);
    let usual = |key: Variable| served(caching(CacheScope::Shared, vec![key]));
    put(&mut gate, usual(Variable::QueryParameter("page".into())));
    let first = gate.get("/a?page=1&size=2");
    assert!(first.body.contains("page=1&size=2"), "{first:?}");
    // Another cache key may have the same value, with another meaning.
    put(&mut gate, usual(Variable::QueryParameter("size".into())));
    assert!(gate.get("/a?page=2&size=1").body.contains("page=2&size=1"));
    let mut edited = usual(Variable::QueryParameter("size".into()));
    edited.request_headers.set = vec![("x-new".into(), "1".parse().unwrap())];
    put(&mut gate, edited);
    assert!(gate.get("/a?page=2&size=1").body.contains("x-new: 1"));
    let elsewhere = PartName::new(PartKind::Upstream, "shop/other:80");
    let (_, PartBody::Upstream(part)) = upstream(&[other.address]) else { unreachable!() };
    gate.put(vec![(elsewhere.clone(), PartBody::Upstream(part))]);
    let mut moved = usual(Variable::QueryParameter("size".into()));
    moved.integration = Integration::Service(elsewhere);
    put(&mut gate, moved);
    assert_eq!(gate.get("/a?page=2&size=1").body, "other");
    // Responses of rules that did not change are still stored.
    put(&mut gate, usual(Variable::QueryParameter("page".into())));
    let again = gate.get("/a?page=1&size=2");
    assert!(again.header("cache-status").unwrap().contains("hit") && again.body == first.body, "{again:?}");
}
