//! Which rule matches, and the response when none does.

use sluice_wire::*;

use crate::harness::*;

#[test]
fn nothing_is_served_before_the_first_configuration() {
    let gate = Gate::start();
    let response = gate.get("/");
    assert_eq!(response.status, 503);
    assert!(response.body.contains("no configuration yet"), "{}", response.body);
}

#[test]
fn rules_match_by_host_base_path_path_and_method() {
    let mut gate = Gate::start();
    let rules = vec![
        rule("list", "GET", "/orders", policy(mock("list"))),
        rule("one", "GET", "/orders/{id}", policy(mock("one"))),
        rule("new", "GET", "/orders/new", policy(mock("new"))),
        rule("rest", "ANY", "/files/{path+}", policy(mock("rest"))),
    ];
    gate.put(vec![stage_part(StagePart { base_path: "/v1".into(), ..stage() }), route("orders", rules)]);
    let rows = [
        ("GET", "/v1/orders", 200, "list"),
        ("GET", "/v1/orders?x=1", 200, "list"),
        ("GET", "/v1/orders/7", 200, "one"),
        ("GET", "/v1/orders/new", 200, "new"),
        ("GET", "/v1/orders/%6eew", 200, "new"),
        ("PATCH", "/v1/files/a/b", 200, "rest"),
        ("GET", "/v1/files", 404, "The resource does not exist"),
        ("DELETE", "/v1/orders", 405, "does not support this method"),
        ("GET", "/v1/none", 404, "The resource does not exist"),
        ("GET", "/orders", 404, "The resource does not exist"),
        ("GET", "/v1orders", 404, "The resource does not exist"),
        ("GET", "/v1/orders/", 404, "The resource does not exist"),
    ];
    for (method, path, status, text) in rows {
        let response = gate.request(method, path, &[], "");
        assert_eq!(response.status, status, "{method} {path}: {}", response.body);
        assert!(response.body.contains(text), "{method} {path}: {}", response.body);
        assert_eq!(response.header("x-request-id").map(str::len), Some(36));
    }
    assert_eq!(gate.request("DELETE", "/v1/orders", &[], "").header("allow"), Some("GET"));
    assert_eq!(gate.request("GET", "/v1/orders", &[("host", "other.example")], "").status, 404);
    assert_eq!(gate.request("GET", "/v1/orders", &[("host", "SHOP.example:8080")], "").status, 200);
    let head = gate.request("HEAD", "/v1/files/a", &[], "");
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
}

#[test]
fn aws_stages_hide_what_exists() {
    let mut gate = Gate::start();
    let rules = || route("r", vec![rule("a", "GET", "/a", policy(mock("a")))]);
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() }), rules()]);
    for (method, path) in [("GET", "/b"), ("POST", "/a")] {
        let response = gate.request(method, path, &[], "");
        assert_eq!((response.status, response.body.as_str()), (403, r#"{"message":"Missing Authentication Token"}"#));
        assert_eq!(response.header("x-amzn-errortype"), Some("MissingAuthenticationTokenException"));
        assert_eq!(response.header("x-amzn-requestid").map(str::len), Some(36));
    }
    assert_eq!(gate.get("/a/").body, "a");
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsHttp, ..stage() })]);
    let response = gate.request("POST", "/a", &[], "");
    assert_eq!((response.status, response.body.as_str()), (404, r#"{"message":"Not Found"}"#));
    assert!(response.header("apigw-requestid").is_some());
}

#[test]
fn versions_of_a_route_are_served_together() {
    let mut gate = Gate::start();
    let versioned = |name: &str, scheme: VersionScheme, text: &str| {
        let (part, body) = route(text, vec![rule("a", "GET", "/a", policy(mock(text)))]);
        let PartBody::Route(mut body) = body else { unreachable!() };
        body.version = Some(ApiVersion { name: name.into(), scheme });
        (part, PartBody::Route(body))
    };
    gate.put(vec![
        stage_part(stage()),
        versioned("v1", VersionScheme::Path, "path-v1"),
        versioned("v2", VersionScheme::Path, "path-v2"),
        versioned("v3", VersionScheme::Header("x-api-version".into()), "header-v3"),
        versioned("v4", VersionScheme::Query("version".into()), "query-v4"),
        versioned("v5", VersionScheme::MediaType, "media-v5"),
    ]);
    assert_eq!(gate.get("/v1/a").body, "path-v1");
    assert_eq!(gate.get("/v2/a").body, "path-v2");
    assert_eq!(gate.get("/a").status, 404);
    assert_eq!(gate.request("GET", "/a", &[("x-api-version", "v3")], "").body, "header-v3");
    assert_eq!(gate.get("/a?version=v4").body, "query-v4");
    assert_eq!(gate.request("GET", "/a", &[("accept", "application/json;version=v5")], "").body, "media-v5");
}

#[test]
fn a_claimed_host_is_not_served_by_others() {
    let mut gate = Gate::start();
    let other = PartName::new(PartKind::Stage, "shop/other");
    let any = StagePart { object: ObjectRef::new("Stage", "shop", "other"), hostnames: vec![], ..stage() };
    let (name, body) = route("any", vec![rule("x", "GET", "/x", policy(mock("any")))]);
    let PartBody::Route(mut body) = body else { unreachable!() };
    body.stages = vec![other.clone()];
    let wild = StagePart { hostnames: vec!["*.shop.example".parse().unwrap()], ..stage() };
    gate.put(vec![
        stage_part(wild),
        (other, PartBody::Stage(any)),
        (name, PartBody::Route(body)),
        route("mine", vec![rule("a", "GET", "/a", policy(mock("wild")))]),
    ]);
    assert_eq!(gate.request("GET", "/a", &[("host", "a.b.shop.example")], "").body, "wild");
    assert_eq!(gate.request("GET", "/x", &[("host", "a.shop.example")], "").status, 404);
    assert_eq!(gate.request("GET", "/x", &[("host", "shop.example")], "").body, "any");
}
