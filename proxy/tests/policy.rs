//! The steps in their order: preflights, keys, limits, the cache.

use std::sync::atomic::Ordering;

use sluice_wire::*;

use crate::harness::*;

#[test]
fn a_rule_can_require_a_key_of_a_plan_of_this_stage() {
    let mut gate = Gate::start();
    let plan = PartName::new(PartKind::Plan, "shop/gold");
    let keys = KeysPart {
        keys: vec![
            KeyEntry {
                object: ObjectRef::new("ApiKey", "shop", "ann"),
                customer: Some("acme".into()),
                digest: Hash::of(b"secret-of-ann-0123456789"),
                plans: vec![plan.clone()],
            },
            KeyEntry {
                object: ObjectRef::new("ApiKey", "shop", "bob"),
                customer: None,
                digest: Hash::of(b"secret-of-bob-0123456789"),
                plans: vec![],
            },
        ],
    };
    let gold = PlanPart {
        object: ObjectRef::new("UsagePlan", "shop", "gold"),
        stages: vec![PlanStage { stage: stage_name(), throttles: vec![] }],
        throttle: Some(Throttle { rate: 1, per_ms: 1_000_000, burst: 3 }),
    };
    let mut guarded = RulePolicy { api_key: true, ..policy(mock("in")) };
    let ids = "${context.identity.apiKeyId} ${context.identity.usagePlanId} ${context.identity.customerId}";
    guarded.response_headers.set = vec![("x-ids".into(), ids.parse().unwrap())];
    gate.put(vec![
        stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() }),
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(keys)),
        (plan.clone(), PartBody::Plan(gold)),
        route("r", vec![rule("r", "GET", "/a", guarded)]),
    ]);
    for key in [None, Some("wrong-wrong-wrong-wrong"), Some("secret-of-bob-0123456789")] {
        let headers: Vec<(&str, &str)> = key.iter().map(|key| ("x-api-key", *key)).collect();
        let response = gate.request("GET", "/a", &headers, "");
        assert_eq!((response.status, response.body.as_str()), (403, r#"{"message":"Forbidden"}"#), "{key:?}");
    }
    let ann = [("x-api-key", "secret-of-ann-0123456789")];
    for _ in 0..3 {
        let response = gate.request("GET", "/a", &ann, "");
        assert_eq!((response.status, response.header("x-ids")), (200, Some("shop/ann shop/gold acme")));
    }
    let response = gate.request("GET", "/a", &ann, "");
    assert_eq!((response.status, response.body.as_str()), (429, r#"{"message":"Too Many Requests"}"#));
    assert!(response.header("retry-after").is_some());
    assert_eq!(gate.metric(r#"sluice_throttled_total{scope="key",stage="shop/prod"}"#), 1.0);
    eventually("logged", || {
        gate.log.lines().iter().any(|line| {
            line["apiKey"] == "shop/ann" && line["customerId"] == "acme" && line["usagePlan"] == "shop/gold"
        })
    });
    // A change of configuration refills nothing; a removed plan admits no key.
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsRest, access_log: false, ..stage() })]);
    assert_eq!(gate.request("GET", "/a", &ann, "").status, 429);
    gate.remove(plan);
    assert_eq!(gate.request("GET", "/a", &ann, "").status, 403);
}

#[test]
fn keys_are_read_from_the_place_of_the_stage_and_nothing_else_looks_like_one_to_the_backend() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let plan = PartName::new(PartKind::Plan, "shop/gold");
    let entry = KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", "ann"),
        customer: None,
        digest: Hash::of(b"key-of-ann"),
        plans: vec![plan.clone()],
    };
    let gold = PlanPart {
        object: ObjectRef::new("UsagePlan", "shop", "gold"),
        stages: vec![PlanStage { stage: stage_name(), throttles: vec![] }],
        throttle: None,
    };
    let required = RulePolicy {
        api_key: true,
        request_headers: HeaderEdits {
            set: vec![("x-by".into(), "${context.identity.apiKeyId}".parse().unwrap())],
            ..HeaderEdits::default()
        },
        ..policy(service())
    };
    let optional = RulePolicy { optional_key: true, ..required.clone() };
    gate.put(vec![
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(KeysPart { keys: vec![entry] })),
        (plan, PartBody::Plan(gold)),
        upstream(&[backend.address]),
        route(
            "r",
            vec![rule("required", "GET", "/required", required), rule("optional", "GET", "/optional", optional)],
        ),
    ]);
    let header =
        |name: &str, scheme: Option<&str>| ApiKeySource::Header { name: name.into(), scheme: scheme.map(Into::into) };
    // The query and the header that a client sends.
    type Sent = (&'static str, Option<(&'static str, String)>);
    type Row = (Option<ApiKeySource>, fn(&str) -> Sent);
    let places: [Row; 5] = [
        (None, |key| ("", Some(("x-api-key", key.to_owned())))),
        (Some(header("x-customer", None)), |key| ("", Some(("x-customer", key.to_owned())))),
        (Some(header("authorization", Some("ApiKey"))), |key| ("", Some(("authorization", format!("ApiKey {key}"))))),
        (Some(ApiKeySource::Query("k".into())), |key| {
            (if key == "key-of-ann" { "k=key-of-ann&" } else { "k=wrong&" }, None)
        }),
        (Some(ApiKeySource::Cookie("k".into())), |key| ("", Some(("cookie", format!("a=b; k={key}"))))),
    ];
    for (source, place) in places {
        gate.put(vec![stage_part(StagePart { api_key_source: source.clone().map(Box::new), ..stage() })]);
        let ask = |path: &str, key: Option<&str>| {
            let (query, sent) = key.map_or(("", None), place);
            let other = source.as_ref().map(|_| ("x-api-key", "forged".to_owned()));
            let fields: Vec<(&str, &str)> =
                sent.iter().chain(&other).map(|(name, value)| (*name, value.as_str())).collect();
            gate.request("GET", &format!("{path}?{query}page=2"), &fields, "")
        };
        for (path, key, status) in [
            ("/required", Some("key-of-ann"), 200),
            ("/optional", Some("key-of-ann"), 200),
            ("/required", Some("wrong"), 403),
            ("/optional", Some("wrong"), 403),
            ("/required", None, 403),
            ("/optional", None, 200),
        ] {
            let response = ask(path, key);
            assert_eq!(response.status, status, "{source:?} {path} {key:?}");
            if status == 200 {
                let body = response.body.to_ascii_lowercase();
                assert!(
                    body.contains("page=2") && !body.contains("forged") && !body.contains("?k="),
                    "{source:?} {body}"
                );
                assert_eq!(body.contains("x-by: shop/ann\r\n"), key.is_some(), "{source:?} {body}");
            }
        }
    }
    eventually("logged", || gate.log.lines().iter().any(|line| line["apiKey"] == "shop/ann"));
    assert!(gate.log.lines().iter().all(|line| !line.to_string().contains("key-of-ann")));
    // A name that cannot be a header's: no other place becomes the place of the key.
    let unusable = StagePart { api_key_source: Some(Box::new(header("a b", None))), ..stage() };
    gate.put(vec![stage_part(unusable)]);
    for (name, value) in [("cookie", "=key-of-ann"), ("x-api-key", "key-of-ann"), ("accept", "*/*")] {
        assert_eq!(gate.request("GET", "/optional", &[(name, value)], "").status, 500, "{name}");
    }
}

/// Stages that serve different rules of an ApiRoute have a part each; the limit is that of the one ApiRoute.
#[test]
fn a_plans_limit_for_a_rule_applies_in_every_part_of_the_route() {
    let mut gate = Gate::start();
    let plan = PartName::new(PartKind::Plan, "shop/gold");
    let entry = KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", "ann"),
        customer: None,
        digest: Hash::of(b"secret-of-ann-0123456789"),
        plans: vec![plan.clone()],
    };
    let throttle = Throttle { rate: 1, per_ms: 1_000_000, burst: 2 };
    let gold = PlanPart {
        object: ObjectRef::new("UsagePlan", "shop", "gold"),
        stages: vec![PlanStage {
            stage: stage_name(),
            throttles: vec![RuleThrottle {
                route: PartName::new(PartKind::Route, "shop/r"),
                rule: "r".into(),
                throttle,
            }],
        }],
        throttle: None,
    };
    let guarded = || RulePolicy { api_key: true, ..policy(mock("in")) };
    let (whole, body) = route("r", vec![rule("r", "GET", "/a", guarded())]);
    gate.put(vec![
        stage_part(stage()),
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(KeysPart { keys: vec![entry] })),
        (plan, PartBody::Plan(gold)),
        (whole.clone(), body.clone()),
    ]);
    let get = |gate: &Gate| gate.request("GET", "/a", &[("x-api-key", "secret-of-ann-0123456789")], "").status;
    assert_eq!(get(&gate), 200);
    gate.put(vec![(PartName::new(PartKind::Route, format!("{}@prod", whole.id())), body)]);
    gate.remove(whole);
    assert_eq!((get(&gate), get(&gate)), (200, 429));
    assert_eq!(gate.metric(r#"sluice_requests_total{code="2xx",route="r",stage="shop/prod"}"#), 2.0);
}

#[test]
fn a_stages_default_limit_counts_each_rule_by_itself() {
    let mut gate = Gate::start();
    let limited = StagePart { throttle: Some(Throttle { rate: 1, per_ms: 1_000_000, burst: 2 }), ..stage() };
    let rules = vec![rule("a", "GET", "/a", policy(mock("a"))), rule("b", "GET", "/b", policy(mock("b")))];
    gate.put(vec![stage_part(limited), route("r", rules)]);
    let statuses: Vec<u16> = ["/a", "/a", "/a", "/b"].iter().map(|path| gate.get(path).status).collect();
    assert_eq!(statuses, [200, 200, 429, 200]);
}

#[test]
fn preflights_need_no_rule_and_responses_get_cors_headers() {
    let mut gate = Gate::start();
    let cors = Cors {
        allow_origins: vec!["https://app.example".into()],
        allow_methods: vec!["GET".into()],
        allow_headers: vec![],
        expose_headers: vec![],
        allow_credentials: false,
        max_age_s: Some(60),
    };
    gate.put(vec![
        stage_part(StagePart { cors: Some(Box::new(cors)), ..stage() }),
        route("r", vec![rule("a", "GET", "/a", policy(mock("a")))]),
    ]);
    let origin = ("origin", "https://app.example");
    let preflight = gate.request("OPTIONS", "/a", &[origin, ("access-control-request-method", "GET")], "");
    assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, Some("https://app.example")));
    assert_eq!(preflight.header("access-control-max-age"), Some("60"));
    for path in ["/a", "/none"] {
        assert_eq!(
            gate.request("GET", path, &[origin], "").header("access-control-allow-origin"),
            Some("https://app.example"),
            "{path}"
        );
    }
    assert_eq!(
        gate.request("GET", "/a", &[("origin", "https://evil.example")], "").header("access-control-allow-origin"),
        None
    );
}

#[test]
fn a_rule_has_its_own_cors_settings_and_its_preflight_gets_them() {
    let cors = |origin: &str, methods: &[&str]| {
        Some(Cors {
            allow_origins: vec![origin.into()],
            allow_methods: methods.iter().map(|method| (*method).into()).collect(),
            allow_headers: vec![],
            expose_headers: vec![],
            allow_credentials: false,
            max_age_s: None,
        })
    };
    let own = RulePolicy { cors: cors("https://*.shop.example", &["PUT"]), ..policy(mock("own")) };
    let guarded = RulePolicy { api_key: true, cors: cors("*", &[]), ..policy(mock("guarded")) };
    let mut gate = Gate::start();
    let rules = vec![
        rule("read", "GET", "/a", policy(mock("read"))),
        rule("write", "PUT", "/a", own),
        rule("guarded", "ANY", "/guarded/{id}", guarded),
    ];
    gate.put(vec![route("r", rules)]);
    for (of_stage, app) in [(cors("https://app.example", &["GET", "PUT"]), Some("https://app.example")), (None, None)] {
        gate.put(vec![stage_part(StagePart { cors: of_stage.map(Box::new), ..stage() })]);
        for (origin, method, path, allowed) in [
            ("https://app.example", "GET", "/a", app),
            ("https://app.example", "PUT", "/a", None),
            ("https://www.shop.example", "PUT", "/a", Some("https://www.shop.example")),
            ("https://www.shop.example", "GET", "/a", None),
            ("https://app.example", "GET", "/guarded/7", Some("*")),
            ("https://app.example", "GET", "/none", app),
        ] {
            let fields = [("origin", origin), ("access-control-request-method", method)];
            let preflight = gate.request("OPTIONS", path, &fields, "");
            let response = gate.request(method, path, &fields[..1], "");
            for (response, what) in [(preflight, "preflight"), (response, "response")] {
                let found = response.header("access-control-allow-origin");
                assert_eq!(found, allowed, "{what}: {origin} {method} {path} with {app:?}");
            }
        }
        // Without settings of its rule and of the stage, a preflight request is a request.
        let fields = [("origin", "https://app.example"), ("access-control-request-method", "GET")];
        assert_eq!(gate.request("OPTIONS", "/a", &fields, "").status, if app.is_some() { 204 } else { 405 });
        let strange = [("origin", "https://app.example"), ("access-control-request-method", "A B")];
        assert_eq!(gate.request("OPTIONS", "/a", &strange, "").status, if app.is_some() { 204 } else { 405 });
    }
}

#[test]
fn one_upstream_call_serves_many_requests() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let cached = StagePart {
        cache: Some(StageCache {
            ttl_ms: 60_000,
            max_bytes: 1 << 20,
            invalidation: Invalidation::Required,
            unauthorized: Unauthorized::FailWith403,
        }),
        ..stage()
    };
    let caching = RuleCache {
        ttl_ms: None,
        keys: vec![Variable::QueryParameter("page".into())],
        unkeyed: vec![],
        methods: vec!["GET".into()],
        scope: CacheScope::Caller,
    };
    let served = RulePolicy { cache: Some(caching), ..policy(service()) };
    gate.put(vec![
        stage_part(cached),
        upstream(&[backend.address]),
        route("r", vec![rule("r", "ANY", "/{p+}", served)]),
    ]);
    let requests = || backend.requests.load(Ordering::SeqCst);
    assert_eq!(gate.get("/a?page=1").status, 200);
    let hit = gate.get("/a?page=1&other=2");
    assert!(hit.header("cache-status").unwrap().contains("hit"), "{hit:?}");
    assert_eq!(requests(), 1);
    gate.get("/a?page=2");
    gate.get("/b?page=1");
    gate.request("POST", "/a?page=1", &[], "x");
    gate.request("GET", "/a?page=1", &[("authorization", "someone")], "");
    assert_eq!(requests(), 5);
    assert_eq!(gate.request("GET", "/a?page=1", &[("cache-control", "max-age=0")], "").status, 403);
    assert_eq!(gate.metric(r#"sluice_cache_requests_total{result="hit",stage="shop/prod"}"#), 1.0);
}

#[test]
fn a_variable_has_one_value_in_every_header_and_in_the_access_log() {
    const FIELDS: [(&str, &str, &str); 9] = [
        ("requestId", "context.requestId", ""),
        ("stage", "context.stageId", "shop/prod"),
        ("route", "context.route", "r"),
        ("rule", "context.rule", "seen"),
        ("method", "context.httpMethod", "GET"),
        ("scheme", "context.scheme", "http"),
        ("path", "context.path", "/a/7"),
        ("protocol", "context.protocol", "HTTP/1.1"),
        ("sourceIp", "context.identity.sourceIp", "127.0.0.1"),
    ];
    const REQUEST: &str =
        "${request.path.id}|${request.querystring.q}|${request.header.X-Two}|${request.header.x-none}|$$";
    let backend = Backend::echo();
    let edits = || -> Vec<(String, Template)> {
        let fields =
            FIELDS.iter().map(|(field, name, _)| (format!("x-{}", field.to_lowercase()), format!("${{{name}}}")));
        let all = fields.chain([("x-request".to_owned(), REQUEST.to_owned()), ("x-two".to_owned(), "new".to_owned())]);
        all.map(|(name, text)| (name, text.parse().unwrap())).collect()
    };
    let mut seen = policy(service());
    seen.request_headers.set = edits();
    seen.response_headers.set = edits();
    let mocked = Mock { status: 200, headers: edits(), body: String::new() };
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        route(
            "r",
            vec![
                rule("seen", "GET", "/a/{id}", seen),
                rule("mock", "GET", "/m/{id}", policy(Integration::Mock(mocked))),
            ],
        ),
    ]);
    let headers = [("x-two", "1"), ("x-two", "2")];
    let response = gate.request("GET", "/a/7?q=b%20c&q=d", &headers, "");
    let request = "7|b c,d|1,2||$";
    assert_eq!(response.header("x-request"), Some(request), "{response:?}");
    assert!(response.body.contains(&format!("x-request: {request}\r\n")), "{}", response.body);
    assert!(response.body.contains("x-two: new\r\n") && !response.body.contains("x-two: 1"), "{}", response.body);
    eventually("a line in the access log", || !gate.log.lines().is_empty());
    let line = gate.log.lines().remove(0);
    for (field, _, expected) in FIELDS {
        let value = line[field].as_str().unwrap();
        let header = format!("x-{}", field.to_lowercase());
        assert_eq!(response.header(&header), Some(value), "{field}");
        assert!(response.body.contains(&format!("{header}: {value}\r\n")), "{field}: {}", response.body);
        assert!(expected.is_empty() || value == expected, "{field}");
    }
    assert_eq!(gate.request("GET", "/m/7?q=b%20c&q=d", &headers, "").header("x-request"), Some(request));
}

/// A signer with its key set: P-256.
pub fn signer() -> (jsonwebtoken::EncodingKey, String) {
    use base64::Engine as _;
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let point = pair.public_key_raw();
    let text = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = (text(&point[1..33]), text(&point[33..65]));
    let set =
        format!(r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k","alg":"ES256","use":"sig","x":"{x}","y":"{y}"}}]}}"#);
    (jsonwebtoken::EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).unwrap(), set)
}

/// A header with a token that is valid for [`login`].
pub fn token(key: &jsonwebtoken::EncodingKey, subject: &str, scope: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("k".into());
    let claims = serde_json::json!({
        "iss": "https://id.example", "aud": "shop", "sub": subject, "scope": scope, "exp": now + 600
    });
    format!("Bearer {}", jsonwebtoken::encode(&header, &claims, key).unwrap())
}

#[test]
fn stages_with_the_behavior_of_aws_log_the_type_of_its_gateway_response() {
    for (behavior, expected) in [
        (Behavior::Native, serde_json::Value::Null),
        (Behavior::AwsRest, "MISSING_AUTHENTICATION_TOKEN".into()),
        (Behavior::AwsHttp, "MISSING_AUTHENTICATION_TOKEN".into()),
    ] {
        let mut gate = Gate::start();
        gate.put(vec![stage_part(StagePart { behavior, ..stage() })]);
        gate.get("/nowhere");
        eventually("a line in the access log", || !gate.log.lines().is_empty());
        let line = gate.log.lines().remove(0);
        assert_eq!((&line["reason"], &line["responseType"]), (&"NotFound".into(), &expected), "{behavior:?}");
    }
}

#[test]
fn rules_with_an_authorizer_of_an_unknown_kind_reject_and_both_are_reported() {
    let name = PartName::new(PartKind::Authorizer, "shop/saml");
    let object = ObjectRef::new("Authorizer", "shop", "saml");
    let kind = AuthorizerKind::Unknown(Unknown { name: "Saml".into(), essential: false });
    let mut guarded = policy(mock("guarded"));
    guarded.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec![] });
    let open = policy(mock("open"));
    let mut gate = Gate::start();
    let found = gate.put(vec![
        stage_part(stage()),
        (name, PartBody::Authorizer(AuthorizerPart { object: object.clone(), kind })),
        route("r", vec![rule("guarded", "GET", "/guarded", guarded), rule("open", "GET", "/open", open)]),
    ]);
    let messages = |object: &ObjectRef| -> Vec<&str> {
        found.iter().filter(|found| found.object == *object).map(|found| found.message.as_str()).collect()
    };
    let of_authorizer = messages(&object);
    assert!(matches!(of_authorizer.as_slice(), [only] if only.contains("\"Saml\"")), "{found:?}");
    let of_route = messages(&ObjectRef::new("ApiRoute", "shop", "r"));
    assert!(
        matches!(of_route.as_slice(), [only] if only.contains("guarded") && only.contains("shop/saml")),
        "{found:?}"
    );
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((gate.get("/guarded").status, gate.get("/open").body.as_str()), (500, "open"));
}

#[test]
fn tokens_identify_callers_and_the_backend_gets_their_claims() {
    let (key, set) = signer();
    let token = |scope: &str, lives: i64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("k".into());
        let claims = serde_json::json!({"iss": "https://id.example", "aud": "shop", "sub": "ann", "scope": scope, "exp": now + lives, "tier": "gold"});
        format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &key).unwrap())
    };
    let (name, login) = login(set);
    let backend = Backend::echo();
    let mut guarded = policy(service());
    guarded.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec!["orders:read".into()] });
    guarded.request_headers.set = vec![("x-tier".into(), "${context.authorizer.claims.tier}".parse().unwrap())];
    let mut gate = Gate::start();
    let parts = vec![
        stage_part(StagePart { behavior: Behavior::AwsHttp, ..stage() }),
        upstream(&[backend.address]),
        (name.clone(), PartBody::Authorizer(login)),
        route("r", vec![rule("r", "GET", "/a", guarded)]),
    ];
    assert_eq!(gate.put(parts), vec![]);
    let ask = |gate: &Gate, token: &str| {
        gate.request("GET", "/a", &[("authorization", token), ("x-tier", "evil"), ("connection", "x-tier")], "")
    };
    let missing = gate.get("/a");
    assert_eq!((missing.status, missing.body.as_str()), (401, r#"{"message":"Unauthorized"}"#));
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let old = ask(&gate, &token("orders:read", -60));
    assert_eq!(old.status, 401);
    assert!(old.header("www-authenticate").unwrap().contains("invalid_token"), "{old:?}");
    assert_eq!(ask(&gate, &token("orders:write", 60)).status, 403);
    let good = ask(&gate, &token("orders:read", 60));
    assert_eq!(good.status, 200, "{good:?}");
    assert!(good.body.contains("x-tier: gold") && !good.body.contains("evil"), "{}", good.body);
    assert_eq!(backend.requests.load(Ordering::SeqCst), 1);
    // A nominated Authorization is no Authorization; a removed authorizer permits no request.
    let token = token("orders:read", 60);
    let nominated = gate.request("GET", "/a", &[("authorization", &token), ("connection", "authorization")], "");
    assert_eq!(nominated.status, 401);
    let diagnostics = gate.remove(name);
    assert!(diagnostics[0].message.contains("shop/login"), "{diagnostics:?}");
    assert_eq!(ask(&gate, &token).status, 500);
}

#[test]
fn a_credential_that_was_not_verified_does_not_reach_the_backend_beside_one_that_was() {
    let (key, set) = signer();
    let bearer = token(&key, "ann", "");
    let token = bearer.trim_start_matches("Bearer ");
    let place = |header: &str, scheme: Option<&str>| TokenSource::Header {
        header: header.into(),
        scheme: scheme.map(Into::into),
    };
    let (name, mut login) = login(set);
    if let AuthorizerKind::Jwt(jwt) = &mut login.kind {
        jwt.token_from =
            vec![place("authorization", Some("Bearer")), place("x-id-token", None), place("x-session", Some("Token"))];
    }
    let backend = Backend::echo();
    let mut guarded = policy(service());
    guarded.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec![] });
    let mut gate = Gate::start();
    let open = rule("open", "GET", "/open", policy(service()));
    let parts = vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(login)),
        route("r", vec![rule("r", "GET", "/a", guarded), open]),
    ];
    assert_eq!(gate.put(parts), vec![]);
    let rows: [(&[(&str, &str)], u16); 8] = [
        (&[("authorization", &bearer), ("x-id-token", "forged")], 200),
        (&[("authorization", &bearer), ("x-session", "Token forged"), ("x-id-token", "forged")], 200),
        (&[("authorization", "Basic forged"), ("x-id-token", token)], 200),
        (&[("authorization", "Bearer"), ("x-id-token", token)], 401),
        (&[("x-session", &format!("Token {token}")), ("x-id-token", "")], 200),
        (&[("x-session", &format!("Token {token}")), ("authorization", "Digest forged")], 200),
        (&[("authorization", "Bearer forged"), ("x-id-token", token)], 401),
        (&[("authorization", &bearer), ("x-session", "Other forged"), ("x-other", "kept")], 200),
    ];
    for (headers, status) in rows {
        let response = gate.request("GET", "/a", headers, "");
        assert_eq!(response.status, status, "{headers:?} {response:?}");
        if status == 200 {
            assert!(response.body.contains(token) && !response.body.contains("forged"), "{headers:?} {response:?}");
        }
    }
    // Where nothing is verified, nothing is removed.
    let response = gate.request("GET", "/open", &[("x-id-token", "anything")], "");
    assert!(response.body.contains("x-id-token: anything"), "{response:?}");
}
