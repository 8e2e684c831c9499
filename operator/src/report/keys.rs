//! Generates API keys and access keys, for ApiKeys and Principals that name no Secret. An existing Secret is never changed.
//! `translate` reads keys.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Resource as _, ResourceExt as _};
use sluice_crds::{ApiKey, Principal, api_key, principal};

use crate::objects::{Object, ObjectKey, generated_access_key, secret_of};
use crate::report::writer::FIELD_MANAGER;

const LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The letters of base32: those of AWS's access key ids.
const ID_ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Not `AKIA`: scanners for leaked credentials would report a key of AWS.
const ID_PREFIX: &str = "SLCE";
const ID_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 40;
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The system has no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot generate random bytes for a key")]
pub struct NoRandomness;

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

/// A new key: `sk_` and 32 random letters and digits (190 bits).
///
/// # Errors
/// See [`NoRandomness`].
pub fn generate() -> Result<String, NoRandomness> {
    Ok(format!("sk_{}", random(ALPHABET, LENGTH)?))
}

/// A new access key: an id (80 bits), and a secret of 40 random letters and digits (238 bits).
///
/// # Errors
/// See [`NoRandomness`].
pub fn generate_access_key() -> Result<(String, String), NoRandomness> {
    Ok((format!("{ID_PREFIX}{}", random(ID_ALPHABET, ID_LENGTH)?), random(ALPHABET, SECRET_LENGTH)?))
}

fn random(alphabet: &[u8], length: usize) -> Result<String, NoRandomness> {
    let mut text = String::with_capacity(length);
    // Bytes above a multiple of the alphabet's length would make some characters likelier than others.
    let limit = 256 - 256 % alphabet.len();
    while text.len() < length {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        let fair = bytes.into_iter().map(usize::from).filter(|byte| *byte < limit).take(length - text.len());
        text.extend(fair.filter_map(|byte| alphabet.get(byte % alphabet.len())).map(|letter| char::from(*letter)));
    }
    Ok(text)
}

/// The Secret with a new key for an ApiKey; it goes away together with the ApiKey.
///
/// # Errors
/// See [`NoRandomness`].
pub fn secret(api_key: &ApiKey) -> Result<Secret, NoRandomness> {
    let data = [(api_key::SECRET_DATA_KEY, generate()?)];
    Ok(secret_with(&secret_of(api_key), api_key.controller_owner_ref(&()), data))
}

/// The Secret with a new access key for a Principal; it goes away together with the Principal.
///
/// # Errors
/// See [`NoRandomness`].
pub fn access_key_secret(principal: &Principal) -> Result<Secret, NoRandomness> {
    let (id, secret) = generate_access_key()?;
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
        Object::Principal(principal) => access_key_secret(principal)?,
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
    fn keys_are_long_plain_and_never_the_same() {
        let keys: std::collections::BTreeSet<String> = (0..1000).map(|_| generate().unwrap()).collect();
        assert_eq!(keys.len(), 1000);
        for key in keys {
            let rest = key.strip_prefix("sk_").unwrap();
            assert!(rest.len() == 32 && rest.bytes().all(|b| b.is_ascii_alphanumeric()), "{key}");
        }
    }

    #[test]
    fn access_keys_have_the_form_that_clients_expect_and_their_secret_names_its_owner() {
        let value = serde_json::json!({"metadata": {"name": "reporting", "namespace": "shop", "uid": "u"}, "spec": {}});
        let principal: Principal = serde_json::from_value(value).unwrap();
        let ids: std::collections::BTreeSet<String> = (0..100)
            .map(|_| {
                let secret = access_key_secret(&principal).unwrap();
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
}
