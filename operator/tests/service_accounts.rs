//! Authorizers of ServiceAccounts: their issuer and keys are those of the cluster, and follow its changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use sluice_operator::cluster_issuer::ClusterIssuer;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{Kind, ObjectKey};
use sluice_operator::translate::{Translation, Translator};
use sluice_wire::{AuthorizerKind, KeySource, PartBody, PartKind, PartName};

use crate::objects::object;

fn issuer(name: &str, kid: &str) -> Arc<ClusterIssuer> {
    let discovery = json!({"issuer": name}).to_string();
    let keys = json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": kid, "alg": "ES256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]});
    Arc::new(ClusterIssuer::parse(&discovery, &keys.to_string()).unwrap())
}

fn authorizer(name: &str, spec: &Value) -> sluice_operator::objects::Object {
    object(json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Authorizer", "metadata": {"name": name, "namespace": "shop"},
        "spec": spec,
    }))
}

fn kind(translation: &Translation, name: &str) -> AuthorizerKind {
    let part = translation.parts.get(&PartName::of_object(PartKind::Authorizer, "shop", name)).unwrap();
    let PartBody::Authorizer(part) = part.decode().unwrap() else { panic!("no authorizer") };
    part.kind
}

#[test]
fn the_issuer_of_the_cluster_is_that_of_its_service_accounts() {
    let accounts =
        json!({"type": "ServiceAccount", "serviceAccount": {"audiences": ["shop", "pay"], "accessReviews": true}});
    let other = json!({"type": "Jwt", "jwt": {"issuers": [{"issuer": "https://idp.example", "audiences": ["shop"]}]}});
    let mut state = ClusterState::from_objects([authorizer("accounts", &accounts), authorizer("other", &other)]);
    let mut translator = Translator::new();
    let translation = translator.translate(&state);
    let AuthorizerKind::Invalid { why } = kind(&translation, "accounts") else { panic!("it is served") };
    assert!(why.contains("cannot read the issuer of the cluster"), "{why}");

    // The issuer is there: what does not depend on it is not translated again.
    let named: BTreeSet<_> = [(Kind::Namespace, ObjectKey::new("", "any"))].into();
    for (name, kid) in [("https://cluster.test", "one"), ("https://cluster.test", "two"), ("https://moved.test", "two")]
    {
        state.issuer = Ok(issuer(name, kid));
        let translation = translator.translate_changed(&state, &named).unwrap();
        assert_eq!(translator.translated(), 1);
        let AuthorizerKind::ServiceAccount(found) = kind(&translation, "accounts") else { panic!("another kind") };
        assert!(found.access_reviews);
        let [trusted] = found.tokens.issuers.as_slice() else { panic!("{:?}", found.tokens) };
        let KeySource::Inline(keys) = &trusted.keys else { panic!("{trusted:?}") };
        assert!(trusted.issuer == name && keys.contains(kid) && !trusted.any_audience);
        assert_eq!(trusted.audiences, ["shop", "pay"]);
        assert_eq!(translation, Translator::new().translate(&state));
        assert!(translator.translate_changed(&state, &named).is_none(), "nothing has changed");
    }
}
