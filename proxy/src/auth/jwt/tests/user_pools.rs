//! Tokens of Cognito user pools.

use super::*;

const POOL: &str = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_aBcDeFgHi";

fn pools(any_client: bool) -> Arc<Authorizer> {
    let mut rules = jwt(KeySource::Inline(set(&[&RSA.jwk])));
    rules.issuers[0].issuer = POOL.into();
    rules.issuers[0].audiences = if any_client { Vec::new() } else { vec!["web".into(), "app".into()] };
    rules.issuers[0].any_audience = any_client;
    rules.required_claims = [("cognito:groups".to_owned(), "staff".to_owned())].into();
    let bearer = TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) };
    rules.token_from = vec![bearer, TokenSource::Header { header: "authorization".into(), scheme: None }];
    let kind = AuthorizerKind::Cognito(rules);
    let part = AuthorizerPart { object: ObjectRef::new("Authorizer", "shop", "pool"), kind };
    compiled(&part, &services(KeySets::new(runtime(), Web::default())))
}

fn id_token() -> Value {
    json!({
        "iss": POOL, "sub": "anna", "token_use": "id", "aud": "web", "exp": now() + 600, "cognito:groups": ["a", "staff"],
    })
}

fn access_token() -> Value {
    json!({
        "iss": POOL, "sub": "anna", "token_use": "access", "client_id": "app", "exp": now() + 600, "scope": "orders/read",
        "cognito:groups": ["staff"],
    })
}

fn changed(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn decide(authorizer: &Authorizer, headers: &HeaderMap, with_scopes: bool) -> Decision {
    let request = AuthRequest {
        method: &Method::GET,
        headers,
        route: None,
        behavior: Behavior::AwsRest,
        with_scopes,
        variables: &NoVariables,
        facts: &RequestFacts::default,
    };
    decides(authorizer).authorize(&request).now_or_never().expect("the keys are there").decision
}

fn reason(authorizer: &Authorizer, claims: &Value, with_scopes: bool) -> Option<&'static str> {
    match decide(authorizer, &bearer(&RSA.token(claims)), with_scopes) {
        Decision::Allow(_) => None,
        Decision::Reject { reason, .. } => Some(reason),
    }
}

#[test]
fn a_rule_without_scopes_needs_an_id_token_and_one_with_scopes_an_access_token() {
    let authorizer = pools(false);
    let wrong = Some("token_wrong_use");
    // Twice: the second decision is remembered.
    for _ in 0..2 {
        for (claims, without_scopes, with_scopes) in [
            (id_token(), None, wrong),
            (access_token(), wrong, None),
            (changed(id_token(), "token_use", json!("refresh")), wrong, wrong),
            (changed(id_token(), "token_use", json!(["id", "access"])), wrong, wrong),
            (changed(id_token(), "token_use", json!(null)), wrong, wrong),
        ] {
            assert_eq!(reason(&authorizer, &claims, false), without_scopes, "{claims}");
            assert_eq!(reason(&authorizer, &claims, true), with_scopes, "{claims}");
        }
    }
}

#[test]
fn the_app_client_is_in_the_claim_of_the_kind_of_token() {
    let authorizer = pools(false);
    let other = Some("token_wrong_audience");
    for (claims, with_scopes, expected) in [
        (changed(id_token(), "aud", json!("app")), false, None),
        (changed(id_token(), "aud", json!("another")), false, other),
        (changed(id_token(), "aud", json!(null)), false, Some("token_invalid_aud")),
        (changed(changed(id_token(), "aud", json!("another")), "client_id", json!("web")), false, other),
        (changed(access_token(), "client_id", json!("web")), true, None),
        (changed(access_token(), "client_id", json!("another")), true, other),
        (changed(access_token(), "client_id", json!(["web"])), true, Some("token_invalid_aud")),
        // The URL of an API, which the client has named.
        (changed(access_token(), "aud", json!("https://api.example")), true, None),
        (changed(changed(access_token(), "aud", json!("web")), "client_id", json!("another")), true, other),
        (changed(access_token(), "cognito:groups", json!(["customers"])), true, Some("token_missing_claim")),
        (changed(access_token(), "iss", json!(ISSUER)), true, Some("token_unknown_issuer")),
    ] {
        assert_eq!(reason(&authorizer, &claims, with_scopes), expected, "{claims}");
    }
    let any = pools(true);
    assert_eq!(reason(&any, &changed(id_token(), "aud", json!("another")), false), None);
    assert_eq!(reason(&any, &changed(access_token(), "client_id", json!("another")), true), None);
}

#[test]
fn tokens_have_a_scheme_or_none_and_an_expired_one_has_the_response_of_aws() {
    let authorizer = pools(false);
    let token = RSA.token(&id_token());
    for (value, allowed) in [
        (format!("Bearer {token}"), true),
        (token.clone(), true),
        (format!("Basic {token}"), false),
        (format!("Bearer Bearer {token}"), false),
    ] {
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_str(&value).unwrap())]);
        let decision = decide(&authorizer, &headers, false);
        assert_eq!(matches!(decision, Decision::Allow(_)), allowed, "{value}: {decision:?}");
    }
    let expired = RSA.token(&changed(id_token(), "exp", json!(now() - 600)));
    let Decision::Reject { reject, reason } = decide(&authorizer, &bearer(&expired), false) else { panic!("allowed") };
    assert_eq!(reason, "token_expired");
    let (status, headers, body) = reject.render(Behavior::AwsRest);
    assert_eq!((status.as_u16(), &*body), (401, br#"{"message":"The incoming token has expired"}"#.as_slice()));
    assert_eq!(headers["x-amzn-errortype"], "UnauthorizedException");
    let (_, headers, _) = reject.render(Behavior::Native);
    let expected = r#"Bearer error="invalid_token", error_description="the token has expired""#;
    assert_eq!(headers["www-authenticate"], expected);
}
