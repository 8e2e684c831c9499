//! Explanations: for each request, status, reason and headers are those of the response that a client gets, the last check is the
//! one that decides, and neither backend nor cache notices anything.

use serde_json::{Value, json};
use sluice_kit::tls::issue;
use sluice_proxy::explain::Explanation;
use sluice_proxy::run::{RequestToExplain, TlsClient};
use sluice_wire::*;

use crate::harness::*;
use crate::policy::{signer, token};

const KEY: &str = "key-of-the-partner";

fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> RequestToExplain {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut all = vec![owned(("host", "shop.example"))];
    all.extend(headers.iter().copied().map(owned));
    if !body.is_empty() {
        all.push(("content-length".to_owned(), body.len().to_string()));
    }
    RequestToExplain {
        method: method.to_owned(),
        target: target.to_owned(),
        headers: all,
        body: body.to_owned().into(),
        source: [127, 0, 0, 1].into(),
        port: 80,
        tls: None,
    }
}

fn explain(gate: &Gate, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Explanation {
    gate.proxy.explain(&request(method, target, headers, body)).unwrap()
}

/// The last check, and whether the request passes.
fn decided(found: &Explanation) -> String {
    let last = serde_json::to_value(found.checks.last().unwrap()).unwrap();
    format!("{} {}", last["check"].as_str().unwrap(), last["result"].as_str().unwrap())
}

/// Without what each response has for itself.
fn comparable(headers: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let own = ["x-request-id", "date", "connection", "x-amzn-requestid", "x-amz-apigw-id", "apigw-requestid"];
    let mut all: Vec<_> = headers.filter(|(name, _)| !own.contains(&name.as_str())).collect();
    all.sort();
    all
}

fn terms(expressions: &[&str]) -> Vec<AuthorizeTerm> {
    expressions.iter().map(|text| AuthorizeTerm { expression: (*text).to_owned(), message: None }).collect()
}

/// A gate with one of each check.
fn gate(backend: &Backend, key: &str) -> Gate {
    let mut gate = Gate::start();
    let (name, login) = login(key.to_owned());
    let using = |scopes: &[&str]| {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        Some(AuthorizerUse { part: name.clone(), scopes })
    };
    let plan = PartName::new(PartKind::Plan, "shop/gold");
    let gold = PlanPart {
        object: ObjectRef::new("UsagePlan", "shop", "gold"),
        stages: vec![PlanStage { stage: stage_name(), throttles: vec![] }],
        throttle: Some(Throttle { rate: 100, per_ms: 60_000, burst: 1000 }),
    };
    let entry = KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", "partner"),
        customer: Some("acme".into()),
        digest: Hash::of(KEY.as_bytes()),
        plans: vec![plan.clone()],
    };
    let no_tokens = Some(Throttle { rate: 1, per_ms: 1000, burst: 0 });
    let source = Sources { allow: vec!["192.0.2.0/24".parse().unwrap()], deny: vec![] };
    let integration = Integration::Service(PartName::new(PartKind::Upstream, "shop/orders:80"));
    let with_headers = HeaderEdits {
        set: vec![("x-order".into(), "${request.path.id}".parse().unwrap())],
        add: vec![],
        remove: vec!["x-secret".into()],
    };
    let rules = vec![
        rule("orders", "GET", "/orders/{id}", RulePolicy { request_headers: with_headers, ..policy(integration) }),
        rule("mock", "ANY", "/mock", policy(mock("m"))),
        rule("login", "GET", "/login", RulePolicy { authorizer: using(&[]), ..policy(service()) }),
        rule("scope", "GET", "/scope", RulePolicy { authorizer: using(&["write", "admin"]), ..policy(service()) }),
        rule("key", "GET", "/key", RulePolicy { api_key: true, ..policy(service()) }),
        rule(
            "cel",
            "GET",
            "/cel",
            RulePolicy {
                authorize: terms(&["request.method == 'GET'", "request.query.a[0] == '1'"]),
                ..policy(service())
            },
        ),
        rule("full", "GET", "/full", RulePolicy { throttle: no_tokens, ..policy(service()) }),
        rule(
            "client",
            "GET",
            "/client",
            RulePolicy {
                client_throttle: no_tokens.map(|throttle| ClientThrottle {
                    throttle,
                    ipv4_prefix: 32,
                    ipv6_prefix: 64,
                }),
                ..policy(service())
            },
        ),
        rule("source", "GET", "/source", RulePolicy { source: Some(source), ..policy(service()) }),
        rule("small", "POST", "/small", RulePolicy { body_limit: Some(4), ..policy(service()) }),
        rule("cached", "GET", "/cached", RulePolicy { cache: Some(shared_cache()), ..policy(service()) }),
        Rule {
            action: RuleAction::Invalid { why: "no such Service".into() },
            ..rule("bad", "GET", "/bad", policy(service()))
        },
    ];
    let parts = vec![
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(login)),
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(KeysPart { keys: vec![entry] })),
        (plan, PartBody::Plan(gold)),
        route("r", rules),
    ];
    gate.put(parts);
    gate
}

fn stage_of(behavior: Behavior) -> StagePart {
    let statement = |effect: &str, resource: &str, sid: &str| json!({"Sid": sid, "Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource});
    let statements =
        [statement("Allow", "execute-api:/*", "All"), statement("Deny", "execute-api:/prod/PUT/*", "NoPut")];
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = StagePolicy { document, arn: "arn:aws:execute-api:eu-west-1:111122223333:shop".to_owned() };
    let cors = Cors {
        allow_origins: vec!["https://shop.example".into()],
        allow_methods: vec!["GET".into()],
        allow_headers: vec![],
        expose_headers: vec![],
        allow_credentials: false,
        max_age_s: None,
    };
    StagePart {
        behavior,
        policy: Some(Box::new(policy)),
        invalid: Some(POLICY_REQUIRED.to_owned()),
        cors: Some(Box::new(cors)),
        rate_limit_headers: true,
        ..stage_with_cache()
    }
}

#[test]
fn an_explanation_is_what_a_client_gets() {
    let backend = Backend::echo();
    let (key, set) = signer();
    let mut gate = gate(&backend, &set);
    let (valid, writer) = (token(&key, "ann", "read"), token(&key, "bob", "read write"));
    let (valid, writer) = ([("authorization", &*valid)], [("authorization", &*writer)]);
    let (key, wrong) = ([("x-api-key", KEY)], [("x-api-key", "wrong")]);
    let preflight = [("origin", "https://shop.example"), ("access-control-request-method", "GET")];
    let none: &[(&str, &str)] = &[];
    type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str, &'a str, &'a str);
    let rows: &[Row<'_>] = &[
        ("GET", "/orders/7?a=b", none, "", "", "integration passed"),
        ("GET", "/mock", &[("origin", "https://shop.example")], "", "", "integration passed"),
        ("GET", "/nowhere", none, "", "NotFound", "rule rejected"),
        ("POST", "/orders/7", none, "", "-", "rule rejected"),
        ("GET", "/bad", none, "", "InvalidConfig", "rule rejected"),
        ("GET", "/a/../b", none, "", "Malformed", "request rejected"),
        ("GET", "/a%2Fb;c", none, "", "-", "- rejected"),
        ("GET", "/mock", &[("host", "two.example")], "", "Malformed", "request rejected"),
        ("G@T", "/mock", none, "", "Malformed", "request rejected"),
        ("OPTIONS", "/mock", &preflight, "", "", "preflight passed"),
        ("PUT", "/mock", none, "", "PolicyDenied", "policy rejected"),
        ("GET", "/login", none, "", "token_missing", "authorizer rejected"),
        ("GET", "/login", &[("authorization", "Bearer x")], "", "token_malformed", "authorizer rejected"),
        ("GET", "/login", &valid, "", "", "integration passed"),
        ("GET", "/scope", &valid, "", "ScopeMissing", "scopes rejected"),
        ("GET", "/scope", &writer, "", "", "integration passed"),
        ("GET", "/key", none, "", "InvalidKey", "apiKey rejected"),
        ("GET", "/key", &wrong, "", "InvalidKey", "apiKey rejected"),
        ("GET", "/key", &key, "", "", "integration passed"),
        ("GET", "/cel?a=1", none, "", "", "integration passed"),
        ("GET", "/cel?a=2", none, "", "ExpressionFalse", "authorize rejected"),
        ("GET", "/cel", none, "", "ExpressionFailed", "authorize rejected"),
        ("GET", "/full", none, "", "Throttled", "throttle rejected"),
        ("GET", "/client", none, "", "Throttled", "clientThrottle rejected"),
        ("GET", "/source", none, "", "SourceNotAllowed", "ruleSource rejected"),
        ("POST", "/small", none, "12345", "BodyTooLarge", "bodySize rejected"),
        ("POST", "/small", none, "1234", "", "integration passed"),
    ];
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        assert_eq!(gate.put(vec![stage_part(stage_of(behavior))]), vec![]);
        for (method, target, headers, body, reason, expected) in rows {
            let what = format!("{behavior:?} {method} {target} {headers:?}");
            let (calls, lines) = (backend.requests(), gate.log.lines().len());
            let found = explain(&gate, method, target, headers, body);
            // This gate also serves clients, so that its log has a line of the explanation.
            eventually("logged", || gate.log.lines().len() == lines + 1);
            assert_eq!(backend.requests(), calls, "{what} reached the backend");
            let response = found.response.clone().unwrap();
            let text = {
                let request = request(method, target, headers, body);
                let head: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
                format!("{method} {target} HTTP/1.1\r\n{head}connection: close\r\n\r\n{body}")
            };
            let real = gate.raw(&text);
            let line = eventually("logged", || gate.log.lines().get(lines + 1).cloned());
            let text = |value: &Option<String>| value.clone().map_or(Value::Null, Value::from);
            assert_eq!(line["reason"], text(&response.reason), "{what}");
            assert_eq!(line["deniedBy"], text(&response.denied_by), "{what}");
            if *reason != "-" {
                assert_eq!(response.reason.as_deref().unwrap_or_default(), *reason, "{what}");
            }
            if !expected.starts_with('-') {
                assert_eq!(decided(&found), *expected, "{what}");
            }
            if found.upstream.is_some() {
                assert_eq!((real.status, backend.requests()), (200, calls + 1), "{what}");
                assert_eq!((response.status, response.body), (None, None), "{what}");
                continue;
            }
            assert_eq!(response.status, Some(real.status), "{what}");
            assert_eq!(response.body.as_deref(), Some(&*real.body), "{what}");
            let real_headers = real.headers.iter().map(|(name, value)| (name.to_string(), value.clone()));
            // What is left of a limit is another number.
            let named = |(name, value): (String, String)| {
                (name.clone(), if name == "ratelimit" { String::new() } else { value })
            };
            let expected = comparable(real_headers.map(named));
            assert_eq!(comparable(response.headers.into_iter().map(named)), expected, "{what}");
        }
    }
}

#[test]
fn the_facts_of_an_explanation_name_objects_and_no_secret() {
    let backend = Backend::echo();
    let (key, set) = signer();
    let mut gate = gate(&backend, &set);
    gate.put(vec![stage_part(stage_of(Behavior::Native))]);
    let json = |method: &str, target: &str, headers: &[(&str, &str)]| {
        serde_json::to_value(explain(&gate, method, target, headers, "")).unwrap()
    };
    let forwarded = json("GET", "/orders/7?a=b", &[("x-secret", "s3cret"), ("connection", "x-hop"), ("x-hop", "1")]);
    assert_eq!(forwarded["outcome"], "forwarded");
    assert_eq!(
        forwarded["request"],
        json!({"method": "GET", "scheme": "http", "host": "shop.example", "path": "/orders/7", "source": "127.0.0.1"})
    );
    assert_eq!(forwarded["stage"], json!({"name": "shop/prod", "basePath": "/", "behavior": "Native"}));
    assert_eq!(
        forwarded["rule"],
        json!({
            "route": "shop/r", "name": "orders", "methods": ["GET"], "path": "/orders/{id}", "parameters": {"id": "7"},
            "integration": {"type": "Service", "service": "shop/orders:80", "endpoints": [backend.address.to_string()]},
        })
    );
    assert_eq!(forwarded["policy"]["statement"], json!({"place": "stage.policy.Statement[0]", "sid": "All"}));
    let upstream = &forwarded["upstream"];
    assert_eq!((&upstream["method"], &upstream["target"]), (&json!("GET"), &json!("/orders/7?a=b")));
    let set = upstream["setHeaders"].as_array().unwrap();
    for (name, value) in [("x-order", "7"), ("x-forwarded-for", "127.0.0.1"), ("x-forwarded-proto", "http")] {
        assert!(set.contains(&json!([name, value])), "{name}: {set:?}");
    }
    let mut removed: Vec<&str> =
        upstream["removedHeaders"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    removed.sort_unstable();
    assert_eq!(removed, ["connection", "x-hop", "x-secret"]);

    let bearer = token(&key, "ann", "read");
    let denied = json("GET", "/scope", &[("authorization", &bearer)]);
    assert_eq!(
        denied["authorizer"],
        json!({"name": "shop/login", "kind": "Jwt", "decision": "allowed", "scopes": ["write", "admin"]})
    );
    assert_eq!(denied["caller"], json!({"id": "ann", "issuer": "https://id.example", "scopes": ["read"]}));

    let keyed = json("GET", "/key", &[("x-api-key", KEY)]);
    assert_eq!(
        keyed["apiKey"],
        json!({"place": "header x-api-key", "name": "shop/partner", "customer": "acme", "plan": "shop/gold"})
    );
    assert_eq!(keyed["limits"], json!([{"scope": "key", "rate": 100, "periodMs": 60_000, "burst": 1000}]));
    for secret in [KEY, bearer.trim_start_matches("Bearer "), "s3cret"] {
        assert!(![&forwarded, &denied, &keyed].into_iter().any(|found| found.to_string().contains(secret)), "{secret}");
    }

    let failed = json("GET", "/cel", &[]);
    assert_eq!(
        failed["expressions"],
        json!([
            {"index": 0, "expression": "request.method == 'GET'", "result": true},
            {"index": 1, "expression": "request.query.a[0] == '1'", "result": null, "error": "a key does not exist"},
        ])
    );
    assert_eq!(json("GET", "/bad", &[])["rule"]["invalid"], "no such Service");
    let missed = json("GET", "/nowhere", &[]);
    assert!(missed["rules"].as_array().unwrap().iter().any(|rule| rule["path"] == "/orders/{id}"), "{missed}");
    let other = gate.proxy.explain(&RequestToExplain {
        headers: vec![("host".into(), "other.example".into())],
        ..request("GET", "/mock", &[], "")
    });
    let other = serde_json::to_value(other.unwrap()).unwrap();
    assert_eq!(other["stages"], json!([{"name": "shop/prod", "hosts": ["shop.example"], "basePath": "/"}]));
}

#[test]
fn the_cache_is_neither_read_nor_filled_nor_invalidated() {
    let backend = Backend::echo();
    let (_, set) = signer();
    let mut gate = gate(&backend, &set);
    gate.put(vec![stage_part(stage_with_cache())]);
    let action = |method: &str, headers: &[(&str, &str)]| {
        explain(&gate, method, "/cached", headers, "").cache.map(|cache| cache.action)
    };
    assert_eq!(action("GET", &[]), Some("lookup"));
    assert_eq!(action("GET", &[("cache-control", "no-store")]), Some("bypass"));
    let conditional = explain(&gate, "GET", "/cached", &[("if-none-match", "\"a\"")], "");
    assert_eq!(conditional.upstream.unwrap().removed_headers, ["if-none-match"]);
    let status = || gate.get("/cached").header("cache-status").map(str::to_owned).unwrap();
    assert!(status().contains("fwd=miss"), "the explanation has filled the cache");
    assert!(status().contains("hit") && backend.requests() == 1);
    let again = explain(&gate, "GET", "/cached", &[], "");
    assert!(again.upstream.is_some() && backend.requests() == 1);
    assert!(status().contains("hit"));
}

#[test]
fn the_warning_about_a_refresh_that_is_ignored_is_explained() {
    let backend = Backend::echo();
    let (_, set) = signer();
    let mut gate = gate(&backend, &set);
    let cache = stage_with_cache().cache.map(|cache| StageCache {
        invalidation: Invalidation::Required,
        unauthorized: Unauthorized::SucceedWithWarning,
        ..cache
    });
    gate.put(vec![stage_part(StagePart { cache, ..stage() })]);
    let refresh = [("cache-control", "max-age=0")];
    for headers in [&refresh[..], &[]] {
        let found = explain(&gate, "GET", "/cached", headers, "");
        let added = found.response.unwrap().headers;
        let explained = added.iter().find(|(name, _)| name == "warning").map(|(_, value)| value.as_str());
        let real = gate.request("GET", "/cached", headers, "");
        assert_eq!((explained, explained.is_some()), (real.header("warning"), !headers.is_empty()));
        assert!(!added.iter().any(|(name, _)| name == "cache-status"), "{added:?}");
    }
}

#[test]
fn a_websocket_is_explained_as_one_that_the_backend_accepts() {
    let backend = Backend::echo();
    let (_, set) = signer();
    let mut gate = gate(&backend, &set);
    gate.put(vec![stage_part(stage())]);
    let headers =
        [("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")];
    let found = explain(&gate, "GET", "/orders/7", &headers, "");
    assert_eq!(decided(&found), "integration passed");
    let added = found.response.unwrap().headers;
    assert!(!added.iter().any(|(name, _)| name == "connection"), "{added:?}");
    let sent = found.upstream.unwrap();
    assert!(!sent.removed_headers.iter().any(|name| name == "upgrade"), "{:?}", sent.removed_headers);
    // Without a WebSocket the connection ends: the client may already use the other protocol.
    let other = explain(&gate, "GET", "/orders/7", &[("connection", "upgrade"), ("upgrade", "h2c")], "");
    assert!(other.response.unwrap().headers.contains(&("connection".to_owned(), "close".to_owned())));
}

#[test]
fn a_client_is_at_the_address_and_uses_the_certificate_that_the_explanation_is_asked_for() {
    let issued = issue("shop.example");
    let mut gate = Gate::start();
    let object = ObjectRef::new("Secret", "shop", "tls");
    let (chain_pem, key_pem) = (issued.chain_pem.clone(), issued.key_pem.clone());
    let certificate = CertificatePart { object, chain_pem, key_pem, not_after: None };
    let source = Sources { allow: vec!["203.0.113.0/24".parse().unwrap()], deny: vec![] };
    let tls = StageTls { http: PlainHttp::Redirect, hsts: None, incomplete: false };
    let stage = StagePart {
        source: Some(Box::new(source)),
        certificates: vec![PartName::new(PartKind::Certificate, "shop/tls")],
        tls: Some(tls),
        ..stage()
    };
    gate.put(vec![
        (PartName::new(PartKind::Certificate, "shop/tls"), PartBody::Certificate(certificate)),
        stage_part(stage),
        route("r", vec![rule("a", "GET", "/a", policy(mock("a")))]),
    ]);
    let ask = |source: [u8; 4], host: Option<&str>| {
        let tls = host.map(|host| TlsClient { host: host.to_owned(), identity_pem: None });
        let found = gate
            .proxy
            .explain(&RequestToExplain { source: source.into(), tls, ..request("GET", "/a", &[], "") })
            .unwrap();
        let response = found.response.clone().unwrap();
        (decided(&found), response.status, response.reason.unwrap_or_default())
    };
    let (near, far) = ([203, 0, 113, 7], [198, 51, 100, 7]);
    let row = |check: &str, status, reason: &str| (check.to_owned(), status, reason.to_owned());
    assert_eq!(ask(near, Some("shop.example")), row("integration passed", Some(200), ""));
    assert_eq!(ask(far, Some("shop.example")), row("stageSource rejected", Some(403), "SourceNotAllowed"));
    assert_eq!(ask(near, None), row("tls rejected", Some(308), "HttpsRedirect"));
    assert_eq!(ask(near, Some("other.example")), row("connection rejected", None, "TlsHandshake"));
}

#[test]
fn without_a_configuration_the_request_is_rejected() {
    let gate = Gate::start();
    let found = explain(&gate, "GET", "/", &[], "");
    assert_eq!((decided(&found), found.response.unwrap().status), ("stage rejected".to_owned(), Some(503)));
    assert!(gate.proxy.explain(&request("GET", "/\r\nx: y", &[], "")).is_err());
}
