//! Tables of what is kept, what tells answers apart, and who may refresh.

use std::time::SystemTime;

use serde_json::Map;
use sluice_wire::PartKind;

use super::*;

fn policy(behavior: Behavior, scope: CacheScope, keys: Vec<CacheKey>) -> CachePolicy {
    let rule = RuleCache { ttl_ms: None, keys, methods: vec!["GET".into(), "HEAD".into()], scope };
    let stage = StageCache {
        ttl_ms: 300_000,
        max_bytes: 1 << 20,
        invalidation: Invalidation::Required,
        unauthorized: Unauthorized::FailWith403,
    };
    CachePolicy::compile(&rule, &stage, behavior)
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn what_is_kept_and_for_how_long() {
    use Behavior::{AwsRest, Native};
    type Row = (
        Behavior,
        &'static str,
        &'static [(&'static str, &'static str)],
        u16,
        &'static [(&'static str, &'static str)],
        Result<u64, NotStored>,
    );
    let rows: &[Row] = &[
        (Native, "GET", &[], 200, &[], Ok(300)),
        (Native, "HEAD", &[], 404, &[], Ok(300)),
        (Native, "POST", &[], 200, &[], Err(NotStored::Method)),
        (Native, "GET", &[], 500, &[], Err(NotStored::Status)),
        (AwsRest, "GET", &[], 500, &[], Ok(300)),
        (AwsRest, "GET", &[], 304, &[], Err(NotStored::Status)),
        (AwsRest, "GET", &[], 206, &[], Err(NotStored::Range)),
        (Native, "GET", &[("range", "bytes=0-1")], 200, &[], Err(NotStored::Range)),
        (Native, "GET", &[], 200, &[("content-range", "bytes 0-1/2")], Err(NotStored::Range)),
        (Native, "GET", &[], 200, &[("set-cookie", "a=b")], Err(NotStored::SetCookie)),
        (AwsRest, "GET", &[], 200, &[("set-cookie", "a=b")], Err(NotStored::SetCookie)),
        (Native, "GET", &[], 200, &[("cache-control", "no-store")], Err(NotStored::CacheControl)),
        (AwsRest, "GET", &[], 200, &[("cache-control", "public, Private")], Err(NotStored::CacheControl)),
        (Native, "GET", &[], 200, &[("cache-control", "private=\"x\"")], Err(NotStored::CacheControl)),
        (
            Native,
            "GET",
            &[],
            200,
            &[("cache-control", "max-age=60"), ("cache-control", "no-store")],
            Err(NotStored::CacheControl),
        ),
        (Native, "GET", &[], 200, &[("cache-control", "no-cache")], Err(NotStored::CacheControl)),
        (AwsRest, "GET", &[], 200, &[("cache-control", "no-cache")], Ok(300)),
        (Native, "GET", &[], 200, &[("cache-control", "max-age=60")], Ok(60)),
        (Native, "GET", &[], 200, &[("cache-control", "max-age=60, s-maxage=90")], Ok(90)),
        (Native, "GET", &[], 200, &[("cache-control", "max-age=999999")], Ok(300)),
        (AwsRest, "GET", &[], 200, &[("cache-control", "max-age=60")], Ok(300)),
        (Native, "GET", &[], 200, &[("cache-control", "max-age=0")], Err(NotStored::Expired)),
        (Native, "GET", &[], 200, &[("cache-control", "max-age=x")], Err(NotStored::Expired)),
        (Native, "GET", &[], 200, &[("vary", "Accept")], Ok(300)),
        (Native, "GET", &[], 200, &[("vary", "accept, accept-encoding")], Err(NotStored::Vary)),
        (Native, "GET", &[], 200, &[("vary", "*")], Err(NotStored::Vary)),
    ];
    for (behavior, method, request, status, answer, expected) in rows {
        let policy = policy(*behavior, CacheScope::Shared, vec![CacheKey::Header("accept".into())]);
        let answer = Answer {
            method: &method.parse().unwrap(),
            request: &headers(request),
            status: StatusCode::from_u16(*status).unwrap(),
            headers: &headers(answer),
        };
        assert_eq!(policy.storable(answer), expected.map(Duration::from_secs), "{behavior:?} {method} {answer:?}");
    }
}

fn caller(issuer: &str, subject: Option<&str>, scopes: &[&str]) -> Caller {
    Caller {
        issuer: issuer.into(),
        subject: subject.map(str::to_owned),
        claims: Map::new(),
        scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
        expires: SystemTime::UNIX_EPOCH,
    }
}

struct Asked<'a> {
    route: &'a str,
    rule: &'a str,
    method: Method,
    path: &'a str,
    values: [Option<&'a str>; 2],
}

impl Default for Asked<'_> {
    fn default() -> Self {
        Self { route: "shop/orders", rule: "list", method: Method::GET, path: "/orders", values: [None, None] }
    }
}

fn key_of(scope: CacheScope, asked: &Asked<'_>, caller: CallerKey<'_>) -> Key {
    let keys = vec![CacheKey::Query("a".into()), CacheKey::Query("b".into())];
    let (stage, route) = (PartName::new(PartKind::Stage, "shop/prod"), PartName::new(PartKind::Route, asked.route));
    let id = RuleId { stage: &stage, route: &route, rule: asked.rule };
    let value = |key: &CacheKey| if *key == CacheKey::Query("a".into()) { asked.values[0] } else { asked.values[1] };
    policy(Behavior::Native, scope, keys).key(id, &asked.method, asked.path, caller, value)
}

#[test]
fn no_two_different_requests_share_a_key() {
    let asked = [
        Asked::default(),
        Asked { rule: "listx", ..Asked::default() },
        Asked { route: "shop/orderslist", rule: "", ..Asked::default() },
        Asked { method: Method::HEAD, ..Asked::default() },
        Asked { path: "/orders/", ..Asked::default() },
        Asked { path: "/orders/a", ..Asked::default() },
        Asked { values: [Some(""), None], ..Asked::default() },
        Asked { values: [None, Some("")], ..Asked::default() },
        Asked { values: [Some("x"), Some("y")], ..Asked::default() },
        Asked { values: [Some("xy"), Some("")], ..Asked::default() },
        Asked { values: [Some(""), Some("xy")], ..Asked::default() },
    ];
    let keys: Vec<Key> = asked.iter().map(|a| key_of(CacheScope::Caller, a, CallerKey::default())).collect();
    for (i, one) in keys.iter().enumerate() {
        for (j, other) in keys.iter().enumerate() {
            assert_eq!(i == j, one == other, "{i} {j}");
        }
    }
}

#[test]
fn callers_are_kept_apart_unless_the_rule_shares() {
    let (anna, bert, foreign) =
        (caller("i", Some("anna"), &[]), caller("i", Some("bert"), &[]), caller("j", Some("anna"), &[]));
    let nobody = caller("i", None, &[]);
    let mut nameless = caller("i", None, &[]);
    nameless.claims.insert("client_id".into(), "till".into());
    let (one, two) = (HeaderValue::from_static("Bearer one"), HeaderValue::from_static("Bearer two"));
    let (k, l) = (ObjectRef::new("ApiKey", "shop", "k"), ObjectRef::new("ApiKey", "shop", "l"));
    let with = |caller| CallerKey { caller: Some(caller), ..CallerKey::default() };
    let callers = [
        CallerKey::default(),
        with(&anna),
        with(&bert),
        with(&foreign),
        with(&nobody),
        with(&nameless),
        CallerKey { authorization: Some(&one), ..with(&nobody) },
        CallerKey { authorization: Some(&two), ..with(&nobody) },
        CallerKey { authorization: Some(&one), ..CallerKey::default() },
        CallerKey { api_key: Some(&k), ..CallerKey::default() },
        CallerKey { api_key: Some(&l), ..CallerKey::default() },
        CallerKey { api_key: Some(&k), ..with(&anna) },
    ];
    for (i, one) in callers.iter().enumerate() {
        for (j, other) in callers.iter().enumerate() {
            let keys = |scope| (key_of(scope, &Asked::default(), *one), key_of(scope, &Asked::default(), *other));
            let (a, b) = keys(CacheScope::Caller);
            assert_eq!(i == j, a == b, "{i} {j}");
            let (a, b) = keys(CacheScope::Shared);
            assert_eq!(a, b);
        }
    }
    // A new token of the same caller finds the same answers.
    let again = CallerKey { authorization: Some(&one), ..with(&anna) };
    let anew = CallerKey { authorization: Some(&two), ..with(&anna) };
    assert_eq!(
        key_of(CacheScope::Caller, &Asked::default(), again),
        key_of(CacheScope::Caller, &Asked::default(), anew)
    );
}

#[test]
fn who_may_refresh() {
    let (may, may_not) = (caller("i", None, &["read", INVALIDATE_SCOPE]), caller("i", None, &["read"]));
    for (asked, required, unauthorized, caller, expected) in [
        (None, true, Unauthorized::FailWith403, None, Invalidate::NotAsked),
        (Some("max-age=10"), true, Unauthorized::FailWith403, None, Invalidate::NotAsked),
        (Some("no-cache"), true, Unauthorized::FailWith403, None, Invalidate::NotAsked),
        (Some("max-age=0"), false, Unauthorized::FailWith403, None, Invalidate::Refresh),
        (Some("Max-Age=0"), true, Unauthorized::FailWith403, Some(&may), Invalidate::Refresh),
        (Some("max-age=0"), true, Unauthorized::FailWith403, Some(&may_not), Invalidate::Refuse),
        (Some("no-cache, max-age=0"), true, Unauthorized::FailWith403, None, Invalidate::Refuse),
        (Some("max-age=0"), true, Unauthorized::SucceedWithWarning, None, Invalidate::Warn),
        (Some("max-age=0"), true, Unauthorized::SucceedSilently, None, Invalidate::Ignore),
    ] {
        let mut policy = policy(Behavior::Native, CacheScope::Caller, vec![]);
        policy.invalidation = if required { Invalidation::Required } else { Invalidation::None };
        policy.unauthorized = unauthorized;
        let request = asked.map_or_else(HeaderMap::new, |value| headers(&[("cache-control", value)]));
        assert_eq!(invalidation(&policy, &request, caller), expected, "{asked:?}");
    }
}

#[test]
fn requests_the_cache_has_nothing_to_do_with() {
    for (behavior, method, request, expected) in [
        (Behavior::Native, Method::GET, &[][..], false),
        (Behavior::Native, Method::POST, &[], true),
        (Behavior::Native, Method::GET, &[("range", "bytes=0-")], true),
        (Behavior::Native, Method::GET, &[("cache-control", "no-store")], true),
        (Behavior::AwsRest, Method::GET, &[("cache-control", "no-store")], false),
    ] {
        assert_eq!(
            policy(behavior, CacheScope::Shared, vec![]).bypass(&method, &headers(request)),
            expected,
            "{request:?}"
        );
    }
}
