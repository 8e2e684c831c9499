//! Key sets (RFC 7517): which of their keys can verify a signature, and with which algorithms.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use sluice_wire::Algorithm;

/// Further keys of a set are ignored.
const MAX_KEYS: usize = 256;

#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
}

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
}

/// The algorithm with a registered name. `none` and symmetric algorithms are not supported.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
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

/// The usable keys of a set. Others (encryption keys, symmetric keys, unknown curves) are ignored. A text that is not a key
/// set is an error.
pub(super) fn parse(text: &[u8]) -> Result<Vec<VerifyKey>, serde_json::Error> {
    let set: Set = serde_json::from_slice(text)?;
    let keys = set.keys.into_iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key).ok());
    Ok(keys.filter_map(usable).collect())
}

fn usable(jwk: Jwk) -> Option<VerifyKey> {
    let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
    let may_verify = jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures || !may_verify {
        return None;
    }
    let (mut algorithms, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (strict(jwk.n.as_deref()?)?, strict(jwk.e.as_deref()?)?);
            let all = vec![
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ];
            (all, DecodingKey::from_rsa_raw_components(&n, &e))
        }
        ("EC", Some(curve @ ("P-256" | "P-384"))) => {
            let (algorithm, len) = if curve == "P-256" { (Algorithm::ES256, 32) } else { (Algorithm::ES384, 48) };
            let (x, y) = (jwk.x.as_deref()?, jwk.y.as_deref()?);
            if strict(x)?.len() != len || strict(y)?.len() != len {
                return None;
            }
            (vec![algorithm], DecodingKey::from_ec_components(x, y).ok()?)
        }
        ("OKP", Some("Ed25519")) => {
            let x = jwk.x.as_deref()?;
            if strict(x)?.len() != 32 {
                return None;
            }
            (vec![Algorithm::EdDSA], DecodingKey::from_ed_components(x).ok()?)
        }
        // `oct` is a published secret, or an attack.
        _ => return None,
    };
    if let Some(only) = &jwk.alg {
        let only = algorithm(only)?;
        algorithms.retain(|known| *known == only);
    }
    (!algorithms.is_empty()).then_some(VerifyKey { kid: jwk.kid, algorithms, key })
}

fn strict(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}
