//! The resource policy of a Stage, from a socket to the response.

use serde_json::{Value, json};
use sluice_wire::*;

use crate::harness::*;
use crate::policy::{signer, token};

const ARN: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop";

fn with_policy(behavior: Behavior, statements: Value) -> StagePart {
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    let policy = Some(Box::new(StagePolicy { document, arn: ARN.to_owned() }));
    StagePart { behavior, policy, invalid: Some(POLICY_REQUIRED.to_owned()), ..stage() }
}

fn statement(effect: &str, resource: &str) -> Value {
    json!({"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource})
}

#[test]
fn a_request_needs_a_statement_that_allows_it_and_none_that_denies_it() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    gate.put(vec![
        upstream(&[backend.address]),
        route(
            "r",
            vec![rule("all", "ANY", "/{path+}", policy(service())), rule("mock", "GET", "/mock", policy(mock("m")))],
        ),
    ]);
    let statements =
        || json!([statement("Allow", "execute-api:/prod/GET/*"), statement("Deny", "execute-api:/prod/*/admin")]);
    let aws = |method: &str, path: &str, suffix: &str| {
        json!({"Message": format!("User: anonymous is not authorized to perform: execute-api:Invoke on resource: \
            arn:aws:execute-api:eu-west-1:********3333:shop/prod/{method}/{path}{suffix}")})
    };
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        gate.put(vec![stage_part(with_policy(behavior, statements()))]);
        for (method, path, status, suffix) in [
            ("GET", "/orders", 200, ""),
            ("GET", "/mock", 200, ""),
            ("POST", "/orders", 403, ""),
            ("GET", "/admin", 403, " with an explicit deny"),
            ("GET", "/%61dmin", 403, " with an explicit deny"),
        ] {
            let calls = backend.requests();
            let response = gate.request(method, path, &[], "");
            assert_eq!(response.status, status, "{behavior:?} {method} {path}: {}", response.body);
            if status == 200 {
                continue;
            }
            assert_eq!(backend.requests(), calls, "it reached the backend");
            let body: Value = serde_json::from_str(&response.body).unwrap();
            match behavior {
                Behavior::Native => assert_eq!(body["detail"], "The policy of this API does not allow this request."),
                Behavior::AwsHttp => assert_eq!(body, json!({"message": "Forbidden"})),
                Behavior::AwsRest => {
                    let canonical = path.trim_start_matches('/').replace("%61", "a");
                    assert_eq!(body, aws(method, &canonical, suffix));
                    assert_eq!(response.header("x-amzn-errortype"), Some("AccessDeniedException"));
                }
            }
        }
    }
    assert_eq!(gate.metric(r#"sluice_rejects_total{reason="PolicyDenied",stage="shop/prod"}"#), 9.0);
    let denied = || gate.log.lines().into_iter().filter(|line| line["reason"] == "PolicyDenied").collect::<Vec<_>>();
    let denied = eventually("logged", || Some(denied()).filter(|lines| lines.len() == 9));
    // The method POST is allowed by no statement.
    for line in denied {
        let by = line.get("deniedBy").and_then(Value::as_str);
        assert_eq!(by, (line["method"] == "GET").then_some("stage.policy.Statement[1]"), "{line}");
    }
}

#[test]
fn what_a_backend_could_read_in_a_path_is_denied_as_well() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let one = |name: &str, path: &str| rule(name, "ANY", path, policy(service()));
    let (versioned, body) = route("v", vec![one("admin", "/admin"), one("open", "/open")]);
    let PartBody::Route(mut part) = body else { unreachable!() };
    part.version = Some(ApiVersion { name: "v1".into(), scheme: VersionScheme::Path });
    gate.put(vec![
        upstream(&[backend.address]),
        route("r", vec![one("all", "/{path+}")]),
        (versioned, PartBody::Route(part)),
    ]);
    let statements = || {
        json!([
            statement("Allow", "execute-api:/*"),
            statement("Deny", "execute-api:/prod/*/internal/*"),
            statement("Deny", "execute-api:/prod/GET/admin"),
            statement("Deny", "execute-api:/prod/DELETE/*"),
        ])
    };
    let lenient = RequestPolicy {
        encoded_slashes: Some(EncodedSlashes::Forward),
        double_encoding: Some(DoubleEncoding::Forward),
        semicolons: Some(Semicolons::Forward),
        empty_segments: Some(EmptySegments::Forward),
        ..RequestPolicy::default()
    };
    for (behavior, request_policy) in [(Behavior::AwsRest, RequestPolicy::default()), (Behavior::Native, lenient)] {
        gate.put(vec![stage_part(StagePart { request_policy, ..with_policy(behavior, statements()) })]);
        for (method, path, status) in [
            ("GET", "/internal/users", 403),
            ("GET", "/internal%2Fusers", 403),
            ("GET", "/%2Finternal%2Fusers", 403),
            ("GET", "/internal%5Cusers", 403),
            ("GET", "/%2569nternal/users", 403),
            ("GET", "/internal%252Fusers", 403),
            ("GET", "/internal;x/users", 403),
            ("GET", "//internal//users", 403),
            ("GET", "/external%2Fusers", 200),
            ("GET", "/caf%C3%A9", 200),
            ("GET", "/admin/", 403),
            ("GET", "/v1/admin", 403),
            ("GET", "/v1/open", 200),
            ("POST", "/v1/admin", 200),
        ] {
            let calls = backend.requests();
            let response = gate.request(method, path, &[], "");
            // Some forms are rejected before, because they are ambiguous.
            let is_expected = response.status == status || (status == 403 && response.status == 400);
            assert!(is_expected, "{behavior:?} {method} {path}: {} {}", response.status, response.body);
            let calls = backend.requests() - calls;
            assert_eq!(calls, usize::from(status == 200), "{behavior:?} {method} {path}");
        }
    }
    // Some programs accept methods in lower case; with this behavior every method is forwarded.
    assert_eq!(gate.request("delete", "/a", &[], "").status, 403);
    assert_eq!(gate.request("purge", "/a", &[], "").status, 200);
}

#[test]
fn a_policy_that_this_proxy_cannot_evaluate_closes_the_stage() {
    let mut gate = Gate::start();
    gate.put(vec![route("r", vec![rule("mock", "GET", "/mock", policy(mock("m")))])]);
    let broken =
        StagePart { behavior: Behavior::Native, ..with_policy(Behavior::Native, json!([{"Effect": "Permit"}])) };
    // Also one of an operator that knows more than this version, and one whose document is missing.
    let without = StagePart { policy: None, ..with_policy(Behavior::Native, json!([])) };
    let elsewise = StagePart {
        invalid: Some("its base path is invalid".to_owned()),
        ..with_policy(Behavior::Native, json!([statement("Allow", "*")]))
    };
    for part in [broken, without, elsewise] {
        gate.put(vec![stage_part(part)]);
        assert_eq!(gate.get("/mock").status, 500);
    }
    gate.put(vec![stage_part(with_policy(Behavior::Native, json!([statement("Allow", "*")])))]);
    assert_eq!(gate.get("/mock").status, 200);
}

#[test]
fn a_token_is_verified_first_and_does_not_replace_a_statement() {
    let (key, set) = signer();
    let (name, login) = login(set);
    let mut guarded = policy(mock("in"));
    guarded.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec![] });
    let stage = with_policy(Behavior::Native, json!([statement("Allow", "execute-api:/prod/GET/a")]));
    let mut gate = Gate::start();
    let rules = vec![rule("a", "GET", "/a", guarded.clone()), rule("b", "GET", "/b", guarded)];
    gate.put(vec![stage_part(stage), (name, PartBody::Authorizer(login)), route("r", rules)]);
    let token = token(&key, "ann", "");
    for (path, headers, status) in [
        ("/a", &[][..], 401),
        ("/b", &[], 401),
        ("/a", &[("authorization", &*token)], 200),
        ("/b", &[("authorization", &*token)], 403),
    ] {
        assert_eq!(gate.request("GET", path, headers, "").status, status, "{path} {headers:?}");
    }
}
