//! Generates API keys, for ApiKeys that name no Secret. An existing Secret is never changed. `translate` reads keys.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, PostParams};
use kube::{Client, Resource as _, ResourceExt as _};
use sluice_crds::ApiKey;
use sluice_crds::api_key::SECRET_DATA_KEY;

use crate::objects::secret_of;
use crate::report::writer::FIELD_MANAGER;

const LENGTH: usize = 32;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const CREATE_TIMEOUT: Duration = Duration::from_secs(10);

/// The system has no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("cannot generate random bytes for an API key")]
pub struct NoRandomness;

/// Why a Secret with a new key was not created.
#[derive(Debug, thiserror::Error)]
pub enum MakeKeyError {
    /// See [`NoRandomness`].
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The API server rejects it.
    #[error("cannot create the Secret of an API key")]
    Create(#[from] kube::Error),
    /// The API server does not respond.
    #[error("cannot create the Secret of an API key: the API server did not respond in time")]
    Timeout,
}

/// A new key: `sk_` and 32 random letters and digits (190 bits).
///
/// # Errors
/// See [`NoRandomness`].
pub fn generate() -> Result<String, NoRandomness> {
    let mut key = String::from("sk_");
    let mut left = LENGTH;
    while left > 0 {
        let mut bytes = [0; 64];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
        // 248 = 4 × 62: bytes above would make some characters likelier than others.
        for byte in bytes.into_iter().filter(|byte| *byte < 248).take(left) {
            key.push(char::from(ALPHABET[usize::from(byte) % ALPHABET.len()]));
            left -= 1;
        }
    }
    Ok(key)
}

/// The Secret with a new key for an ApiKey; it goes away together with the ApiKey.
///
/// # Errors
/// See [`NoRandomness`].
pub fn secret(api_key: &ApiKey) -> Result<Secret, NoRandomness> {
    let key = generate()?;
    let labels = [("app.kubernetes.io/managed-by".to_owned(), "sluice-operator".to_owned())];
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(secret_of(api_key).name),
            namespace: api_key.namespace(),
            labels: Some(labels.into()),
            owner_references: api_key.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(SECRET_DATA_KEY.to_owned(), ByteString(key.into_bytes()))])),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    })
}

/// Creates the Secret of an ApiKey, unless there is one.
///
/// # Errors
/// See [`MakeKeyError`].
pub(crate) async fn make(client: &Client, api_key: &ApiKey) -> Result<(), MakeKeyError> {
    let secret = secret(api_key)?;
    let api: Api<Secret> = Api::namespaced(client.clone(), &api_key.namespace().unwrap_or_default());
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    match tokio::time::timeout(CREATE_TIMEOUT, api.create(&parameters, &secret)).await {
        Err(_) => Err(MakeKeyError::Timeout),
        // Another writer created it; the watch will add the Secret to the cluster state.
        Ok(Err(kube::Error::Api(status))) if status.code == 409 => Ok(()),
        Ok(Err(error)) => Err(error.into()),
        Ok(Ok(_)) => {
            tracing::info!(object = %api_key.name_any(), secret.name = %secret.name_any(), "generated an API key");
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
}
