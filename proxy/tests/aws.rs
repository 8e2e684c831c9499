//! Behaviors of AWS as clients see them: names of headers, limits, rejections. Numbers in comments are sections of the
//! reference of AWS's semantics.

use sluice_wire::*;

use crate::harness::*;

fn aws(behavior: Behavior) -> (PartName, PartBody) {
    stage_part(StagePart { behavior, ..stage() })
}

fn external(backend: &Backend) -> Integration {
    Integration::Http(HttpTarget { tls: false, host: "127.0.0.1".into(), port: backend.address.port(), path: None })
}

#[test]
fn headers_of_the_backend_connection_are_renamed() {
    let response = "HTTP/1.1 401 Unauthorized\r\ncontent-length: 2\r\ndate: Tue, 01 Jan 2019 00:00:00 GMT\r\n\
                server: apache\r\nwww-authenticate: Basic\r\nx-amzn-requestid: theirs\r\nvia: 1.1 x\r\nx-own: 1\r\n\
                connection: keep-alive\r\n\r\nno";
    let backend = Backend::start(move |_, _| response.to_owned());
    let mut gate = Gate::start();
    let rules = vec![
        rule("http", "GET", "/http", policy(external(&backend))),
        rule("service", "GET", "/service", policy(service())),
    ];
    gate.put(vec![aws(Behavior::AwsRest), upstream(&[backend.address]), route("r", rules)]);
    for path in ["/http", "/service"] {
        renamed(&gate.get(path));
    }
    // HTTP APIs and stages with the behavior `Native` rename nothing.
    for behavior in [Behavior::AwsHttp, Behavior::Native] {
        gate.put(vec![aws(behavior)]);
        let response = gate.get("/http");
        assert_eq!(response.header("www-authenticate"), Some("Basic"), "{behavior:?}");
        assert!(!response.headers.iter().any(|(name, _)| name.starts_with("x-amzn-remapped")), "{behavior:?}");
    }
}

fn renamed(response: &Response) {
    assert_eq!((response.status, response.body.as_str()), (401, "no"));
    // (header, what the client sees; 6.3)
    for (name, seen) in [
        ("x-amzn-remapped-content-length", Some("2")),
        ("x-amzn-remapped-connection", Some("keep-alive")),
        ("x-amzn-remapped-date", Some("Tue, 01 Jan 2019 00:00:00 GMT")),
        ("x-amzn-remapped-server", Some("apache")),
        ("x-amzn-remapped-www-authenticate", Some("Basic")),
        ("x-amzn-remapped-x-amzn-requestid", Some("theirs")),
        ("server", None),
        ("www-authenticate", None),
        ("via", None),
        ("content-length", Some("2")),
        ("x-own", Some("1")),
    ] {
        assert_eq!(response.header(name), seen, "{name}");
    }
    assert_ne!(response.header("date"), Some("Tue, 01 Jan 2019 00:00:00 GMT"));
    assert_ne!(response.header("x-amzn-requestid"), Some("theirs"));
    assert!(response.header("x-amz-apigw-id").is_some_and(|id| id.ends_with('=')));
}

#[test]
fn forwarding_headers_follow_the_behavior() {
    let backend = Backend::start(|head, _| {
        let lines: Vec<&str> = head.lines().filter(|line| line.contains("orwarded")).collect();
        let lines = lines.join("|").to_ascii_lowercase();
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{lines}", lines.len())
    });
    let mut gate = Gate::start();
    gate.put(vec![upstream(&[backend.address]), route("r", vec![rule("s", "GET", "/s", policy(service()))])]);
    // HTTP APIs write the header of RFC 7239 and no other (1.1).
    for (behavior, element) in [(Behavior::AwsHttp, true), (Behavior::AwsRest, false), (Behavior::Native, false)] {
        gate.put(vec![aws(behavior)]);
        let sent = gate.request("GET", "/s", &[("forwarded", "for=1.2.3.4"), ("x-forwarded-for", "1.2.3.4")], "").body;
        assert!(!sent.contains("1.2.3.4"), "{sent}");
        assert_eq!(
            sent == "forwarded: for=127.0.0.1;host=\"shop.example\";proto=http",
            element,
            "{behavior:?}: {sent}"
        );
        assert_eq!(sent.contains("x-forwarded-for: 127.0.0.1"), !element, "{behavior:?}: {sent}");
    }
}

#[test]
fn a_malformed_request_is_rejected_in_the_format_of_its_stage() {
    let mut gate = Gate::start();
    gate.put(vec![aws(Behavior::AwsRest)]);
    let response = gate.get("/a%00b");
    assert_eq!(response.status, 400);
    assert!(response.body.starts_with("{\"message\""), "{}", response.body);
    assert!(response.header("x-amzn-errortype").is_some());
    gate.put(vec![aws(Behavior::Native)]);
    assert_eq!(gate.get("/a%00b").header("content-type"), Some("application/problem+json"));
}

#[test]
fn rejections_over_the_wire() {
    let silent = Backend::start(|_, _| String::new());
    let nonsense = Backend::start(|_, _| "nonsense\r\n\r\n".to_owned());
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let late = Backend::start(|_, _| {
        std::thread::park();
        String::new()
    });
    let named = |name: &str| PartName::new(PartKind::Upstream, format!("shop/{name}:80"));
    let up = |name: &str, addresses: &[std::net::SocketAddr]| {
        let (_, PartBody::Upstream(part)) = upstream(addresses) else { unreachable!() };
        (named(name), PartBody::Upstream(part))
    };
    let to = |name: &str| policy(Integration::Service(named(name)));
    let rules = vec![
        rule("none", "GET", "/none", to("none")),
        rule("gone", "GET", "/gone", to("gone")),
        rule("silent", "GET", "/silent", to("silent")),
        rule("nonsense", "GET", "/nonsense", to("nonsense")),
        rule("late", "GET", "/late", RulePolicy { timeout_ms: 100, ..to("late") }),
        rule("keyed", "GET", "/keyed", RulePolicy { api_key: true, ..policy(mock("in")) }),
    ];
    let mut gate = Gate::start();
    gate.put(vec![
        aws(Behavior::Native),
        up("none", &[]),
        up("gone", &[gone]),
        up("silent", &[silent.address]),
        up("nonsense", &[nonsense.address]),
        up("late", &[late.address]),
        route("r", rules),
    ]);
    let internal = r#"{"message":"Internal server error"}"#;
    let internal_http = r#"{"message":"Internal Server Error"}"#;
    let unavailable = r#"{"message":"Service Unavailable"}"#;
    let failed = "InternalServerErrorException";
    for (path, native, rest, http) in [
        ("/none", 503, (504, failed, internal), (503, unavailable)),
        ("/gone", 502, (504, failed, internal), (503, unavailable)),
        ("/silent", 502, (502, failed, internal), (500, internal_http)),
        ("/nonsense", 502, (502, failed, internal), (500, internal_http)),
        ("/late", 504, (504, failed, r#"{"message": "Endpoint request timed out"}"#), (503, unavailable)),
        ("/keyed", 403, (403, "ForbiddenException", r#"{"message":"Forbidden"}"#), (403, r#"{"message":"Forbidden"}"#)),
        (
            "/unknown",
            404,
            (403, "MissingAuthenticationTokenException", r#"{"message":"Missing Authentication Token"}"#),
            (404, r#"{"message":"Not Found"}"#),
        ),
    ] {
        gate.put(vec![aws(Behavior::Native)]);
        assert_eq!(gate.get(path).status, native, "{path}");
        gate.put(vec![aws(Behavior::AwsRest)]);
        let response = gate.get(path);
        assert_eq!((response.status, response.body.as_str()), (rest.0, rest.2), "{path}");
        assert_eq!(response.header("x-amzn-errortype"), Some(rest.1), "{path}");
        assert!(response.header("x-amzn-requestid").is_some() && response.header("apigw-requestid").is_none());
        gate.put(vec![aws(Behavior::AwsHttp)]);
        let response = gate.get(path);
        assert_eq!((response.status, response.body.as_str()), http, "{path}");
        assert!(response.header("apigw-requestid").is_some() && response.header("x-amzn-requestid").is_none());
        assert_eq!(response.header("x-amzn-errortype"), None);
    }
}

#[test]
fn the_sizes_of_heads_are_those_of_the_stages_behavior() {
    let mut gate = Gate::start();
    gate.put(vec![aws(Behavior::Native), route("r", vec![rule("r", "GET", "/{p+}", policy(mock("in")))])]);
    let path = |length: usize| format!("/{}", "a".repeat(length - 1));
    // Values of the host field count, 12 bytes here; the request line of `GET /a` has 15.
    let value = |length: usize| "v".repeat(length);
    // 8.5: 10,240 bytes for the URL of a regional REST API and for header values; with an HTTP API for values and
    // request line together.
    for (behavior, path, value, expected) in [
        (Behavior::Native, path(8192), value(1), 200),
        (Behavior::Native, path(8193), value(1), 414),
        (Behavior::Native, path(2), value(12_000), 200),
        (Behavior::AwsRest, path(10_240), value(1), 200),
        (Behavior::AwsRest, path(10_241), value(1), 414),
        (Behavior::AwsRest, path(2), value(10_240 - 12), 200),
        (Behavior::AwsRest, path(2), value(10_241 - 12), 431),
        (Behavior::AwsHttp, path(2), value(10_240 - 12 - 15), 200),
        (Behavior::AwsHttp, path(2), value(10_241 - 12 - 15), 431),
        (Behavior::AwsHttp, path(10_100), value(200), 431),
    ] {
        gate.put(vec![aws(behavior)]);
        let response = gate.request("GET", &path, &[("x-long", &value)], "");
        assert_eq!(response.status, expected, "{behavior:?} {} {}", path.len(), value.len());
    }
}

/// A Stage with a number in its name.
fn numbered(number: usize, stage: StagePart) -> (PartName, PartBody) {
    let object = ObjectRef::new("Stage", "shop", format!("stage-{number}"));
    (PartName::new(PartKind::Stage, format!("shop/stage-{number}")), PartBody::Stage(StagePart { object, ..stage }))
}

#[test]
fn where_a_host_has_stages_of_one_behavior_that_behavior_rejects_other_paths() {
    use Behavior::{AwsHttp, AwsRest, Native};
    for (behaviors, status, body) in [
        (vec![AwsRest], 403, r#"{"message":"Missing Authentication Token"}"#),
        (vec![AwsRest, AwsRest], 403, r#"{"message":"Missing Authentication Token"}"#),
        (vec![AwsHttp; 6], 404, r#"{"message":"Not Found"}"#),
        (vec![AwsRest, AwsHttp], 404, "problem"),
        (vec![Native], 404, "problem"),
    ] {
        for hosts in [vec!["shop.example"], vec!["*.example"], vec![]] {
            let hostnames: Vec<HostPattern> = hosts.iter().map(|host| host.parse().unwrap()).collect();
            let stages = behaviors.iter().enumerate().map(|(number, behavior)| {
                let base_path = format!("/base-{number}");
                numbered(number, StagePart { hostnames: hostnames.clone(), base_path, behavior: *behavior, ..stage() })
            });
            let mut gate = Gate::start();
            gate.put(stages.collect());
            for path in ["/", "/other", "/base", "/base-00"] {
                let response = gate.get(path);
                let problem = response.header("content-type") == Some("application/problem+json");
                assert_eq!((response.status, problem), (status, body == "problem"), "{behaviors:?} {hosts:?} {path}");
                assert!(problem || response.body == body, "{}", response.body);
            }
        }
    }
}

#[test]
fn a_host_can_have_many_stages() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let count = 600;
    let mut parts = vec![upstream(&[backend.address])];
    for number in 0..count {
        // Some are below others.
        let base_path =
            if number % 3 == 0 { format!("/v{number}") } else { format!("/v{}/b{number}", number - number % 3) };
        let (name, part) = numbered(number, StagePart { base_path, ..stage() });
        let rules = vec![rule("all", "ANY", "/{p+}", policy(mock(&format!("stage {number}"))))];
        let (route_name, route) = route(&format!("r{number}"), rules);
        let PartBody::Route(route) = route else { unreachable!() };
        parts.push((route_name, PartBody::Route(RoutePart { stages: vec![name.clone()], ..route })));
        parts.push((name, part));
    }
    gate.put(parts);
    for number in [0, 3, 297, 597] {
        assert_eq!(gate.get(&format!("/v{number}/x")).body, format!("stage {number}"));
        assert_eq!(gate.get(&format!("/v{number}/b{}/x", number + 1)).body, format!("stage {}", number + 1));
        assert_eq!(gate.get(&format!("/v{number}/b{}x/x", number + 1)).body, format!("stage {number}"));
        assert_eq!(gate.get(&format!("/v{number}x")).status, 404);
    }
}
