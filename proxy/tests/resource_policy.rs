//! The resource policy of a Stage, from a socket to the response.

use serde_json::{Value, json};
use sluice_wire::*;

use crate::harness::*;
use crate::policy::signer;

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
    eventually("logged", || gate.log.lines().iter().any(|line| line["reason"] == "PolicyDenied"));
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
    let token = token(&key);
    for (path, headers, status) in [
        ("/a", &[][..], 401),
        ("/b", &[], 401),
        ("/a", &[("authorization", &*token)], 200),
        ("/b", &[("authorization", &*token)], 403),
    ] {
        assert_eq!(gate.request("GET", path, headers, "").status, status, "{path} {headers:?}");
    }
}

fn token(key: &jsonwebtoken::EncodingKey) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("k".into());
    let claims = json!({"iss": "https://id.example", "aud": "shop", "sub": "ann", "exp": now + 600});
    format!("Bearer {}", jsonwebtoken::encode(&header, &claims, key).unwrap())
}
