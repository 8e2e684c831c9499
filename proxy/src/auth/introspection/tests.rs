//! Responses of introspection endpoints, and what is accepted of them.

use std::time::UNIX_EPOCH;

use serde_json::json;
use sluice_wire::TokenSource;

use super::*;

const NOW: u64 = 1_800_000_000;
const INVALID: TokenError = TokenError::Introspection(IntrospectionFailure::InvalidResponse);

fn part() -> sluice_wire::Introspection {
    sluice_wire::Introspection {
        url: "https://idp.example/introspect".into(),
        client_id: "gateway".into(),
        client_secret: "s3cret".into(),
        client_authentication: ClientAuthentication::Basic,
        token_from: vec![TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) }],
        issuer: None,
        audiences: vec!["shop".into()],
        any_audience: false,
        required_claims: BTreeMap::new(),
        result_ttl_ms: 60_000,
        timeout_ms: 5_000,
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn decide(part: &sluice_wire::Introspection, response: &str) -> CallResult {
    Rules::compile(part).decide(response.as_bytes(), &Hash::of(b"token"), now())
}

/// An active response with other members.
fn active(members: Value) -> Value {
    let mut response = json!({"active": true, "sub": "ann", "aud": "shop", "scope": "read write"});
    response.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    response
}

#[test]
fn only_a_response_that_says_so_makes_a_token_active() {
    for (response, error) in [
        (r#"{"active": true, "aud": "shop"}"#, None),
        (r#"{"active": true, "aud": "shop", "exp": null}"#, Some(INVALID)),
        (r#"{"active": false}"#, Some(TokenError::Inactive)),
        (r#"{"active": false, "exp": "x", "aud": 7}"#, Some(TokenError::Inactive)),
        (r#"{"active": "true", "aud": "shop"}"#, Some(INVALID)),
        (r#"{"active": 1, "aud": "shop"}"#, Some(INVALID)),
        (r#"{"active": null, "aud": "shop"}"#, Some(INVALID)),
        (r#"{"Active": true, "aud": "shop"}"#, Some(INVALID)),
        (r#"{"active": false, "active": true, "aud": "shop"}"#, Some(INVALID)),
        (r#"[{"active": true, "aud": "shop"}]"#, Some(INVALID)),
        (r#"{"active": true, "aud": "shop"} x"#, Some(INVALID)),
        (r#"{"active": true, "aud": "shop""#, Some(INVALID)),
        ("true", Some(INVALID)),
        ("", Some(INVALID)),
    ] {
        assert_eq!(decide(&part(), response).err(), error, "{response}");
    }
}

#[test]
fn the_claims_of_an_active_token_are_checked() {
    let strict = sluice_wire::Introspection {
        issuer: Some("https://idp.example".into()),
        required_claims: [("realm.roles".to_owned(), "editor".to_owned())].into(),
        ..part()
    };
    let any = sluice_wire::Introspection { audiences: Vec::new(), any_audience: true, ..part() };
    let plain = part();
    let (iss, roles) = ("https://idp.example", json!({"roles": ["reader", "editor"]}));
    let rows: Vec<(&sluice_wire::Introspection, Value, Option<TokenError>)> = vec![
        (&strict, json!({"iss": iss, "realm": roles}), None),
        (&strict, json!({"realm": roles}), Some(TokenError::NoIssuer)),
        (&strict, json!({"iss": "https://other.example", "realm": roles}), Some(TokenError::UnknownIssuer)),
        (&strict, json!({"iss": 7, "realm": roles}), Some(INVALID)),
        (&strict, json!({"iss": iss}), Some(TokenError::MissingClaim)),
        (&plain, json!({"aud": ["other", "shop"]}), None),
        (&plain, json!({"aud": "other"}), Some(TokenError::WrongAudience)),
        (&plain, json!({"aud": 7}), Some(INVALID)),
        (&any, json!({"aud": "other"}), None),
        (&plain, json!({"exp": NOW + 10}), None),
        (&plain, json!({"exp": NOW - 30}), None),
        (&plain, json!({"exp": NOW - 61}), Some(TokenError::Expired)),
        (&plain, json!({"exp": "soon"}), Some(INVALID)),
        (&plain, json!({"nbf": NOW + 61}), Some(TokenError::NotYetValid)),
        (&plain, json!({"iat": NOW + 61}), Some(TokenError::NotYetValid)),
        (&plain, json!({"nbf": []}), Some(INVALID)),
        (&plain, json!({"sub": 7}), Some(INVALID)),
        (&plain, json!({"username": 7}), Some(INVALID)),
        (&plain, json!({"token_type": "bearer", "token_use": "access_token"}), None),
        (&plain, json!({"token_type": "access_token"}), None),
        (&plain, json!({"token_type": null, "token_use": "access"}), None),
        (&plain, json!({"token_type": "DPoP"}), Some(TokenError::WrongType)),
        (&plain, json!({"token_type": "refresh_token"}), Some(TokenError::WrongType)),
        (&plain, json!({"token_type": 1}), Some(TokenError::WrongType)),
        (&plain, json!({"token_use": "refresh_token"}), Some(TokenError::WrongType)),
        (&plain, json!({"token_use": "id"}), Some(TokenError::WrongType)),
        (&plain, json!({"cnf": {"jkt": "k"}}), Some(TokenError::KeyBound)),
        (&plain, json!({"token_type": "Bearer", "cnf": {"x5t#S256": "k"}}), Some(TokenError::KeyBound)),
        (&plain, json!({"cnf": "k"}), Some(TokenError::KeyBound)),
        (&plain, json!({"cnf": null}), None),
    ];
    for (part, members, error) in rows {
        let response = active(members);
        assert_eq!(decide(part, &response.to_string()).err(), error, "{response}");
    }
    let mut unnamed = active(json!({}));
    unnamed.as_object_mut().unwrap().remove("aud");
    assert_eq!(decide(&part(), &unnamed.to_string()).err(), Some(TokenError::WrongAudience));
    unnamed["client_id"] = json!("shop");
    assert_eq!(decide(&part(), &unnamed.to_string()).err(), None);
}

#[test]
fn a_result_is_remembered_until_the_token_expires_and_at_most_for_its_time() {
    let seconds = |part: &sluice_wire::Introspection, members: Value| {
        let grant = decide(part, &active(members).to_string()).ok().unwrap();
        grant.identity.expires.duration_since(now()).map_or(0, |left| left.as_secs())
    };
    assert_eq!(seconds(&part(), json!({})), 60);
    assert_eq!(seconds(&part(), json!({"exp": NOW + 3600})), 60);
    assert_eq!(seconds(&part(), json!({"exp": NOW + 10})), 10);
    // The endpoint's clock is late: it is accepted now, and asked again for the next request.
    assert_eq!(seconds(&part(), json!({"exp": NOW - 10})), 0);
    let never = sluice_wire::Introspection { result_ttl_ms: 0, ..part() };
    assert_eq!(seconds(&never, json!({"exp": NOW + 3600})), 0);
}

#[test]
fn the_caller_is_the_subject_or_the_user_or_the_client() {
    let caller = |response: Value, token: &str| {
        let any = sluice_wire::Introspection { audiences: Vec::new(), any_audience: true, ..part() };
        let digest = Hash::of(token.as_bytes());
        let grant = Rules::compile(&any).decide(response.to_string().as_bytes(), &digest, now()).ok().unwrap();
        grant.identity.clone()
    };
    let name = |response: Value| caller(response, "t").id.clone();
    let all = json!({"active": true, "sub": "u1", "username": "ann", "client_id": "app", "scope": "a b"});
    assert_eq!(name(all.clone()).as_deref(), Some("u1"));
    assert_eq!(name(json!({"active": true, "sub": "", "username": "ann"})).as_deref(), Some("ann"));
    assert_eq!(name(json!({"active": true, "client_id": "app"})).as_deref(), Some("app"));
    assert_eq!(name(json!({"active": true})), None);
    let identity = caller(all.clone(), "t");
    assert!(identity.has_any_scope(&["b".into()]) && !identity.has_any_scope(&["c".into()]));
    assert_eq!((identity.kind, identity.attribute("client_id").as_deref()), ("Introspection", Some("app")));
    // What separates callers: the subject at its issuer, or else the token.
    let of = |response: &Value, token: &str| caller(response.clone(), token).cache_identity.clone();
    let mut other = all.clone();
    other["iss"] = json!("https://other.example");
    assert_eq!(of(&all, "one"), of(&all, "two"));
    assert_ne!(of(&all, "one"), of(&other, "one"));
    let nameless = json!({"active": true, "client_id": "app"});
    assert_ne!(of(&nameless, "one"), of(&nameless, "two"));
}

#[test]
fn values_of_forms_are_encoded_as_rfc_6749_requires() {
    for (text, expected) in [
        ("shop-gateway_1.~", "shop-gateway_1.~"),
        ("a b&c=d+e%f:g", "a%20b%26c%3Dd%2Be%25f%3Ag"),
        ("\u{e9}/\r\n", "%C3%A9%2F%0D%0A"),
        ("", ""),
    ] {
        assert_eq!(uri_encode(text), expected);
    }
}
