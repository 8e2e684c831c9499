//! Tokens of ServiceAccounts.

use sluice_wire::{PartKind, PartName, ServiceAccount};

use super::*;
use crate::access_review::AccessReviews;
use crate::reject::Reject;

const CLUSTER: &str = "https://kubernetes.default.svc";
const USER: &str = "system:serviceaccount:shop:orders";

fn accounts(access_reviews: bool) -> Arc<Authorizer> {
    compile(access_reviews, &services(KeySets::new(runtime(), Web::default())))
}

fn compile(access_reviews: bool, services: &Services) -> Arc<Authorizer> {
    let mut tokens = jwt(KeySource::Inline(set(&[&RSA.jwk])));
    tokens.issuers[0].issuer = CLUSTER.into();
    tokens.issuers[0].audiences = vec!["shop.example".into()];
    tokens.token_types = vec!["jwt".into()];
    tokens.required_claims.clear();
    let kind = AuthorizerKind::ServiceAccount(ServiceAccount { tokens, access_reviews });
    let part = AuthorizerPart { object: ObjectRef::new("Authorizer", "shop", "accounts"), kind };
    compiled(&part, services)
}

/// As an API server issues them.
fn claims() -> Value {
    json!({
        "iss": CLUSTER, "sub": USER, "aud": ["shop.example"], "exp": now() + 600, "iat": now(), "nbf": now(), "jti": "1",
        "kubernetes.io": {"namespace": "shop", "pod": {"name": "orders-0"}, "serviceaccount": {"name": "orders"}},
    })
}

fn decide(authorizer: &Authorizer, claims: &Value, route: Option<&PartName>) -> Decision {
    // API servers write no type.
    let headers = bearer(&RSA.sign(&json!({"alg": "RS256", "kid": "rsa"}), claims));
    let request = AuthRequest {
        method: &Method::GET,
        headers: &headers,
        route,
        behavior: Behavior::Native,
        with_scopes: false,
        variables: &NoVariables,
        facts: &RequestFacts::default,
    };
    block(decides(authorizer).authorize(&request)).decision
}

#[test]
fn a_service_account_is_a_caller_with_its_groups() {
    let authorizer = accounts(false);
    let Decision::Allow(identity) = decide(&authorizer, &claims(), None) else { panic!("it is rejected") };
    assert_eq!((identity.kind, identity.id.as_deref()), ("ServiceAccount", Some(USER)));
    let groups = r#"["system:serviceaccounts","system:serviceaccounts:shop","system:authenticated"]"#;
    assert_eq!(identity.attribute("groups").as_deref(), Some(groups));
    assert_eq!(identity.attribute("kubernetes.io.pod.name").as_deref(), Some("orders-0"));
}

#[test]
fn tokens_of_other_callers_audiences_and_issuers_are_rejected() {
    let authorizer = accounts(false);
    for (claim, value, expected) in [
        ("sub", json!("ann"), "token_not_service_account"),
        ("sub", json!("system:serviceaccount:shop"), "token_not_service_account"),
        ("sub", json!("system:masters"), "token_not_service_account"),
        ("sub", json!(null), "token_invalid_sub"),
        ("sub", json!(7), "token_invalid_sub"),
        ("aud", json!([CLUSTER]), "token_wrong_audience"),
        ("aud", json!(null), "token_invalid_aud"),
        ("iss", json!("kubernetes/serviceaccount"), "token_unknown_issuer"),
        ("exp", json!(now() - 600), "token_expired"),
        ("nbf", json!(now() + 600), "token_not_yet_valid"),
    ] {
        let mut claims = claims();
        claims[claim] = value.clone();
        match decide(&authorizer, &claims, None) {
            Decision::Reject { reason, .. } => assert_eq!(reason, expected, "{claim}: {value}"),
            Decision::Allow(_) => panic!("{claim}: {value} is accepted"),
        }
    }
}

#[test]
fn a_caller_that_the_api_server_must_allow_is_rejected_without_its_result() {
    let route = PartName::of_object(PartKind::Route, "shop", "items");
    for route in [None, Some(&route)] {
        // No operator is connected.
        match decide(&accounts(true), &claims(), route) {
            Decision::Reject { reject: Reject::AuthorizerUnavailable, reason } => {
                assert_eq!(reason, "access_review_unavailable");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_api_servers_result_is_about_the_user_the_method_and_the_route() {
    let reviews = AccessReviews::default();
    let mut services = services(KeySets::new(runtime(), Web::default()));
    services.access_reviews = reviews.clone();
    let authorizer = compile(true, &services);
    let route = PartName::of_object(PartKind::Route, "shop", "items");
    for (allowed, expected) in [(Some(false), "access_review_denied"), (None, "access_review_unavailable")] {
        let mut stream = reviews.connect();
        let reply = reviews.clone();
        let asked = runtime().spawn(async move {
            let review = stream.recv().await.unwrap();
            reply.reviewed(&sluice_wire::Reviewed { id: review.id, allowed });
            review
        });
        let mut claims = claims();
        claims["sub"] = json!(format!("{USER}{}", if allowed.is_some() { "-1" } else { "-2" }));
        let Decision::Reject { reject, reason } = decide(&authorizer, &claims, Some(&route)) else { panic!("allowed") };
        assert_eq!(reason, expected);
        let review = block(asked).unwrap();
        assert_eq!((&*review.verb, &*review.namespace, &*review.route), ("get", "shop", "items"));
        assert_eq!(claims["sub"], *review.user);
        assert_eq!(matches!(reject, Reject::AccessReviewDenied), allowed.is_some());
    }
}
