//! Rules that accept an API key or a token.

use sluice_wire::*;

use crate::harness::*;
use crate::policy::{signer, token};

const KEY: &str = "secret-of-ann-0123456789";

/// A rule that needs the scope `read` or a key, with a backend that returns what it gets.
fn serve(source: Option<ApiKeySource>, places: Vec<TokenSource>) -> (Gate, String, Backend) {
    let (key, set) = signer();
    let (name, mut login) = login(set);
    if let AuthorizerKind::Jwt(jwt) = &mut login.kind {
        jwt.token_from = places;
    }
    let plan = PartName::new(PartKind::Plan, "shop/gold");
    let entry = KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", "ann"),
        customer: None,
        digest: Hash::of(KEY.as_bytes()),
        plans: vec![plan.clone()],
    };
    let gold = PlanPart {
        object: ObjectRef::new("UsagePlan", "shop", "gold"),
        stages: vec![PlanStage { stage: stage_name(), throttles: vec![] }],
        throttle: None,
    };
    let either = RulePolicy {
        api_key: true,
        alternative_key: true,
        authorizer: Some(AuthorizerUse { part: name.clone(), scopes: vec!["read".into()] }),
        ..policy(service())
    };
    let backend = Backend::echo();
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(StagePart { api_key_source: source.map(Box::new), ..stage() }),
        upstream(&[backend.address]),
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(KeysPart { keys: vec![entry] })),
        (plan, PartBody::Plan(gold)),
        (name, PartBody::Authorizer(login)),
        route("r", vec![rule("r", "GET", "/a", either)]),
    ]);
    (gate, token(&key, "bob", "read"), backend)
}

fn bearer() -> TokenSource {
    TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) }
}

#[test]
fn a_key_or_a_token_is_enough_and_what_was_not_verified_is_not_forwarded() {
    let places = vec![
        bearer(),
        TokenSource::Query { query: "access_token".into() },
        TokenSource::Cookie { cookie: "session".into() },
        TokenSource::WebSocketProtocol { web_socket_protocol: "bearer.".into() },
    ];
    let (gate, token, _backend) = serve(None, places);
    let other = crate::policy::token(&signer().0, "eve", "read");
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16);
    let elsewhere =
        [("x-api-key", KEY), ("cookie", "b=1; session=forged"), ("sec-websocket-protocol", "b=1, bearer.forged")];
    let rows: [Row<'_>; 12] = [
        ("/a", &[], 401),
        ("/a?b=1", &elsewhere, 200),
        ("/a?b=1;Access.Token=forged", &[("x-api-key", KEY), ("cookie", "b=1, Session=forged")], 200),
        ("/a", &[("x-api-key", KEY)], 200),
        ("/a", &[("authorization", &token)], 200),
        ("/a", &[("authorization", &other)], 401),
        ("/a", &[("x-api-key", KEY), ("authorization", &token)], 200),
        ("/a?access_token=forged&b=1", &[("x-api-key", KEY), ("authorization", "Bearer forged")], 200),
        // A typing error in a key is noticed, and a token is no way around a key that is not valid.
        ("/a", &[("x-api-key", "wrong-wrong-wrong-wrong")], 403),
        ("/a", &[("x-api-key", "wrong-wrong-wrong-wrong"), ("authorization", &token)], 403),
        ("/a", &[("x-api-key", KEY), ("x-api-key", KEY)], 403),
        ("/a", &[("x-api-key", "")], 403),
    ];
    for (target, headers, status) in rows {
        let response = gate.request("GET", target, headers, "");
        assert_eq!(response.status, status, "{target} {headers:?}");
        if status == 200 && headers.iter().any(|(name, _)| *name == "x-api-key") {
            assert!(!response.body.contains("Bearer") && !response.body.contains("forged"), "{}", response.body);
            assert!(response.body.contains(target.split(['?', '&']).next().unwrap()), "{}", response.body);
        }
    }
    let lines = || gate.log.lines().into_iter().filter(|line| line["status"] == 200).collect::<Vec<_>>();
    eventually("logged", || lines().len() == 6);
    // Connections have threads of their own: the order of lines is not that of requests.
    let caller = |line: &serde_json::Value| (line["apiKey"].clone(), line["subject"].clone());
    let callers: Vec<_> = lines().iter().map(caller).collect();
    let count = |key: serde_json::Value, subject: serde_json::Value| {
        callers.iter().filter(|found| **found == (key.clone(), subject.clone())).count()
    };
    let none = || serde_json::Value::Null;
    assert_eq!((count("shop/ann".into(), none()), count(none(), "bob".into())), (5, 1), "{callers:?}");
}

#[test]
fn key_and_token_can_be_in_one_header_with_different_schemes() {
    let source = ApiKeySource::Header { name: "authorization".into(), scheme: Some("ApiKey".into()) };
    let (gate, token, _backend) = serve(Some(source), vec![bearer()]);
    let key = format!("ApiKey {KEY}");
    type Row<'a> = (&'a [(&'a str, &'a str)], u16);
    let rows: [Row<'_>; 5] = [
        (&[("authorization", &key)], 200),
        (&[("authorization", &token)], 200),
        (&[("authorization", "ApiKey wrong-wrong-wrong-wrong")], 403),
        // The backend might use the token.
        (&[("authorization", &key), ("authorization", "Bearer forged")], 403),
        (&[("authorization", "Basic YTpi")], 401),
    ];
    for (headers, status) in rows {
        assert_eq!(gate.request("GET", "/a", headers, "").status, status, "{headers:?}");
    }
}

#[test]
fn without_an_authorizer_a_key_is_required() {
    let (mut gate, ..) = serve(None, vec![bearer()]);
    let alone = RulePolicy { api_key: true, alternative_key: true, ..policy(mock("in")) };
    gate.put(vec![route("r", vec![rule("r", "GET", "/a", alone)])]);
    assert_eq!(gate.get("/a").status, 403);
    assert_eq!(gate.request("GET", "/a", &[("x-api-key", KEY)], "").status, 200);
}
