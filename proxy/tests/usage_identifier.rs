//! API keys that Lambda authorizers name (`usageIdentifierKey`), at Stages with `apiKeySource: {type: Authorizer}`.

use serde_json::{Value, json};
use sluice_wire::*;

use crate::harness::*;
use crate::lambda_authorizer::{ask, authorizer, lambda, output, response, stage_of};

const KEY: &str = "key-of-ann-0123456789";

fn keys(digests: &[(&str, &str)]) -> (PartName, PartBody) {
    let entry = |(name, key): &(&str, &str)| KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", *name),
        customer: Some("acme".into()),
        digest: Hash::of(key.as_bytes()),
        plans: vec![plan_name(if *name == "other" { "elsewhere" } else { "gold" })],
    };
    let keys = digests.iter().map(entry).collect();
    (PartName::new(PartKind::Keys, "0"), PartBody::Keys(KeysPart { keys }))
}

fn plan_name(name: &str) -> PartName {
    PartName::of_object(PartKind::Plan, "shop", name)
}

/// A plan for the Stage, or for another one.
fn plan(name: &str, stage: PartName, burst: u32) -> (PartName, PartBody) {
    let object = ObjectRef::new("UsagePlan", "shop", name);
    let throttle = Some(Throttle { rate: 1, per_ms: 86_400_000, burst });
    (
        plan_name(name),
        PartBody::Plan(PlanPart { object, stages: vec![PlanStage { stage, throttles: vec![] }], throttle }),
    )
}

fn named() -> StagePart {
    StagePart { api_key_source: Some(Box::new(ApiKeySource::Authorizer)), ..stage_of(Behavior::Native) }
}

/// What the backend and the client get of the caller.
fn guarded(integration: Integration) -> RulePolicy {
    let text = "${context.identity.apiKeyId}/${context.authorizer.usageIdentifierKey}/${context.authorizer.tier}";
    let set = vec![("x-by".to_owned(), text.parse().unwrap())];
    let part = PartName::new(PartKind::Authorizer, "shop/custom");
    RulePolicy {
        authorizer: Some(AuthorizerUse { part, scopes: Vec::new() }),
        response_headers: HeaderEdits { set, ..HeaderEdits::default() },
        ..policy(integration)
    }
}

fn rules(integration: &Integration) -> (PartName, PartBody) {
    let open = guarded(integration.clone());
    let required = RulePolicy { api_key: true, ..open.clone() };
    let optional = RulePolicy { optional_key: true, ..required.clone() };
    let rules = [("required", required), ("optional", optional), ("open", open)];
    route("r", rules.map(|(name, policy)| rule(name, "GET", &format!("/{name}"), policy)).into())
}

/// A function that names a key: the token is JSON, or the key as it is.
fn naming() -> Backend {
    Backend::start(|_, body| {
        let event: Value = serde_json::from_str(body).unwrap();
        let token = event["authorizationToken"].as_str().unwrap();
        let mut decision: Value = serde_json::from_str(&output("Allow", "*")).unwrap();
        match token {
            "absent" => {}
            token => decision["usageIdentifierKey"] = serde_json::from_str(token).unwrap_or_else(|_| json!(token)),
        }
        response(&decision.to_string())
    })
}

/// A proxy with the keys of `ann`, `off` (which is not enabled: proxies do not know it) and `other` (in a plan of another Stage).
fn gate(function: &Backend, integration: &Integration, burst: u32) -> Gate {
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(named()),
        authorizer(lambda(function.address, LambdaEvent::Token)),
        keys(&[("ann", KEY), ("other", "key-of-other-0123456789")]),
        plan("gold", stage_name(), burst),
        plan("elsewhere", PartName::of_object(PartKind::Stage, "shop", "test"), 9),
        rules(integration),
    ]);
    gate
}

#[test]
fn the_key_of_a_request_is_what_the_function_names_and_nothing_else() {
    let (function, backend) = (naming(), Backend::echo());
    let mut gate = gate(&function, &service(), 1000);
    gate.put(vec![upstream(&[backend.address])]);
    let long = "k".repeat(129);
    let rows: [(&str, u16, u16); 11] = [
        (KEY, 200, 200),
        ("absent", 403, 200),
        ("null", 403, 200),
        ("key-of-off-0123456789", 403, 403),
        ("key-of-other-0123456789", 403, 403),
        ("KEY-OF-ANN-0123456789", 403, 403),
        ("\"\"", 403, 403),
        ("7", 403, 403),
        ("[\"key-of-ann-0123456789\"]", 403, 403),
        ("{\"key\": 1}", 403, 403),
        (&long, 403, 403),
    ];
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        gate.put(vec![stage_part(StagePart { behavior, ..named() })]);
        for (token, required, optional) in rows {
            for (path, status) in [("/required", required), ("/optional", optional), ("/open", 200)] {
                // The header has no effect, with a valid key and with another one.
                for header in [None, Some(KEY), Some("forged-forged-forged")] {
                    let sent = std::iter::once(("authorization", token)).chain(header.map(|key| ("x-api-key", key)));
                    let got = gate.request("GET", path, &sent.collect::<Vec<_>>(), "");
                    let what = format!("{token} {path} {header:?} {behavior:?}");
                    assert_eq!(got.status, status, "{what}");
                    if status == 200 {
                        let key = if token == KEY && path != "/open" { "shop/ann" } else { "" };
                        assert_eq!(got.header("x-by"), Some(&*format!("{key}//gold")), "{what}");
                        let forwarded = got.body.to_ascii_lowercase().contains("x-api-key");
                        assert_eq!(forwarded, path == "/open" && header.is_some(), "{what}: {}", got.body);
                    } else if behavior == Behavior::AwsRest {
                        assert_eq!(got.body, r#"{"message":"Forbidden"}"#, "{what}");
                        assert_eq!(got.header("x-amzn-errortype"), Some("ForbiddenException"), "{what}");
                    }
                }
            }
        }
    }
    assert_eq!(function.requests(), rows.len(), "decisions are remembered, with their keys");
    let requests = 3 * rows.len() * 9;
    eventually("logged", || gate.log.lines().len() == requests);
    for line in gate.log.lines() {
        let by_key = line["apiKey"] == "shop/ann" && line["customerId"] == "acme" && line["usagePlan"] == "shop/gold";
        assert!(by_key || line["apiKey"].is_null(), "{line}");
        assert!(!line.to_string().contains(KEY), "{line}");
        assert!(line["status"] != 403 || line["reason"] == "InvalidKey", "{line}");
    }
}

#[test]
fn a_remembered_key_has_the_throttle_of_its_plan_and_ends_with_the_api_key() {
    let function = naming();
    let mut gate = gate(&function, &mock("in"), 3);
    let statuses = |gate: &Gate| -> Vec<u16> { (0..5).map(|_| ask(gate, "/required", KEY).status).collect() };
    assert_eq!(statuses(&gate), [200, 200, 200, 429, 429]);
    assert_eq!(gate.metric(r#"sluice_throttled_total{scope="key",stage="shop/prod"}"#), 2.0);
    // The same key of another caller has the same bucket.
    gate.put(vec![authorizer(Lambda { result_ttl_ms: 0, ..lambda(function.address, LambdaEvent::Token) })]);
    assert_eq!(ask(&gate, "/optional", KEY).status, 429);
    gate.put(vec![authorizer(lambda(function.address, LambdaEvent::Token))]);
    assert_eq!(ask(&gate, "/required", KEY).status, 429);
    let calls = function.requests();
    // The decision is remembered, and the ApiKey is gone.
    gate.put(vec![keys(&[])]);
    assert_eq!(statuses(&gate), [403; 5]);
    // Another ApiKey has the value now.
    gate.put(vec![keys(&[("bob", KEY)])]);
    let response = ask(&gate, "/required", KEY);
    assert_eq!((response.status, response.header("x-by")), (200, Some("shop/bob//gold")));
    assert_eq!(function.requests(), calls);
}

#[test]
fn elsewhere_the_name_of_a_key_has_no_effect() {
    let function = naming();
    let mut gate = gate(&function, &mock("in"), 1000);
    gate.put(vec![stage_part(stage_of(Behavior::Native))]);
    for (token, key, status) in [(KEY, None, 403), ("absent", Some(KEY), 200), ("7", Some(KEY), 200)] {
        let sent = std::iter::once(("authorization", token)).chain(key.map(|key| ("x-api-key", key)));
        assert_eq!(gate.request("GET", "/required", &sent.collect::<Vec<_>>(), "").status, status, "{token} {key:?}");
    }
    // A simple response names none.
    gate.put(vec![stage_part(named())]);
    let simple = Backend::start(|_, _| response(&json!({"isAuthorized": true, "usageIdentifierKey": KEY}).to_string()));
    let kind = Lambda { responses: LambdaResponses::Simple, ..lambda(simple.address, LambdaEvent::RequestV2) };
    gate.put(vec![authorizer(kind)]);
    assert_eq!((ask(&gate, "/required", "t").status, ask(&gate, "/optional", "t").status), (403, 200));
    // Without an authorizer there is no key.
    let open = RulePolicy { authorizer: None, api_key: true, ..guarded(mock("in")) };
    gate.put(vec![route("r", vec![rule("a", "GET", "/a", open)])]);
    assert_eq!(gate.request("GET", "/a", &[("x-api-key", KEY)], "").status, 403);
}

#[test]
fn a_function_that_denies_or_fails_names_no_key() {
    let deny = Backend::start(|_, _| {
        let mut decision: Value = serde_json::from_str(&output("Deny", "*")).unwrap();
        decision["usageIdentifierKey"] = json!(KEY);
        response(&decision.to_string())
    });
    let mut gate = gate(&deny, &mock("in"), 1000);
    let denied = ask(&gate, "/required", "t");
    let line = || gate.log.lines().last().map(|line| (line["reason"].clone(), line["apiKey"].clone()));
    assert_eq!(denied.status, 403);
    assert_eq!(eventually("logged", line), (json!("PolicyDenied"), Value::Null));
    let failed = Backend::start(|_, _| response(&json!({"usageIdentifierKey": KEY}).to_string()));
    gate.put(vec![authorizer(lambda(failed.address, LambdaEvent::Token))]);
    assert_eq!(ask(&gate, "/required", "t").status, 500);
}

#[test]
fn a_key_that_only_the_authorizer_can_name_is_no_alternative_to_it() {
    let function = naming();
    let mut gate = gate(&function, &mock("in"), 1000);
    let either = RulePolicy { api_key: true, alternative_key: true, ..guarded(mock("in")) };
    let found = gate.put(vec![route("r", vec![rule("a", "GET", "/a", either)])]);
    assert!(found.len() == 1 && found[0].message.contains("which alone can name the key"), "{found:?}");
    let statuses = |gate: &Gate| {
        let by_header = gate.request("GET", "/a", &[("x-api-key", KEY)], "").status;
        (ask(gate, "/a", KEY).status, by_header, gate.get("/a").status)
    };
    assert_eq!(statuses(&gate), (500, 500, 500));
    // The rule is compiled again when the Stage has keys that clients send.
    assert_eq!(gate.put(vec![stage_part(stage_of(Behavior::Native))]), []);
    assert_eq!(statuses(&gate), (200, 200, 401));
    gate.put(vec![stage_part(named())]);
    assert_eq!(statuses(&gate), (500, 500, 500));
}

#[test]
fn a_stored_response_is_sent_to_callers_whose_key_is_valid_only() {
    let (function, backend) = (naming(), Backend::start(|_, _| ok("stored")));
    let mut gate = gate(&function, &service(), 1000);
    let cached = RulePolicy { api_key: true, cache: Some(shared_cache()), ..guarded(service()) };
    gate.put(vec![
        stage_part(StagePart { cache: stage_with_cache().cache, ..named() }),
        upstream(&[backend.address]),
        route("r", vec![rule("a", "GET", "/a", cached)]),
    ]);
    assert_eq!(
        (ask(&gate, "/a", KEY).status, ask(&gate, "/a", "absent").status, ask(&gate, "/a", KEY).status),
        (200, 403, 200)
    );
    assert_eq!(backend.requests(), 1);
}
