//! Lambda authorizers against a real server: what it is called with, what its decisions do, and every way in which it can fail.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use sluice_sigv4::{BodyHash, Options, Presented, RequestParts, signing_key};
use sluice_wire::*;

use crate::harness::*;

pub const ARN: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop";

pub fn stage_of(behavior: Behavior) -> StagePart {
    StagePart { behavior, arn: Some(ARN.to_owned()), ..stage() }
}

fn in_header(name: &str) -> IdentitySource {
    IdentitySource::Place(TokenSource::Header { header: name.into(), scheme: None })
}

pub fn lambda(address: SocketAddr, event: LambdaEvent) -> Lambda {
    Lambda {
        function: LambdaFunction::Url(format!("http://{address}/authorize")),
        event,
        responses: LambdaResponses::Policy,
        identity_sources: vec![in_header("authorization")],
        validation: None,
        result_ttl_ms: 60_000,
        timeout_ms: 5_000,
    }
}

fn simple(address: SocketAddr) -> Lambda {
    Lambda { responses: LambdaResponses::Simple, ..lambda(address, LambdaEvent::RequestV2) }
}

pub fn authorizer(kind: Lambda) -> (PartName, PartBody) {
    let part =
        AuthorizerPart { object: ObjectRef::new("Authorizer", "shop", "custom"), kind: AuthorizerKind::Lambda(kind) };
    (PartName::new(PartKind::Authorizer, "shop/custom"), PartBody::Authorizer(part))
}

pub fn guarded(integration: Integration) -> RulePolicy {
    let part = PartName::new(PartKind::Authorizer, "shop/custom");
    let caller = "${context.authorizer.principalId}/${context.authorizer.tier}/${context.authorizer.claims.tier}";
    RulePolicy {
        authorizer: Some(AuthorizerUse { part, scopes: Vec::new() }),
        response_headers: HeaderEdits {
            set: vec![("x-caller".into(), caller.parse().unwrap())],
            ..HeaderEdits::default()
        },
        ..policy(integration)
    }
}

pub fn rules() -> (PartName, PartBody) {
    route(
        "r",
        vec![rule("a", "GET", "/a", guarded(mock("in"))), rule("order", "ANY", "/orders/{id}", guarded(mock("in")))],
    )
}

fn gate(kind: Lambda) -> Gate {
    let mut gate = Gate::start();
    gate.put(vec![stage_part(stage_of(Behavior::Native)), authorizer(kind), rules()]);
    gate
}

pub fn ask(gate: &Gate, path: &str, token: &str) -> Response {
    gate.request("GET", path, &[("authorization", token)], "")
}

pub fn response(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

pub fn output(effect: &str, resource: &str) -> String {
    let statement = json!({"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource});
    json!({
        "principalId": "ann",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"tier": "gold", "level": 3, "beta": true},
    })
    .to_string()
}

#[test]
fn a_policy_is_remembered_and_evaluated_again_for_each_request() {
    let backend = Backend::start(|_, body| {
        let event: Value = serde_json::from_str(body).unwrap();
        let token = event["authorizationToken"].as_str().unwrap();
        response(&output(token, &format!("{ARN}/prod/GET/orders/*")))
    });
    let mut gate = gate(lambda(backend.address, LambdaEvent::Token));
    let rest = |gate: &mut Gate| gate.put(vec![stage_part(stage_of(Behavior::AwsRest))]);
    let allowed = ask(&gate, "/orders/7", "Allow");
    assert_eq!((allowed.status, allowed.header("x-caller")), (200, Some("ann/gold/")), "{}", allowed.body);
    assert_eq!(ask(&gate, "/a", "Allow").status, 403, "the remembered policy names another path");
    assert_eq!(gate.request("PUT", "/orders/7", &[("authorization", "Allow")], "").status, 403);
    assert_eq!(backend.requests(), 1);
    assert_eq!(ask(&gate, "/orders/7", "Deny").status, 403);
    assert_eq!(ask(&gate, "/orders/8", "Deny").status, 403, "denials are remembered as well");
    assert_eq!(backend.requests(), 2);
    let line = r#"sluice_authorizer_remembered_decisions{authorizer="shop/custom",kind="Lambda"}"#;
    assert_eq!(gate.metric(line), 2.0);
    rest(&mut gate);
    for (path, token, message) in [
        ("/orders/7", "Deny", "User is not authorized to access this resource with an explicit deny"),
        ("/a", "Allow", "User is not authorized to access this resource"),
    ] {
        let denied = ask(&gate, path, token);
        assert_eq!((denied.status, denied.json()), (403, json!({"Message": message})));
        assert_eq!(denied.header("x-amzn-errortype"), Some("AccessDeniedException"));
    }
    gate.put(vec![stage_part(stage_of(Behavior::AwsHttp))]);
    let denied = ask(&gate, "/a", "Allow");
    assert_eq!((denied.status, denied.json()), (403, json!({"message": "Forbidden"})));
}

#[test]
fn identity_sources_are_separate_values_and_a_request_without_one_causes_no_call() {
    let backend = Backend::start(|_, body| {
        let event: Value = serde_json::from_str(body).unwrap();
        let allowed = event["identitySource"] == json!(["a", "bc"]);
        response(&json!({"isAuthorized": allowed, "context": {"tier": {"nested": [1]}}}).to_string())
    });
    let query = |name: &str| IdentitySource::Place(TokenSource::Query { query: name.into() });
    let sources = vec![in_header("x-one"), query("two")];
    let mut gate = gate(Lambda { identity_sources: sources, ..simple(backend.address) });
    let call = |gate: &Gate, one: &str, two: &str| gate.request("GET", &format!("/a?two={two}"), &[("x-one", one)], "");
    let allowed = call(&gate, "a", "bc");
    assert_eq!((allowed.status, allowed.header("x-caller")), (200, Some(r#"/{"nested":[1]}/"#)));
    // The same text when joined.
    assert_eq!(call(&gate, "ab", "c").status, 403);
    assert_eq!(call(&gate, "a", "bc").status, 200);
    assert_eq!(backend.requests(), 2);
    for (one, query) in
        [(None, "?two=bc"), (Some("a"), ""), (Some("a"), "?two="), (Some(""), "?two=bc"), (Some("a"), "?two=bc&two=d")]
    {
        let headers: Vec<(&str, &str)> = one.iter().map(|one| ("x-one", *one)).collect();
        assert_eq!(gate.request("GET", &format!("/a{query}"), &headers, "").status, 401, "{one:?} {query}");
    }
    assert_eq!(backend.requests(), 2);
    // A token of another form.
    let validation = Some("Bearer [a-z]+".to_owned());
    let custom = Backend::start(|_, _| response(&output("Allow", "*")));
    gate.put(vec![authorizer(Lambda { validation, ..lambda(custom.address, LambdaEvent::Token) })]);
    for (token, status) in [("Bearer abc", 200), ("Bearer abc1", 401), ("abc", 401), ("Bearer ", 401)] {
        assert_eq!(ask(&gate, "/a", token).status, status, "{token}");
    }
    assert_eq!(custom.requests(), 1);
    eventually("logged", || gate.log.lines().iter().any(|line| line["reason"] == "token_invalid_format"));
}

#[test]
fn requests_of_one_caller_wait_for_one_call_only_where_results_are_remembered() {
    let backend = Backend::start(|_, _| response(&json!({"isAuthorized": true}).to_string()));
    let mut gate = gate(simple(backend.address));
    let all = |gate: &Gate| {
        std::thread::scope(|scope| {
            let all: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(gate, "/a", "one").status)).collect();
            assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
        });
    };
    all(&gate);
    assert_eq!(backend.requests(), 1);
    // The function may decide by more than the identity sources.
    gate.put(vec![authorizer(Lambda { result_ttl_ms: 0, identity_sources: vec![], ..simple(backend.address) })]);
    all(&gate);
    assert_eq!(backend.requests(), 21);
}

#[test]
fn stages_do_not_share_results() {
    let backend = Backend::start(|_, _| response(&json!({"isAuthorized": true}).to_string()));
    let mut gate = gate(simple(backend.address));
    let object = ObjectRef::new("Stage", "shop", "test");
    let other = StagePart { object, hostnames: vec!["test.example".parse().unwrap()], ..stage_of(Behavior::Native) };
    let name = PartName::new(PartKind::Stage, "shop/test");
    let (route_name, mut body) = rules();
    if let PartBody::Route(part) = &mut body {
        part.stages = vec![stage_name(), name.clone()];
    }
    gate.put(vec![(name, PartBody::Stage(other)), (route_name, body)]);
    for (host, calls) in [("shop.example", 1), ("test.example", 2), ("shop.example", 2)] {
        let response = gate.raw(&format!("GET /a HTTP/1.1\r\nhost: {host}\r\nauthorization: t\r\n\r\n"));
        assert_eq!((response.status, backend.requests()), (200, calls), "{host}");
    }
}

#[test]
fn the_policy_of_the_stage_denies_before_a_call_and_is_combined_after_it() {
    let backend = Backend::start(|_, body| {
        let event: Value = serde_json::from_str(body).unwrap();
        let token = event["authorizationToken"].as_str().unwrap();
        response(&if token == "silent" {
            output("Allow", "arn:aws:execute-api:*:*:other/*")
        } else {
            output(token, "*")
        })
    });
    let mut gate = gate(lambda(backend.address, LambdaEvent::Token));
    let statement = |effect: &str, resource: &str| json!({"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource});
    let statements =
        json!([statement("Deny", "execute-api:/prod/GET/a"), statement("Allow", "execute-api:/prod/GET/orders/1")]);
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = Some(Box::new(StagePolicy { document, arn: ARN.to_owned() }));
    gate.put(vec![stage_part(StagePart {
        policy,
        invalid: Some(POLICY_REQUIRED.to_owned()),
        ..stage_of(Behavior::Native)
    })]);
    assert_eq!((ask(&gate, "/a", "Allow").status, backend.requests()), (403, 0));
    for (path, token, status) in [
        ("/orders/1", "Allow", 200),
        ("/orders/2", "Allow", 200), // the policy of the Stage is silent
        ("/orders/1", "silent", 200),
        ("/orders/2", "silent", 403),
        ("/orders/1", "Deny", 403),
    ] {
        assert_eq!(ask(&gate, path, token).status, status, "{path} {token}");
    }
    // Simple responses are decisions as well: the Stage's Allow is not enough.
    let no = Backend::start(|_, _| response(r#"{"isAuthorized": false}"#));
    gate.put(vec![authorizer(simple(no.address))]);
    assert_eq!(ask(&gate, "/orders/1", "t").status, 403);
}

#[test]
fn events_name_the_resource_of_the_rule_with_and_without_expressions() {
    let seen = Arc::new(Mutex::new(Value::Null));
    let last = seen.clone();
    let backend = Backend::start(move |_, body| {
        *last.lock().unwrap() = serde_json::from_str(body).unwrap();
        response(&output("Allow", "*"))
    });
    let mut gate = Gate::start();
    for expressions in [&[][..], &["request.method != 'PUT'"]] {
        let term = |text: &&str| AuthorizeTerm { expression: (*text).to_owned(), message: None };
        let policy = || RulePolicy { authorize: expressions.iter().map(term).collect(), ..guarded(mock("in")) };
        let rules = vec![rule("a", "GET", "/a", policy()), rule("order", "ANY", "/orders/{id}", policy())];
        for (event, of_one, of_any) in [
            (LambdaEvent::RequestV1, ("resource", "/a"), ("resource", "/orders/{id}")),
            (LambdaEvent::RequestV2, ("routeKey", "GET /a"), ("routeKey", "ANY /orders/{id}")),
        ] {
            let kind = Lambda { result_ttl_ms: 0, ..lambda(backend.address, event) };
            let parts = vec![stage_part(stage_of(Behavior::Native)), authorizer(kind), route("r", rules.clone())];
            assert_eq!(gate.put(parts), vec![]);
            for (path, (member, value)) in [("/a", of_one), ("/orders/7", of_any)] {
                assert_eq!(ask(&gate, path, "t").status, 200);
                assert_eq!(seen.lock().unwrap()[member], value, "{event:?} {path} {expressions:?}");
            }
        }
    }
}

#[test]
fn a_call_of_the_api_invoke_has_a_valid_signature() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let calls = seen.clone();
    let backend = Backend::start(move |head, body| {
        calls.lock().unwrap().push((head.to_owned(), body.to_owned()));
        response(&output("Allow", "*"))
    });
    for (credentials, session) in [(false, false), (true, false), (true, true)] {
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        let credentials = credentials.then(|| AwsCredentials {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: secret.into(),
            session_token: session.then(|| "session/token==".into()),
        });
        let name = "arn%3Aaws%3Alambda%3Aeu-west-1%3A111122223333%3Afunction%3Aauth%3Alive";
        let url = format!("http://{}/2015-03-31/functions/{name}/invocations", backend.address);
        let invocation = Invocation { region: "eu-west-1".into(), credentials: credentials.clone() };
        let invoke = LambdaInvoke { url, invocation };
        let function = LambdaFunction::Invoke(invoke);
        let gate = gate(Lambda { function, ..lambda(backend.address, LambdaEvent::RequestV1) });
        assert_eq!(ask(&gate, "/a", "t").status, 200);
        let (head, body) = seen.lock().unwrap().pop().unwrap();
        let mut lines = head.lines();
        let path = format!("/2015-03-31/functions/{name}/invocations");
        assert_eq!(lines.next(), Some(format!("POST {path} HTTP/1.1").as_str()));
        let mut headers = HeaderMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(headers["x-amz-invocation-type"], "RequestResponse");
        let presented = Presented::find(&headers, None, Options::default()).unwrap();
        assert_eq!(presented.is_some(), credentials.is_some());
        let Some(presented) = presented else { continue };
        presented.check_time(SystemTime::now(), Duration::from_secs(60)).unwrap();
        presented.check_scope(|region| region == "eu-west-1", "lambda").unwrap();
        assert_eq!(presented.session_token(), session.then_some("session/token=="));
        let key = signing_key(secret, presented.date(), presented.region(), presented.service());
        let request = RequestParts { method: &Method::POST, path: &path, query: None, headers: &headers, host: None };
        presented.verify(&key, &request, &BodyHash::of(body.as_bytes())).unwrap();
    }
}

#[test]
fn whatever_the_function_does_instead_of_deciding_the_request_is_rejected_and_nothing_is_remembered() {
    let good = output("Allow", "*");
    let status = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}content-length: 0\r\n\r\n");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let elsewhere = {
        let good = good.clone();
        Backend::start(move |_, _| response(&good))
    };
    let redirect = format!("location: http://{}/authorize\r\n", elsewhere.address);
    let cut = |text: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n{text}");
    let changed = |change: &dyn Fn(&mut Value)| {
        let mut output: Value = serde_json::from_str(&good).unwrap();
        change(&mut output);
        raw_server(response(&output.to_string()), true)
    };
    let error = |message: &str| {
        let body = json!({"errorMessage": message, "errorType": "Error", "trace": []}).to_string();
        raw_server(response(&body).replace("200 OK\r\n", "200 OK\r\nX-Amz-Function-Error: Unhandled\r\n"), true)
    };
    let (unavailable, function) = ((503, "lambda_unavailable"), (503, "lambda_function_error"));
    let (rejected, invalid) = ((500, "lambda_rejected"), (500, "lambda_invalid_response"));
    let rows = [
        ("refused", closed, unavailable),
        ("slow", raw_server(String::new(), false), unavailable),
        ("slow body", raw_server(cut(&good), false), unavailable),
        ("closed before a response", raw_server(String::new(), true), unavailable),
        ("half a head", raw_server("HTTP/1.1 200 OK\r\ncontent-le".into(), true), unavailable),
        ("half a body", raw_server(cut(&good), true), unavailable),
        ("no HTTP", raw_server("SSH-2.0-x\r\n".into(), true), unavailable),
        ("500", raw_server(status("500 Internal Server Error", ""), true), unavailable),
        ("throttled", raw_server(status("429 Too Many Requests", ""), true), unavailable),
        ("not permitted", raw_server(status("403 Forbidden", ""), true), rejected),
        ("no such function", raw_server(status("404 Not Found", ""), true), rejected),
        ("redirect", raw_server(status("302 Found", &redirect), true), invalid),
        ("redirect that keeps the method", raw_server(status("307 Temporary Redirect", &redirect), true), invalid),
        ("202", raw_server(response(&good).replace("200 OK", "202 Accepted"), true), invalid),
        ("huge", raw_server(response(&format!("{{\"principalId\": \"{}\"}}", "x".repeat(70_000))), true), invalid),
        ("an error", error("a secret of the function"), function),
        ("an error with more words", error("Unauthorized access"), function),
        (
            "an error with a policy",
            raw_server(response(&good).replace("200 OK\r\n", "200 OK\r\nx-amz-function-error: Handled\r\n"), true),
            function,
        ),
        ("an error without its header", raw_server(response(r#"{"errorMessage": "x"}"#), true), function),
        ("null", raw_server(response("null"), true), invalid),
        ("empty", raw_server(response(""), true), invalid),
        ("not JSON", raw_server(response("<html>"), true), invalid),
        (
            "a member twice",
            raw_server(response(&good.replace(r#""principalId""#, r#""principalId":"bob","principalId""#)), true),
            invalid,
        ),
        ("a simple response", raw_server(response(r#"{"isAuthorized": true}"#), true), invalid),
        ("no principalId", changed(&|output| output["principalId"] = Value::Null), invalid),
        ("an empty principalId", changed(&|output| output["principalId"] = json!("")), invalid),
        ("a number as principalId", changed(&|output| output["principalId"] = json!(7)), invalid),
        ("no policy", changed(&|output| drop(output.as_object_mut().unwrap().remove("policyDocument"))), invalid),
        (
            "a policy as text",
            changed(&|output| output["policyDocument"] = json!(output["policyDocument"].to_string())),
            invalid,
        ),
        (
            "an unknown effect",
            changed(&|output| output["policyDocument"]["Statement"][0]["Effect"] = json!("Maybe")),
            invalid,
        ),
        (
            "an unknown condition",
            changed(&|output| output["policyDocument"]["Statement"][0]["Condition"] = json!({"Odd": {"a": "b"}})),
            invalid,
        ),
        ("a list in the context", changed(&|output| output["context"]["list"] = json!([1])), invalid),
        ("an object in the context", changed(&|output| output["context"]["map"] = json!({})), invalid),
        ("a context that is a text", changed(&|output| output["context"] = json!("x")), invalid),
    ];
    let mut gate = Gate::start();
    gate.put(vec![rules()]);
    let mut lines = 0;
    for (name, address, (native, reason)) in rows {
        gate.put(vec![authorizer(Lambda { timeout_ms: 300, ..lambda(address, LambdaEvent::RequestV1) })]);
        for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
            gate.put(vec![stage_part(stage_of(behavior))]);
            let response = ask(&gate, "/a", "t");
            let misconfigured = native == 500;
            let (status, body, error) = match behavior {
                Behavior::Native => (native, None, None),
                Behavior::AwsRest if misconfigured => {
                    (500, Some(r#"{"message":null}"#), Some("AuthorizerConfigurationException"))
                }
                Behavior::AwsRest => {
                    (500, Some(r#"{"message":"Internal server error"}"#), Some("AuthorizerFailureException"))
                }
                Behavior::AwsHttp => (500, Some(r#"{"message":"Internal Server Error"}"#), None),
            };
            assert_eq!((response.status, response.header("x-amzn-errortype")), (status, error), "{name} {behavior:?}");
            assert!(body.is_none_or(|body| body == response.body), "{name} {}", response.body);
            lines += 1;
            let line = eventually("logged", || gate.log.lines().get(lines - 1).cloned());
            assert_eq!(line["reason"], reason, "{name}");
        }
    }
    assert_eq!(elsewhere.requests(), 0, "a redirect was followed");
    let line = r#"sluice_authorizer_remembered_decisions{authorizer="shop/custom",kind="Lambda"}"#;
    assert_eq!(gate.metric(line), 0.0);
    // 401 by the function.
    let unauthorized = error("Unauthorized");
    gate.put(vec![authorizer(lambda(unauthorized, LambdaEvent::RequestV1)), stage_part(stage_of(Behavior::AwsRest))]);
    let response = ask(&gate, "/a", "t");
    assert_eq!((response.status, response.body.as_str()), (401, r#"{"message":"Unauthorized"}"#));
    assert_eq!(response.header("x-amzn-errortype"), Some("UnauthorizedException"));
    // The same proxy accepts the caller as soon as the function decides.
    gate.put(vec![authorizer(lambda(elsewhere.address, LambdaEvent::RequestV1))]);
    assert_eq!(ask(&gate, "/a", "t").status, 200);
}

#[test]
fn an_address_that_is_not_allowed_is_not_called() {
    let backend = Backend::start(|_, _| response(r#"{"isAuthorized": true}"#));
    let mut gate = Gate::with(false, Vec::new());
    gate.put(vec![stage_part(stage_of(Behavior::Native)), authorizer(simple(backend.address)), rules()]);
    assert_eq!((ask(&gate, "/a", "t").status, backend.requests()), (503, 0));
}

#[test]
fn what_the_function_has_seen_is_forwarded() {
    let decides = Backend::start(|_, _| response(r#"{"isAuthorized": true}"#));
    let backend = Backend::start(|head, _| ok(head));
    let mut gate = gate(simple(decides.address));
    let all = route("all", vec![rule("all", "GET", "/{path+}", guarded(service()))]);
    gate.remove(rules().0);
    gate.put(vec![upstream(&[backend.address]), all]);
    let sent = [("authorization", "t"), ("cookie", "session=1")];
    let response = gate.request("GET", "/x?authorization=2", &sent, "");
    assert_eq!(response.status, 200);
    let head = response.body.to_ascii_lowercase();
    assert!(head.starts_with("get /x?authorization=2 "), "{head}");
    assert!(head.contains("authorization: t\r\n") && head.contains("cookie: session=1\r\n"), "{head}");
}
