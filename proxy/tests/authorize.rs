//! Expressions that authorize requests, with real requests.

use std::sync::atomic::Ordering;

use sluice_wire::*;

use crate::harness::*;
use crate::policy::{signer, token};

fn terms(list: &[(&str, Option<&str>)]) -> Vec<AuthorizeTerm> {
    let term = |(text, message): &(&str, Option<&str>)| AuthorizeTerm {
        expression: (*text).to_owned(),
        message: message.map(str::to_owned),
    };
    list.iter().map(term).collect()
}

fn guarded(integration: Integration, list: &[(&str, Option<&str>)]) -> RulePolicy {
    RulePolicy { authorize: terms(list), ..policy(integration) }
}

#[test]
fn every_expression_must_hold_and_rejections_have_the_form_of_the_stage() {
    let mut gate = Gate::start();
    let rules = vec![
        rule("plain", "ANY", "/plain", guarded(mock("in"), &[("request.method == 'GET'", None)])),
        rule(
            "two",
            "ANY",
            "/t/{tenant}/{rest+}",
            guarded(
                mock("in"),
                &[
                    ("request.headers['x-tenant'] == params.tenant", Some("Not \"your\" tenant.")),
                    ("request.path.endsWith('/a') && request.query.q[0] == '1 2' && stage.name == 'prod'", None),
                ],
            ),
        ),
    ];
    gate.put(vec![route("r", rules)]);
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        assert_eq!(gate.put(vec![stage_part(StagePart { behavior, ..stage() })]), vec![]);
        assert_eq!(gate.get("/plain").status, 200);
        let denied = gate.request("POST", "/plain", &[], "");
        assert_eq!(denied.status, 403);
        let (general, authored) = match behavior {
            Behavior::Native => ("This request is not allowed.", r#""detail":"Not \"your\" tenant.""#),
            _ => (r#"{"message":"Forbidden"}"#, r#"{"message":"Not \"your\" tenant."}"#),
        };
        assert!(denied.body.contains(general), "{}", denied.body);
        for (path, headers, status) in [
            ("/t/x/a?q=1+2", &[("x-tenant", "x")][..], 200),
            ("/t/x/a?q=1%202&q=3", &[("x-tenant", "x")], 200),
            ("/t/x/b?q=1+2", &[("x-tenant", "x")], 403),
            ("/t/x/a", &[("x-tenant", "x")], 403),
            ("/t/x/a?q=1+2", &[("x-tenant", "y")], 403),
            ("/t/x/a?q=1+2", &[], 403),
            // Two values are not one of them.
            ("/t/x/a?q=1+2", &[("x-tenant", "x"), ("x-tenant", "y")], 403),
            // A header that the connection takes is not forwarded, and is not read.
            ("/t/x/a?q=1+2", &[("x-tenant", "x"), ("connection", "x-tenant")], 403),
            // UTF-8 that is not ASCII.
            ("/t/x/a?q=1+2", &[("x-tenant", "x"), ("x-latin", "\u{80}")], 200),
        ] {
            let response = gate.request("GET", path, headers, "");
            assert_eq!(response.status, status, "{behavior:?} {path} {headers:?} {}", response.body);
        }
        let wrong = gate.request("GET", "/t/x/a?q=1+2", &[("x-tenant", "y")], "");
        assert!(wrong.body.contains(authored), "{}", wrong.body);
    }
    let logged =
        |reason: &str, by: &str| gate.log.lines().iter().any(|line| line["reason"] == reason && line["deniedBy"] == by);
    eventually("logged", || {
        logged("ExpressionFalse", "authorize[0]")
            && logged("ExpressionFalse", "authorize[1]")
            && logged("ExpressionFailed", "authorize[0]")
    });
    assert!(gate.log.lines().iter().all(|line| line["status"] != 200 || line.get("deniedBy").is_none()));
    assert!(gate.metric(r#"sluice_rejects_total{reason="ExpressionFailed",stage="shop/prod"}"#) >= 6.0);
}

#[test]
fn the_address_of_the_client_and_the_time_of_the_request_can_be_compared() {
    let mut gate = Gate::start();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    let (before, after) =
        (format!("request.time > timestamp({})", now - 60), format!("timestamp({now}) > request.time"));
    let rules = [
        ("inside", "cidr('127.0.0.0/8').containsIP(source.address)", 200),
        ("outside", "cidr('10.0.0.0/8').containsIP(source.address)", 403),
        ("v4", "ip(source.address).family() == 4", 200),
        ("before", &before, 200),
        ("after", &after, 403),
        ("recent", &format!("request.time - timestamp({now}) < duration('1h')"), 200),
    ];
    let all = rules
        .iter()
        .map(|(name, text, _)| rule(name, "GET", &format!("/{name}"), guarded(mock("in"), &[(text, None)])));
    gate.put(vec![route("r", all.collect())]);
    assert_eq!(gate.put(vec![stage_part(stage())]), vec![]);
    for (name, text, status) in rules {
        assert_eq!(gate.get(&format!("/{name}")).status, status, "{text}");
    }
}

#[test]
fn claims_decide_and_a_stored_response_is_for_authorized_callers_only() {
    let (key, set) = signer();
    let (name, login) = login(set);
    let backend = Backend::echo();
    let mut inner = guarded(service(), &[("identity.claims.sub == 'ann' && 'read' in identity.scopes", None)]);
    inner.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: Vec::new() });
    inner.cache = Some(shared_cache());
    let open = guarded(mock("open"), &[("!has(identity.id) && !has(certificate.subject)", None)]);
    let mut gate = Gate::start();
    let parts = vec![
        stage_part(stage_with_cache()),
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(login)),
        route("r", vec![rule("in", "GET", "/in", inner), rule("open", "GET", "/open", open)]),
    ];
    assert_eq!(gate.put(parts), vec![]);
    let ask = |subject: &str, scope: &str| {
        gate.request("GET", "/in", &[("authorization", &token(&key, subject, scope))], "").status
    };
    assert_eq!([ask("ann", "read"), ask("bob", "read"), ask("ann", "write"), ask("ann", "read")], [200, 403, 403, 200]);
    assert_eq!(backend.requests.load(Ordering::SeqCst), 1);
    assert_eq!(gate.get("/in").status, 401);
    assert_eq!(gate.get("/open").status, 200);
}

#[test]
fn a_rule_with_an_expression_that_the_proxy_does_not_accept_rejects_its_requests() {
    let mut gate = Gate::start();
    for text in ["request.future == 'a'", "", "true &&", "1 + 1"] {
        let rules = vec![
            rule("bad", "GET", "/bad", guarded(mock("in"), &[("true", None), (text, None)])),
            rule("good", "GET", "/good", policy(mock("in"))),
        ];
        let diagnostics = gate.put(vec![stage_part(stage()), route("r", rules)]);
        assert!(diagnostics[0].message.contains("its expression 2 is not valid"), "{diagnostics:?}");
        assert_eq!((gate.get("/bad").status, gate.get("/good").status), (500, 200), "{text}");
    }
}

#[test]
fn an_older_proxy_does_not_know_the_action_of_a_rule_with_expressions() {
    let action = RuleAction::of(guarded(mock("in"), &[("true", None)]));
    let text = serde_json::to_string(&action).unwrap();
    // What is not `Serve` or `Invalid` makes the part unreadable for it.
    assert!(text.starts_with(r#"{"Authorize":{"#), "{text}");
    assert_eq!(serde_json::from_str::<RuleAction>(&text).unwrap(), action);
    assert!(serde_json::to_string(&RuleAction::of(policy(mock("in")))).unwrap().starts_with(r#"{"Serve":{"#));
}

#[test]
fn a_path_has_one_spelling_and_preflight_requests_are_not_checked() {
    let mut gate = Gate::start();
    let cors = Cors {
        allow_origins: vec!["https://app.example".into()],
        allow_methods: vec!["GET".into()],
        allow_headers: vec!["x-role".into()],
        expose_headers: vec![],
        max_age_s: None,
        allow_credentials: false,
    };
    let of_role = guarded(mock("in"), &[("params.role != 'admin' && !request.path.startsWith('/roles/admin')", None)]);
    let of_header = guarded(mock("in"), &[("request.headers['x-role'] == 'reader'", None)]);
    let of_all = guarded(mock("in"), &[("request.headers.exists(name, name == 'x-role')", None)]);
    let parts = vec![
        stage_part(StagePart { cors: Some(Box::new(cors)), ..stage() }),
        route(
            "r",
            vec![
                rule("role", "GET", "/roles/{role}", of_role),
                rule("header", "GET", "/header", of_header),
                rule("all", "GET", "/all", of_all),
            ],
        ),
    ];
    assert_eq!(gate.put(parts), vec![]);
    for (path, status) in
        [("/roles/reader", 200), ("/roles/admin", 403), ("/roles/%61dmin", 403), ("/roles/%61%64%6D%69n", 403)]
    {
        assert_eq!(gate.get(path).status, status, "{path}");
    }
    assert_eq!(gate.request("GET", "/header", &[("x-role", "reader")], "").status, 200);
    // Not UTF-8: in a header that is read, in another one, and where all headers are read.
    for (path, headers, status) in [
        ("/header", &b"x-role: \xff"[..], 403),
        ("/header", b"x-role: reader\r\nx-other: \xff", 200),
        ("/all", b"x-role: reader\r\nx-other: \xff", 403),
        ("/all", b"x-role: reader", 200),
    ] {
        let mut stream = gate.connect();
        let head = [b"GET ", path.as_bytes(), b" HTTP/1.1\r\nhost: shop.example\r\n", headers, b"\r\n\r\n"].concat();
        std::io::Write::write_all(&mut stream, &head).unwrap();
        assert_eq!(read_response(&mut stream).status, status, "{path} {}", String::from_utf8_lossy(headers));
    }
    let preflight = [
        ("origin", "https://app.example"),
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "x-role"),
    ];
    assert_eq!(gate.request("OPTIONS", "/header", &preflight, "").status, 204);
}

#[test]
fn the_key_of_a_request_can_be_read() {
    let mut gate = Gate::start();
    let plan = PartName::of_object(PartKind::Plan, "shop", "gold");
    let entry = |name: &str, key: &str| KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", name),
        digest: Hash::of(key.as_bytes()),
        customer: Some("acme".into()),
        plans: vec![plan.clone()],
    };
    let keys = vec![entry("one", "key-0123456789-one"), entry("two", "key-0123456789-two")];
    let at = PlanStage { stage: stage_name(), throttles: vec![] };
    let object = ObjectRef::new("UsagePlan", "shop", "gold");
    let text = "key.id == 'shop/one' && key.customer == 'acme' && key.plan == 'shop/gold'";
    let keyed = RulePolicy { api_key: true, ..guarded(mock("in"), &[(text, None)]) };
    let parts = vec![
        stage_part(stage()),
        (plan.clone(), PartBody::Plan(PlanPart { object, stages: vec![at], throttle: None })),
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(KeysPart { keys })),
        route("r", vec![rule("keyed", "GET", "/a", keyed)]),
    ];
    assert_eq!(gate.put(parts), vec![]);
    let ask = |key: &str| gate.request("GET", "/a", &[("x-api-key", key)], "").status;
    assert_eq!([ask("key-0123456789-one"), ask("key-0123456789-two"), ask("none")], [200, 403, 403]);
}
