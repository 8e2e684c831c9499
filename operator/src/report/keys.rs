//! Generates API keys and access keys, for ApiKeys and Principals that name no Secret. An existing Secret is never changed.
//! `translate` reads keys.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Resource as _, ResourceExt as _};
use sluice_crds::api_key::SECRET_DATA_KEY;
use sluice_crds::{ApiKey, Principal, principal};

use crate::objects::{Object, ObjectKey, generated_access_key, secret_of, session_secret};
use crate::random::{NoRandomness, access_key, api_key, session_key};
use crate::report::writer::FIELD_MANAGER;

const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a Secret with a new key was not created.
#[derive(Debug, thiserror::Error)]
pub enum MakeKeyError {
    /// See [`NoRandomness`].
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The API server rejects it.
    #[error("cannot create the Secret of a key")]
    Create(#[from] kube::Error),
    /// The API server does not respond.
    #[error("cannot create the Secret of a key: the API server did not respond in time")]
    Timeout,
}

/// The Secret with a new key for an ApiKey; it goes away together with the ApiKey.
///
/// # Errors
/// See [`NoRandomness`].
pub fn secret(of: &ApiKey) -> Result<Secret, NoRandomness> {
    let data = [(SECRET_DATA_KEY, api_key()?)];
    Ok(secret_with(&secret_of(of), of.controller_owner_ref(&()), data))
}

/// The Secret with a new access key for a Principal, for a role with a new session key; it goes away together with the Principal.
///
/// # Errors
/// See [`NoRandomness`].
pub fn principal_secret(principal: &Principal) -> Result<Secret, NoRandomness> {
    if let Some(name) = session_secret(principal) {
        let data = [(principal::SESSION_DATA_KEY, session_key()?)];
        return Ok(secret_with(&name, principal.controller_owner_ref(&()), data));
    }
    let (id, secret) = access_key()?;
    let data = [(principal::ID_DATA_KEY, id), (principal::SECRET_DATA_KEY, secret)];
    let name = generated_access_key(&ObjectKey::of(principal));
    Ok(secret_with(&name, principal.controller_owner_ref(&()), data))
}

fn secret_with(
    key: &ObjectKey,
    owner: Option<OwnerReference>,
    data: impl IntoIterator<Item = (&'static str, String)>,
) -> Secret {
    let labels = [("app.kubernetes.io/managed-by".to_owned(), "sluice-operator".to_owned())];
    let data = data.into_iter().map(|(name, text)| (name.to_owned(), ByteString(text.into_bytes())));
    Secret {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels.into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(data.collect::<BTreeMap<_, _>>()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

/// Creates the Secret of an ApiKey or Principal, unless there is one.
///
/// # Errors
/// See [`MakeKeyError`].
pub(crate) async fn make(client: &Client, object: &Object) -> Result<(), MakeKeyError> {
    let secret = match object {
        Object::ApiKey(api_key) => secret(api_key)?,
        Object::Principal(principal) => principal_secret(principal)?,
        _ => return Ok(()),
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), &secret.namespace().unwrap_or_default());
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match tokio::time::timeout(CREATE_TIMEOUT, api.create(&parameters, &secret)).await {
        Err(_) => Err(MakeKeyError::Timeout),
        // Another writer created it; the watch will add the Secret to the cluster state.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) => {
            let (kind, key) = object.identity();
            tracing::info!(object = %kind.object(&key), secret.name = %secret.name_any(), "generated a key");
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_keys_have_the_form_that_clients_expect_and_their_secret_names_its_owner() {
        let value = serde_json::json!({"metadata": {"name": "reporting", "namespace": "shop", "uid": "u"}, "spec": {}});
        let principal: Principal = serde_json::from_value(value).unwrap();
        let ids: std::collections::BTreeSet<String> = (0..100)
            .map(|_| {
                let secret = principal_secret(&principal).unwrap();
                assert_eq!(secret.metadata.name.as_deref(), Some("reporting-access-key"));
                assert_eq!(secret.metadata.owner_references.unwrap()[0].name, "reporting");
                let text = |name: &str| String::from_utf8(secret.data.as_ref().unwrap()[name].0.clone()).unwrap();
                let (id, key) = (text("AWS_ACCESS_KEY_ID"), text("AWS_SECRET_ACCESS_KEY"));
                assert!(id.len() == 20 && id.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()), "{id}");
                assert!(key.len() == 40 && key.bytes().all(|b| b.is_ascii_alphanumeric()));
                id
            })
            .collect();
        assert_eq!(ids.len(), 100);
    }

    #[test]
    fn a_role_has_a_session_key_and_no_access_key() {
        let spec = serde_json::json!({"trust": [{"serviceAccount": {"name": "a"}}]});
        let value =
            serde_json::json!({"metadata": {"name": "reporting", "namespace": "shop", "uid": "u"}, "spec": spec});
        let secret = principal_secret(&serde_json::from_value(value).unwrap()).unwrap();
        assert_eq!(secret.metadata.name.as_deref(), Some("reporting-session-key"));
        assert_eq!(secret.metadata.owner_references.unwrap()[0].name, "reporting");
        let data = secret.data.unwrap();
        assert_eq!(data.keys().collect::<Vec<_>>(), ["SESSION_KEY"]);
        assert_eq!(data["SESSION_KEY"].0.len(), 64);
    }
}
