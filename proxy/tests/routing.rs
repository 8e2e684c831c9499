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
fn a_slash_at_the_end_does_not_open_a_path() {
    let mut gate = Gate::start();
    let keyed = || RulePolicy { api_key: true, ..policy(mock("secret")) };
    let rules = vec![
        rule("secret", "ANY", "/secret", keyed()),
        rule("below", "ANY", "/secret/{proxy+}", keyed()),
        rule("item", "ANY", "/items/{id}", keyed()),
        rule("files", "ANY", "/files/{rest+}", keyed()),
        rule("django", "ANY", "/django/", keyed()),
        rule("open", "ANY", "/{proxy+}", policy(mock("open"))),
    ];
    gate.put(vec![stage_part(stage()), route("r", rules)]);
    // (path, status of Native and AwsHttp, of Native with ignored slashes, of AwsRest)
    for (path, exact, ignored, rest) in [
        ("/secret", 403, 403, 403),
        ("/secret/", 404, 403, 403),
        ("/secret/a", 403, 403, 403),
        ("/secret/a/", 403, 403, 403),
        ("/items/7/", 404, 403, 403),
        ("/items/", 404, 404, 200),
        ("/files/", 404, 404, 200),
        ("/files/a/", 403, 403, 403),
        ("/django/", 403, 403, 403),
        ("/django", 404, 403, 403),
        ("/secre%74/", 404, 403, 403),
        ("/secrets/", 200, 200, 200),
    ] {
        for (behavior, trailing_slash, status) in [
            (Behavior::Native, None, exact),
            (Behavior::AwsHttp, None, exact),
            (Behavior::Native, Some(TrailingSlash::Ignore), ignored),
            (Behavior::AwsRest, None, rest),
        ] {
            gate.put(vec![stage_part(StagePart { behavior, trailing_slash, ..stage() })]);
            let response = gate.get(path);
            assert_eq!(response.status, status, "{behavior:?} {trailing_slash:?} {path}: {}", response.body);
        }
    }
}

#[test]
fn a_path_with_a_slash_is_forwarded_with_it() {
    let backend = Backend::start(|head, _| {
        let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{target}", target.len())
    });
    let mut gate = Gate::start();
    let rules = vec![
        rule("one", "GET", "/orders/", policy(service())),
        rule("two", "GET", "/orders/{id}", policy(service())),
        rule("three", "GET", "/files/{rest+}", policy(service())),
    ];
    gate.put(vec![stage_part(stage()), upstream(&[backend.address]), route("r", rules)]);
    for path in ["/orders/", "/orders/7", "/files/a/b/"] {
        assert_eq!(gate.get(path).body, path);
    }
    assert_eq!(gate.get("/orders").status, 404);
    gate.put(vec![stage_part(StagePart { trailing_slash: Some(TrailingSlash::Ignore), ..stage() })]);
    for path in ["/orders", "/orders/7/"] {
        assert_eq!(gate.get(path).body, path);
    }
}

#[test]
fn the_path_decides_before_the_method() {
    let mut gate = Gate::start();
    let keyed = || RulePolicy { api_key: true, ..policy(mock("keyed")) };
    let mut conditional = rule("beta", "GET", "/beta", keyed());
    conditional.headers = vec![FieldMatch { name: "x-beta".into(), value: Some("1".into()) }];
    let rules = vec![
        rule("admin", "GET", "/admin", keyed()),
        rule("user", "PUT", "/users/{id}", keyed()),
        rule("files", "POST", "/files/{rest+}", keyed()),
        conditional,
        rule("open", "ANY", "/{proxy+}", policy(mock("open"))),
    ];
    gate.put(vec![stage_part(stage()), route("r", rules)]);
    // (method, path, native status and `allow`, AWS)
    for (method, path, native, allow, aws) in [
        ("GET", "/admin", 403, None, 403),
        ("DELETE", "/admin", 405, Some("GET"), 200),
        ("HEAD", "/admin", 405, Some("GET"), 200),
        ("GET", "/users/7", 405, Some("PUT"), 200),
        ("PUT", "/files/a", 405, Some("POST"), 200),
        ("GET", "/beta", 404, None, 404),
        ("DELETE", "/beta", 404, None, 200),
        ("GET", "/other", 200, None, 200),
    ] {
        gate.put(vec![stage_part(stage())]);
        let response = gate.request(method, path, &[], "");
        assert_eq!((response.status, response.header("allow")), (native, allow), "{method} {path}");
        gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsHttp, ..stage() })]);
        assert_eq!(gate.request(method, path, &[], "").status, aws, "{method} {path}");
    }
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
