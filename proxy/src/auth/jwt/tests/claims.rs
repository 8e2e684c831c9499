//! Claims that an Authorizer requires: values, paths and audiences.

use super::*;

#[test]
fn truth_values_are_written_as_text() {
    let mut rules = jwt(KeySource::Inline(set(&[&EC.jwk])));
    rules.required_claims = [("verified".to_owned(), "true".to_owned())].into();
    let authorizer = compiled(&part(rules), &services(KeySets::new(runtime(), Web::default())));
    for (value, fits) in [
        (json!(true), true),
        (json!("true"), true),
        (json!([false, true]), true),
        (json!(false), false),
        (json!(1), false),
    ] {
        let headers = bearer(&EC.token(&with("verified", value.clone())));
        let expected = (!fits).then_some("token_missing_claim");
        assert_eq!(rejected(&authorizer, &headers), expected, "{value}");
    }
}

#[test]
fn without_audiences_no_token_is_accepted_unless_any_is() {
    for any_audience in [false, true] {
        let mut rules = jwt(KeySource::Inline(set(&[&EC.jwk])));
        (rules.issuers[0].audiences, rules.issuers[0].any_audience) = (Vec::new(), any_audience);
        let authorizer = compiled(&part(rules), &services(KeySets::new(runtime(), Web::default())));
        for claims in [claims(), with("aud", json!("other")), with("aud", json!(["a", "b"])), without("aud")] {
            let expected = (!any_audience).then_some("token_wrong_audience");
            assert_eq!(rejected(&authorizer, &bearer(&EC.token(&claims))), expected, "{claims}");
        }
        let expired = rejected(&authorizer, &bearer(&EC.token(&with("exp", json!(1)))));
        assert_eq!(expired, Some("token_expired"));
    }
}

#[test]
fn a_required_claim_can_be_inside_of_another() {
    let mut rules = jwt(KeySource::Inline(set(&[&EC.jwk])));
    rules.required_claims = [("realm_access.roles".to_owned(), "editor".to_owned())].into();
    let authorizer = compiled(&part(rules), &services(KeySets::new(runtime(), Web::default())));
    for (name, value, fits) in [
        ("realm_access", json!({"roles": ["reader", "editor"]}), true),
        ("realm_access", json!({"roles": "editor"}), true),
        ("realm_access.roles", json!("editor"), true),
        ("realm_access", json!({"roles": ["reader"]}), false),
        ("realm_access", json!({"roles": {"editor": true}}), false),
        ("realm_access", json!(["roles", "editor"]), false),
        ("realm_access", json!("editor"), false),
        ("roles", json!(["editor"]), false),
    ] {
        let headers = bearer(&EC.token(&with(name, value.clone())));
        let expected = (!fits).then_some("token_missing_claim");
        assert_eq!(rejected(&authorizer, &headers), expected, "{name}: {value}");
    }
}
