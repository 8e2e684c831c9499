//! Tables of which responses are stored, the cache key, and who may refresh.

use http::HeaderName;
use http::header::AUTHORIZATION;
use sluice_wire::{HeaderEdits, Integration, Mock, ObjectRef, PartKind, PartName, Rule, RuleAction, RulePolicy};

use super::*;
use crate::template::{NoVariables, Value};

fn mock(text: &str) -> Integration {
    Integration::Mock(Mock { status: 200, headers: vec![], body: text.into() })
}

fn query(name: &'static str) -> Variable {
    Variable::QueryParameter(name.into())
}

/// Gives each variable these values.
struct Values<F>(F);

impl<F: Fn(&Variable) -> Vec<&'static str>> Variables for Values<F> {
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        (self.0)(variable).first().map(|value| Value::Plain(value))
    }

    fn each(&self, variable: &Variable, take: &mut dyn FnMut(&str)) {
        (self.0)(variable).into_iter().for_each(take);
    }
}

/// What a key is made of at compile time.
#[derive(Clone)]
struct Configured {
    route: &'static str,
    rule: &'static str,
    path: &'static str,
    integration: Integration,
    request_headers: HeaderEdits,
    behavior: Behavior,
    scope: CacheScope,
    keys: Vec<Variable>,
}

impl Default for Configured {
    fn default() -> Self {
        Self {
            route: "shop/orders",
            rule: "list",
            path: "/{p+}",
            integration: mock("a"),
            request_headers: HeaderEdits::default(),
            behavior: Behavior::Native,
            scope: CacheScope::Caller,
            keys: vec![query("a"), query("b")],
        }
    }
}

fn compile(configured: &Configured) -> CachePolicy {
    let methods = vec!["GET".into(), "HEAD".into()];
    let cache = RuleCache { ttl_ms: None, keys: configured.keys.clone(), methods, scope: configured.scope };
    let policy = RulePolicy {
        authorizer: None,
        api_key: false,
        throttle: None,
        cache: Some(cache.clone()),
        request_headers: configured.request_headers.clone(),
        response_headers: HeaderEdits::default(),
        timeout_ms: 1000,
        body_limit: None,
        buffer_limit: None,
        integration: configured.integration.clone(),
    };
    let rule = Rule {
        name: configured.rule.into(),
        methods: vec![],
        path: configured.path.parse().unwrap(),
        headers: vec![],
        query: vec![],
        action: RuleAction::Serve(Box::new(policy)),
    };
    let settings = StageCache {
        ttl_ms: 300_000,
        max_bytes: 1 << 20,
        invalidation: Invalidation::Required,
        unauthorized: Unauthorized::FailWith403,
    };
    let stage = PartName::new(PartKind::Stage, "shop/prod");
    let route = PartName::new(PartKind::Route, configured.route);
    let behavior = configured.behavior;
    CachePolicy::compile(
        &RuleAtStage { stage: &stage, behavior, route: &route, version: None, rule: &rule },
        &cache,
        &settings,
    )
}

fn policy(behavior: Behavior, scope: CacheScope, keys: Vec<Variable>) -> CachePolicy {
    compile(&Configured { behavior, scope, keys, ..Configured::default() })
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(*name, HeaderValue::from_str(value).unwrap());
    }
    map
}

#[test]
fn which_responses_are_stored_and_for_how_long() {
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
    for (behavior, method, request, status, response, expected) in rows {
        let policy = policy(*behavior, CacheScope::Shared, vec![Variable::RequestHeader("accept".into())]);
        let response = ReceivedResponse {
            method: &method.parse().unwrap(),
            request: &headers(request),
            status: StatusCode::from_u16(*status).unwrap(),
            headers: &headers(response),
        };
        assert_eq!(policy.storable(response), expected.map(Duration::from_secs), "{behavior:?} {method} {response:?}");
    }
}

fn anonymous(headers: &HeaderMap) -> CallerKey<'_> {
    CallerKey { identity: None, credential: None, api_key: None, headers }
}

/// The rows that have the key of a row above them.
fn equal_to_earlier(keys: &[Key]) -> Vec<usize> {
    (0..keys.len()).filter(|at| keys[..*at].contains(&keys[*at])).collect()
}

#[test]
fn no_two_different_requests_share_a_key() {
    let policy = compile(&Configured::default());
    let none = HeaderMap::new();
    let rows: [(Method, &str, [&[&'static str]; 2]); 12] = [
        (Method::GET, "/orders", [&[], &[]]),
        (Method::HEAD, "/orders", [&[], &[]]),
        (Method::GET, "/orders/", [&[], &[]]),
        (Method::GET, "/orders", [&[""], &[]]),
        (Method::GET, "/orders", [&[], &[""]]),
        (Method::GET, "/orders", [&["", ""], &[]]),
        (Method::GET, "/orders", [&["x"], &["y"]]),
        (Method::GET, "/orders", [&["x", "y"], &[]]),
        (Method::GET, "/orders", [&["x,y"], &[]]),
        (Method::GET, "/orders", [&[], &["x", "y"]]),
        (Method::GET, "/orders", [&["xy"], &[""]]),
        (Method::GET, "/orders", [&[""], &["xy"]]),
    ];
    let keys = rows.map(|(method, path, values)| {
        let value = |variable: &Variable| values[usize::from(*variable != query("a"))].to_vec();
        policy.key(&method, path, anonymous(&none), &Values(value))
    });
    assert_eq!(equal_to_earlier(&keys), [0; 0]);
}

#[test]
fn no_stored_response_outlives_a_change_of_its_rule() {
    let set = |name: &str| HeaderEdits { set: vec![(name.into(), "v".parse().unwrap())], ..HeaderEdits::default() };
    let usual = Configured::default;
    let rows = [
        usual(),
        Configured { rule: "listx", ..usual() },
        Configured { route: "shop/orderslist", rule: "", ..usual() },
        Configured { path: "/{q+}", ..usual() },
        Configured { integration: mock("b"), ..usual() },
        Configured { integration: Integration::Service(PartName::new(PartKind::Upstream, "shop/a:80")), ..usual() },
        Configured { integration: Integration::Service(PartName::new(PartKind::Upstream, "shop/b:80")), ..usual() },
        Configured { request_headers: set("x-a"), ..usual() },
        Configured { request_headers: set("x-b"), ..usual() },
        Configured { behavior: Behavior::AwsRest, ..usual() },
        Configured { scope: CacheScope::Shared, ..usual() },
        Configured { keys: vec![query("a"), query("c")], ..usual() },
        Configured { keys: vec![query("a"), Variable::RequestHeader("b".into())], ..usual() },
    ];
    let none = HeaderMap::new();
    let same = Values(|_: &Variable| vec!["same"]);
    let key = |configured: &Configured| compile(configured).key(&Method::GET, "/orders", anonymous(&none), &same);
    assert_eq!(equal_to_earlier(&rows.iter().map(key).collect::<Vec<_>>()), [0; 0]);
    assert_eq!(key(&usual()), key(&usual()));
}

fn key_of(scope: CacheScope, caller: CallerKey<'_>) -> Key {
    compile(&Configured { scope, ..Configured::default() }).key(&Method::GET, "/orders", caller, &NoVariables)
}

#[test]
fn callers_have_separate_entries_unless_the_rule_shares_them() {
    // Two callers with names, and one without, whose credential counts.
    let (anna, bert, nameless): (&[u8], &[u8], &[u8]) = (b"anna", b"bert", b"");
    let none = HeaderMap::new();
    let (one, two) = (headers(&[("authorization", "Bearer one")]), headers(&[("authorization", "Bearer two")]));
    let (cookie, other_cookie) = (headers(&[("cookie", "id=1")]), headers(&[("cookie", "id=2")]));
    let split = headers(&[("cookie", "id=1"), ("cookie", "id=2")]);
    let (own, other_own) = (headers(&[("x-api-key", "1")]), headers(&[("x-api-key", "2")]));
    let confused = headers(&[("authorization", "id=1")]);
    let (k, l) = (ObjectRef::new("ApiKey", "shop", "k"), ObjectRef::new("ApiKey", "shop", "l"));
    let with = |identity, headers| CallerKey {
        identity: Some(identity),
        credential: Some(&AUTHORIZATION).filter(|_| identity != nameless),
        ..anonymous(headers)
    };
    let admitted = |key, headers| CallerKey { api_key: Some(key), ..anonymous(headers) };
    let elsewhere = HeaderName::from_static("x-token");
    let callers = [
        anonymous(&none),
        with(anna, &none),
        with(bert, &none),
        with(nameless, &none),
        with(nameless, &one),
        with(nameless, &two),
        anonymous(&one),
        anonymous(&two),
        anonymous(&cookie),
        anonymous(&other_cookie),
        anonymous(&split),
        anonymous(&own),
        anonymous(&other_own),
        anonymous(&confused),
        with(anna, &cookie),
        with(anna, &own),
        CallerKey { credential: Some(&elsewhere), ..with(anna, &one) },
        admitted(&k, &none),
        admitted(&l, &none),
        admitted(&k, &cookie),
        CallerKey { api_key: Some(&k), ..with(anna, &none) },
    ];
    assert_eq!(equal_to_earlier(&callers.map(|caller| key_of(CacheScope::Caller, caller))), [0; 0]);
    for caller in callers {
        assert_eq!(key_of(CacheScope::Shared, caller), key_of(CacheScope::Shared, anonymous(&none)));
    }
    // A new token of the same caller finds the same responses; so does a key that was admitted.
    let same = |a, b| assert_eq!(key_of(CacheScope::Caller, a), key_of(CacheScope::Caller, b));
    same(with(anna, &one), with(anna, &two));
    same(admitted(&k, &own), admitted(&k, &other_own));
}

#[test]
fn who_may_refresh() {
    let scopes = |scopes: &[&str]| scopes.iter().map(|scope| (*scope).to_owned()).collect::<Vec<_>>();
    let (may, may_not) = (scopes(&["read", INVALIDATE_SCOPE]), scopes(&["read"]));
    for (cache_control, required, unauthorized, scopes, expected) in [
        (None, true, Unauthorized::FailWith403, None, Invalidate::NotAsked),
        (Some("max-age=10"), true, Unauthorized::FailWith403, None, Invalidate::NotAsked),
        (Some("no-cache"), true, Unauthorized::FailWith403, None, Invalidate::NotAsked),
        (Some("max-age=0"), false, Unauthorized::FailWith403, None, Invalidate::Refresh),
        (Some("Max-Age=0"), true, Unauthorized::FailWith403, Some(&may), Invalidate::Refresh),
        (Some("max-age=0"), true, Unauthorized::FailWith403, Some(&may_not), Invalidate::Reject),
        (Some("no-cache, max-age=0"), true, Unauthorized::FailWith403, None, Invalidate::Reject),
        (Some("max-age=0"), true, Unauthorized::SucceedWithWarning, None, Invalidate::Warn),
        (Some("max-age=0"), true, Unauthorized::SucceedSilently, None, Invalidate::Ignore),
    ] {
        let mut policy = policy(Behavior::Native, CacheScope::Caller, vec![]);
        policy.invalidation = if required { Invalidation::Required } else { Invalidation::None };
        policy.unauthorized = unauthorized;
        let request = cache_control.map_or_else(HeaderMap::new, |value| headers(&[("cache-control", value)]));
        assert_eq!(invalidation(&policy, &request, scopes.map_or(&[], Vec::as_slice)), expected, "{cache_control:?}");
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
