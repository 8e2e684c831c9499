//! Keys that verify signatures. Which keys of a set can do so is decided in `sluice_wire`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use sluice_wire::{Algorithm, KeyMaterial, KeySetError, PublicKey};

/// A key that can verify signatures.
pub(super) struct VerifyKey {
    /// The key ID.
    pub(super) kid: Option<String>,
    /// The algorithms of the key, never the token's choice.
    pub(super) algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

impl VerifyKey {
    /// Whether the key verifies `signature` over `message`. The algorithm must be one of the key's.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        self.algorithms.contains(&algorithm)
            && jsonwebtoken::crypto::verify(signature, message.as_bytes(), &self.key, registered(algorithm))
                .unwrap_or(false)
    }

    fn new(key: &PublicKey) -> Option<Self> {
        let decoding = match &key.material {
            KeyMaterial::Rsa { n, e } => {
                let decode = |text| URL_SAFE_NO_PAD.decode(text).ok();
                DecodingKey::from_rsa_raw_components(&decode(n)?, &decode(e)?)
            }
            KeyMaterial::Ec { x, y, .. } => DecodingKey::from_ec_components(x, y).ok()?,
            KeyMaterial::Ed25519 { x } => DecodingKey::from_ed_components(x).ok()?,
        };
        Some(Self { kid: key.kid.clone(), algorithms: key.algorithms(), key: decoding })
    }
}

fn registered(algorithm: Algorithm) -> jsonwebtoken::Algorithm {
    match algorithm {
        Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
        Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
        Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
        Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
        Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
        Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
        Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
        Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
    }
}

/// The keys of a set that can be used, at least one.
pub(super) fn parse(text: &[u8]) -> Result<Vec<VerifyKey>, KeySetError> {
    let keys: Vec<VerifyKey> = PublicKey::parse_set(text)?.iter().filter_map(VerifyKey::new).collect();
    if keys.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(keys) }
}
