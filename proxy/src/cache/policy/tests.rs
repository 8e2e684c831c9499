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

    fn each(&self, variable: &Variable, take: &mut dyn FnMut(&[u8])) {
        (self.0)(variable).into_iter().for_each(|value| take(value.as_bytes()));
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
    unkeyed: Vec<Variable>,
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
            unkeyed: vec![],
        }
    }
}

fn compile(configured: &Configured) -> CachePolicy {
    let methods = vec!["GET".into(), "HEAD".into()];
    let (keys, unkeyed) = (configured.keys.clone(), configured.unkeyed.clone());
    let cache = RuleCache { ttl_ms: None, keys, unkeyed, methods, scope: configured.scope };
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

/// A request on a connection without TLS.
fn target<'a>(method: &'a Method, path: &'a str) -> Target<'a> {
    const HOST: HeaderValue = HeaderValue::from_static("shop.example");
    const PORT: HeaderValue = HeaderValue::from_static("8080");
    static TEXTS: [HeaderValue; 2] = [HOST, PORT];
    Target { method, path, authority: Some(&TEXTS[0]), tls: false, port: &TEXTS[1], certificate: None }
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
        (Native, "GET", &[], 200, &[("cache-control", "public;private")], Err(NotStored::CacheControl)),
        (AwsRest, "GET", &[], 200, &[("cache-control", "max-age=60; private")], Err(NotStored::CacheControl)),
        (Native, "GET", &[], 200, &[("cache-control", "max-age = 60")], Err(NotStored::CacheControl)),
        (Native, "GET", &[], 200, &[("cache-control", "no-cache=\"set-cookie, x\"")], Err(NotStored::CacheControl)),
        (Native, "GET", &[], 200, &[("cache-control", "must-revalidate")], Err(NotStored::CacheControl)),
        (Native, "GET", &[], 200, &[("cache-control", "public, proxy-revalidate")], Err(NotStored::CacheControl)),
        (Native, "GET", &[], 200, &[("cache-control", "max-age=60, must-revalidate")], Ok(60)),
        (AwsRest, "GET", &[], 200, &[("cache-control", "must-revalidate")], Ok(300)),
        (Native, "GET", &[], 200, &[("age", "30"), ("cache-control", "max-age=60")], Ok(30)),
        (Native, "GET", &[], 200, &[("age", "60"), ("cache-control", "max-age=60")], Err(NotStored::Expired)),
        (Native, "GET", &[], 200, &[("age", "7200"), ("cache-control", "s-maxage=60")], Err(NotStored::Expired)),
        (Native, "GET", &[], 200, &[("age", "7200")], Ok(300)),
        (AwsRest, "GET", &[], 200, &[("age", "7200"), ("cache-control", "max-age=60")], Ok(300)),
        // The response was requested a second before it began.
        (
            Native,
            "GET",
            &[],
            200,
            &[("date", "Thu, 26 Nov 2026 05:59:31 GMT"), ("cache-control", "max-age=60")],
            Ok(32),
        ),
        (Native, "GET", &[], 200, &[("expires", "Thu, 26 Nov 2026 06:00:50 GMT")], Ok(50)),
        (
            Native,
            "GET",
            &[],
            200,
            &[("expires", "Thu, 26 Nov 2026 06:00:50 GMT"), ("cache-control", "max-age=60")],
            Ok(60),
        ),
        (Native, "GET", &[], 200, &[("expires", "0")], Err(NotStored::Expired)),
        (AwsRest, "GET", &[], 200, &[("expires", "0")], Ok(300)),
        (Native, "GET", &[("accept-encoding", "gzip")], 200, &[("content-encoding", "gzip")], Ok(300)),
        (Native, "GET", &[], 200, &[("content-encoding", "gzip")], Ok(300)),
        (Native, "GET", &[("accept-encoding", "br")], 200, &[("content-encoding", "gzip")], Err(NotStored::Coding)),
        (Native, "GET", &[], 200, &[("vary", "x-forwarded-for")], Err(NotStored::Vary)),
        (Native, "GET", &[], 200, &[("vary", "Accept")], Ok(300)),
        (Native, "GET", &[], 200, &[("vary", "accept, accept-encoding")], Ok(300)),
        (Native, "GET", &[], 200, &[("vary", "*")], Err(NotStored::Vary)),
    ];
    for (behavior, method, request, status, response, expected) in rows {
        let policy = policy(*behavior, CacheScope::Shared, vec![Variable::RequestHeader("accept".into())]);
        let response = ReceivedResponse {
            method: &method.parse().unwrap(),
            request: &headers(request),
            status: StatusCode::from_u16(*status).unwrap(),
            headers: &headers(response),
            delay: Duration::from_secs(1),
            received: httpdate::parse_http_date("Thu, 26 Nov 2026 06:00:00 GMT").unwrap(),
        };
        let ttl = policy.storable(response).map(|storable| storable.ttl);
        assert_eq!(ttl, expected.map(Duration::from_secs), "{behavior:?} {method} {response:?}");
    }
}

fn anonymous(headers: &HeaderMap) -> CallerKey<'_> {
    CallerKey { identity: None, credential: None, api_key: None, certificate: None, headers }
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
        policy.key(&target(&method, path), anonymous(&none), &Values(value))
    });
    assert_eq!(equal_to_earlier(&keys), [0; 0]);
}

#[test]
fn what_the_gateway_sends_is_part_of_the_key() {
    let none = HeaderMap::new();
    let [one, other, port, other_port] = ["a.example", "a.example:80", "8080", "8443"].map(HeaderValue::from_static);
    let usual = Target {
        method: &Method::GET,
        path: "/orders",
        authority: Some(&one),
        tls: false,
        port: &port,
        certificate: None,
    };
    let targets = [
        usual,
        Target { authority: Some(&other), ..usual },
        Target { authority: None, ..usual },
        Target { tls: true, ..usual },
        Target { port: &other_port, ..usual },
        Target { tls: true, port: &other_port, ..usual },
        Target { certificate: Some("0a"), ..usual },
        Target { certificate: Some("0b"), ..usual },
    ];
    let keys_with = |unkeyed: &[Variable]| {
        let policy = compile(&Configured { unkeyed: unkeyed.into(), ..Configured::default() });
        targets.map(|target| policy.key(&target, anonymous(&none), &NoVariables))
    };
    assert_eq!(equal_to_earlier(&keys_with(&[])), [0; 0]);
    let [a, b, c, d, e, f, ..] = keys_with(&[Variable::Scheme]);
    assert!(a != b && b != c && a == d && a == e && a == f);
    let [a, b, c, d, e, ..] = keys_with(&[Variable::DomainName]);
    assert!(a == b && a == c && a != d && a != e);
}

#[test]
fn rendered_variables_are_part_of_the_key_unless_the_rule_leaves_them_out() {
    let edits = |text: &str| HeaderEdits { add: vec![("x-a".into(), text.parse().unwrap())], ..HeaderEdits::default() };
    let none = HeaderMap::new();
    for (template, variable, keyed) in [
        ("${context.identity.sourceIp}", Variable::SourceIp, true),
        ("a ${context.authorizer.claims.tier}", Variable::Claim("tier".into()), true),
        ("${context.identity.customerId}", Variable::CustomerId, true),
        ("${context.identity.usagePlanId}", Variable::UsagePlanId, true),
        ("${context.protocol}", Variable::Protocol, true),
        // The same for all requests with one key.
        ("${context.stage}", Variable::Stage, false),
        ("${request.path.p}", Variable::PathParameter("p".into()), false),
    ] {
        let key = |unkeyed: Vec<Variable>, value: &'static str| {
            let configured = Configured { request_headers: edits(template), unkeyed, ..Configured::default() };
            let give = |asked: &Variable| if *asked == variable { vec![value] } else { vec![] };
            compile(&configured).key(&target(&Method::GET, "/orders"), anonymous(&none), &Values(give))
        };
        assert_eq!(key(vec![], "1") != key(vec![], "2"), keyed, "{template}");
        let out = || vec![variable.clone()];
        assert_eq!(key(out(), "1"), key(out(), "2"), "{template}");
    }
    let with_id =
        |unkeyed| Configured { request_headers: edits("${context.requestId}"), unkeyed, ..Configured::default() };
    assert_eq!(compile(&with_id(vec![])).stores_nothing(), Some(NotStored::RequestId));
    assert_eq!(compile(&with_id(vec![Variable::RequestId])).stores_nothing(), None);
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
    let key =
        |configured: &Configured| compile(configured).key(&target(&Method::GET, "/orders"), anonymous(&none), &same);
    assert_eq!(equal_to_earlier(&rows.iter().map(key).collect::<Vec<_>>()), [0; 0]);
    assert_eq!(key(&usual()), key(&usual()));
}

fn key_of(scope: CacheScope, caller: CallerKey<'_>) -> Key {
    compile(&Configured { scope, ..Configured::default() }).key(&target(&Method::GET, "/orders"), caller, &NoVariables)
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
        CallerKey { certificate: Some("0a"), ..anonymous(&none) },
        CallerKey { certificate: Some("0b"), ..anonymous(&none) },
        CallerKey { certificate: Some("0a"), ..with(anna, &none) },
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
        assert_eq!(
            invalidation(&policy, &request, || scopes
                .is_some_and(|scopes| scopes.contains(&INVALIDATE_SCOPE.to_owned()))),
            expected,
            "{cache_control:?}"
        );
    }
}

#[test]
fn requests_the_cache_has_nothing_to_do_with() {
    for (behavior, method, request, expected) in [
        (Behavior::Native, Method::GET, &[][..], false),
        (Behavior::Native, Method::POST, &[], true),
        (Behavior::Native, Method::GET, &[("range", "bytes=0-")], true),
        (Behavior::Native, Method::GET, &[("if-match", "*")], true),
        (Behavior::AwsRest, Method::GET, &[("if-unmodified-since", "x")], true),
        (Behavior::Native, Method::GET, &[("if-none-match", "*")], false),
        (Behavior::Native, Method::GET, &[("cache-control", "no-store")], true),
        (Behavior::AwsRest, Method::GET, &[("cache-control", "no-store")], false),
    ] {
        assert_eq!(
            policy(behavior, CacheScope::Shared, vec![]).bypass(&method, &headers(request), false),
            expected,
            "{request:?}"
        );
    }
}
