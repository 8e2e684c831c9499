//! The cluster's own issuer of tokens for ServiceAccounts, with its public keys. `watch` reads it from the API server.

use serde::Deserialize;
use sluice_wire::{KeySetError, PublicKey};

/// Longer names of issuers are not accepted.
const MAX_ISSUER: usize = 512;

/// The issuer of tokens for ServiceAccounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterIssuer {
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Its public keys: a key set.
    pub keys: String,
}

/// Why the documents of an API server name no issuer.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIssuer {
    /// The discovery document is not one.
    #[error("the discovery document of the API server is not valid: {0}")]
    Discovery(#[from] serde_json::Error),
    /// The name of the issuer cannot be used.
    #[error("the issuer in the discovery document of the API server is empty or longer than {MAX_ISSUER} bytes")]
    Name,
    /// The keys cannot be used.
    #[error("the key set of the API server cannot be used: {0}")]
    Keys(#[from] KeySetError),
}

/// A discovery document (OpenID Connect Discovery 1.0), as far as it is used.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
}

impl ClusterIssuer {
    /// What stands for the issuer where manifests are checked without a cluster. It has no keys.
    #[must_use]
    pub fn of_any_cluster() -> Self {
        Self { issuer: "https://kubernetes.default.svc.cluster.local".to_owned(), keys: PublicKey::write_set(&[]) }
    }

    /// The issuer of a discovery document and a key set.
    ///
    /// # Errors
    /// See [`InvalidIssuer`].
    pub fn parse(discovery: &str, keys: &str) -> Result<Self, InvalidIssuer> {
        let Discovery { issuer } = serde_json::from_str(discovery)?;
        if issuer.is_empty() || issuer.len() > MAX_ISSUER {
            return Err(InvalidIssuer::Name);
        }
        let keys: Vec<PublicKey> = PublicKey::read_set(keys.as_bytes())?.keys.into_iter().map(|(_, key)| key).collect();
        if keys.is_empty() {
            return Err(InvalidIssuer::Keys(KeySetError::NoUsableKey));
        }
        Ok(Self { issuer, keys: PublicKey::write_set(&keys) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","alg":"ES256","use":"sig",
        "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

    #[test]
    fn an_issuer_has_a_name_and_keys() {
        let issuer = ClusterIssuer::parse(r#"{"issuer":"https://cluster.test","jwks_uri":"x"}"#, KEYS).unwrap();
        assert_eq!(issuer.issuer, "https://cluster.test");
        assert!(issuer.keys.contains(r#""kid":"one""#), "{}", issuer.keys);
        for (discovery, keys, expected) in [
            ("{}", KEYS, "missing field `issuer`"),
            ("no", KEYS, "not valid"),
            (r#"{"issuer":""}"#, KEYS, "is empty"),
            (r#"{"issuer":"https://cluster.test"}"#, "{}", "key set"),
            (r#"{"issuer":"https://cluster.test"}"#, r#"{"keys":[]}"#, "key set"),
            (r#"{"issuer":"https://cluster.test"}"#, r#"{"keys":[{"kty":"oct","k":"AA"}]}"#, "key set"),
        ] {
            let error = ClusterIssuer::parse(discovery, keys).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
