//! Keys that verify signatures. Which keys of a set can do so is decided in `sluice_wire`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use sluice_wire::{Algorithm, KeyMaterial, KeySetError, PublicKey, SkipReason, SkippedKey};

/// Sizes of RSA keys that the library verifies with.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

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

    fn new(key: &PublicKey) -> Result<Self, SkipReason> {
        let invalid = |_| SkipReason::Invalid;
        let decoding = match &key.material {
            KeyMaterial::Rsa { n, e } => {
                let decode = |name, text| URL_SAFE_NO_PAD.decode(text).map_err(|_| SkipReason::Member(name));
                let (n, e) = (decode("n", n)?, decode("e", e)?);
                let bits = n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize);
                if !RSA_BITS.contains(&bits) {
                    return Err(SkipReason::Size(bits));
                }
                DecodingKey::from_rsa_raw_components(&n, &e)
            }
            KeyMaterial::Ec { x, y, .. } => DecodingKey::from_ec_components(x, y).map_err(invalid)?,
            KeyMaterial::Ed25519 { x } => DecodingKey::from_ed_components(x).map_err(invalid)?,
        };
        Ok(Self { kid: key.kid.clone(), algorithms: key.algorithms(), key: decoding })
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

/// The keys of a set that can be used, at least one, and the others.
pub(super) fn parse(text: &[u8]) -> Result<(Vec<VerifyKey>, Vec<SkippedKey>), KeySetError> {
    let set = PublicKey::read_set(text)?;
    let (mut keys, mut skipped) = (Vec::new(), set.skipped);
    for (at, key) in &set.keys {
        match VerifyKey::new(key) {
            Ok(key) => keys.push(key),
            Err(reason) => skipped.push(SkippedKey { at: *at, kid: key.kid.clone(), reason }),
        }
    }
    if keys.is_empty() {
        return Err(KeySetError::NoUsableKey);
    }
    Ok((keys, skipped))
}

/// The keys that the issuer probably expects to be used, with the reasons, for the log. None: there are none.
pub(super) fn unexpected(skipped: &[SkippedKey]) -> Option<String> {
    let keys = skipped.iter().filter(|key| key.reason != SkipReason::NotForSignatures);
    let texts: Vec<String> = keys.take(16).map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_cannot_be_used_are_named_with_their_reasons() {
        let number = |len| URL_SAFE_NO_PAD.encode(vec![0xff; len]);
        let x = number(32);
        let set = json!({"keys": [
            {"kty": "RSA", "kid": "small", "n": number(128), "e": "AQAB"},
            {"kty": "RSA", "kid": "good", "n": number(256), "e": "AQAB"},
            {"kty": "RSA", "kid": "large", "n": number(1025), "e": "AQAB"},
            {"kty": "RSA", "kid": "for-encryption", "use": "enc", "n": number(256), "e": "AQAB"},
            {"kty": "EC", "crv": "P-521", "x": x, "y": x},
        ]});
        let (keys, skipped) = parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.iter().map(|key| key.kid.as_deref()).collect::<Vec<_>>(), [Some("good")]);
        let text = unexpected(&skipped).unwrap();
        for part in [
            "keys[0] (kid \"small\") has an RSA modulus of 1024 bits",
            "keys[2] (kid \"large\") has an RSA modulus of 8200 bits",
            "keys[4] has the type \"EC with P-521\"",
        ] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("for-encryption"), "{text}");
        assert_eq!(unexpected(&skipped[..1]), None);
    }
}
