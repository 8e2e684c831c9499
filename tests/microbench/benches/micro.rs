//! What single steps of a request cost, and a change in the operator: `make microbench`. The cost of whole requests is measured by
//! `tests/bench`.

#![allow(clippy::unwrap_used, reason = "a benchmark fails by panicking")]

use std::sync::LazyLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use divan::{Bencher, black_box};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Method};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::json;
use sluice_proxy::internals::{self, ApiKeys, Responses, Routes, Tokens};
use sluice_wire::{
    Algorithm, AuthorizerKind, AuthorizerPart, FieldMatch, Issuer, Jwt, KeySource, ObjectRef, TokenSource,
    default_token_types,
};
use tokio::runtime::Runtime;

/// The allocator of the programs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    divan::main();
}

#[divan::bench(args = ["/orders/42", "/caf%C3%A9/%7Euser/items"])]
fn path_canonical(bencher: Bencher<'_, '_>, path: &str) {
    bencher.bench(|| internals::canonical_path(black_box(path)));
}

#[divan::bench(args = [10, 1_000, 10_000])]
fn router_find(bencher: Bencher<'_, '_>, count: usize) {
    let routes = Routes::new((0..count).map(|number| format!("/team-{}/service-{number}/orders/{{id}}", number % 50)));
    let path = format!("/team-{}/service-{}/orders/42", count / 2 % 50, count / 2);
    assert!(routes.find(&Method::GET, &path));
    bencher.bench(|| routes.find(black_box(&Method::GET), black_box(&path)));
}

/// Rules of one path with a condition each, for a query that one of them matches: the number of rules makes no difference.
#[divan::bench(args = [1, 3_000])]
fn router_candidates_by_value(bencher: Bencher<'_, '_>, count: usize) {
    let condition = |number| FieldMatch { name: "tenant".into(), value: Some(format!("t{number}")) };
    candidates(bencher, (0..count).map(condition), &format!("a=1&tenant=t{}&b=2", count / 2));
}

#[divan::bench(args = [1, 3_000])]
fn router_candidates_by_name(bencher: Bencher<'_, '_>, count: usize) {
    let condition = |number| FieldMatch { name: format!("q{number}"), value: None };
    candidates(bencher, (0..count).map(condition), &format!("a=1&q{}=x&b=2", count / 2));
}

/// The same with the longest query that is accepted, which has no other pair that a rule asks for.
#[divan::bench(args = [1, 3_000])]
fn router_candidates_with_a_long_query(bencher: Bencher<'_, '_>, count: usize) {
    let condition = |number| FieldMatch { name: format!("q{number}"), value: None };
    let query = format!("{}q{}=x", (0..1_000).map(|n| format!("a{n}=1&")).collect::<String>(), count / 2);
    candidates(bencher, (0..count).map(condition), &query);
}

fn candidates(bencher: Bencher<'_, '_>, conditions: impl Iterator<Item = FieldMatch>, query: &str) {
    let routes = Routes::with_conditions("/orders/{id}", conditions);
    assert!(routes.find_with(&Method::GET, "/orders/42", Some(query)));
    assert!(!routes.find_with(&Method::GET, "/orders/42", None));
    bencher.bench(|| routes.find_with(black_box(&Method::GET), black_box("/orders/42"), black_box(Some(query))));
}

/// One changed ApiRoute in the operator: translation, publication, delta, acknowledgement, which statuses differ.
#[divan::bench(args = [10, 1_000, 10_000])]
fn operator_change(bencher: Bencher<'_, '_>, routes: usize) {
    let mut operator = sluice_operator::internals::Operator::new(routes).unwrap();
    bencher.bench_local(|| operator.change());
}

#[divan::bench(args = [10, 10_000])]
fn router_miss(bencher: Bencher<'_, '_>, count: usize) {
    let routes = Routes::new((0..count).map(|number| format!("/team-{}/service-{number}/orders/{{id}}", number % 50)));
    assert!(!routes.find(&Method::GET, "/team-1/service-1/invoices/42"));
    bencher.bench(|| routes.find(black_box(&Method::GET), black_box("/team-1/service-1/invoices/42")));
}

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| tokio::runtime::Builder::new_current_thread().build().unwrap());

struct Signer {
    key: EncodingKey,
    part: AuthorizerPart,
}

static SIGNER: LazyLock<Signer> = LazyLock::new(|| {
    let pair = rcgen::KeyPair::generate().unwrap();
    let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap();
    let jwk = Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).unwrap();
    let keys = KeySource::Inline(json!({"keys": [jwk]}).to_string());
    let jwt = Jwt {
        issuers: vec![Issuer {
            issuer: "https://idp.example".into(),
            audiences: vec!["shop".into()],
            any_audience: false,
            keys,
        }],
        algorithms: vec![Algorithm::ES256],
        token_from: vec![TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) }],
        clock_skew_s: 0,
        required_claims: [].into(),
        token_types: default_token_types(),
    };
    let object = ObjectRef::new("Authorizer", "shop", "idp");
    Signer { key, part: AuthorizerPart { object, kind: AuthorizerKind::Jwt(jwt) } }
});

fn headers(subject: u64) -> HeaderMap {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + Duration::from_secs(3600);
    let claims = json!({
        "iss": "https://idp.example", "aud": "shop", "sub": subject.to_string(), "scope": "read write", "exp": expires.as_secs(),
    });
    let token = jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::ES256), &claims, &SIGNER.key).unwrap();
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())])
}

#[divan::bench]
fn token_seen_before(bencher: Bencher<'_, '_>) {
    let tokens = Tokens::new(&SIGNER.part, RUNTIME.handle().clone()).unwrap();
    let headers = headers(1);
    assert!(tokens.accept(&headers));
    bencher.bench(|| tokens.accept(black_box(&headers)));
}

#[divan::bench(sample_count = 20, sample_size = 20)]
fn token_verified(bencher: Bencher<'_, '_>) {
    let tokens = Tokens::new(&SIGNER.part, RUNTIME.handle().clone()).unwrap();
    let mut subject = 1;
    let next = || {
        subject += 1;
        headers(subject)
    };
    bencher.with_inputs(next).bench_local_refs(|headers| assert!(tokens.accept(headers)));
}

#[divan::bench(args = [100, 100_000])]
fn key_find(bencher: Bencher<'_, '_>, count: u32) {
    let keys = ApiKeys::new(count);
    let key = format!("key-number-{}", count / 2);
    assert!(keys.find(key.as_bytes()));
    bencher.bench(|| keys.find(black_box(key.as_bytes())));
}

#[divan::bench]
fn key_unknown(bencher: Bencher<'_, '_>) {
    let keys = ApiKeys::new(100_000);
    bencher.bench(|| keys.find(black_box(b"no key at all")));
}

#[divan::bench(args = [1, 10_000])]
fn cache_hit(bencher: Bencher<'_, '_>, count: u32) {
    let responses = Responses::new(256 << 20, count);
    assert!(responses.hit(count / 2));
    bencher.bench(|| responses.hit(black_box(count / 2)));
}

#[divan::bench]
fn cache_miss(bencher: Bencher<'_, '_>) {
    let responses = Responses::new(256 << 20, 10_000);
    assert!(!responses.hit(10_001));
    bencher.bench(|| responses.hit(black_box(10_001)));
}
