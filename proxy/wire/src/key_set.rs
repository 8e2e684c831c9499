//! Key sets (RFC 7517): which keys of a set can verify signatures, and with which algorithms. The operator passes on the public
//! members of such keys only; the proxy verifies with them. Both parse sets here.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Algorithm;

/// A longer set is not parsed: sets have a handful of keys.
pub const MAX_KEY_SET_BYTES: usize = 256 << 10;
/// Further keys of a set are ignored.
const MAX_KEYS: usize = 256;

/// Why a text is not a key set.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Longer than [`MAX_KEY_SET_BYTES`].
    #[error("is longer than {MAX_KEY_SET_BYTES} bytes")]
    TooLong,
    /// It is not JSON.
    #[error("is not JSON")]
    Json(#[source] serde_json::Error),
    /// It has no list of keys.
    #[error("is not a JSON Web Key Set: it must have a list `keys` with at least one key")]
    NoKeys,
    /// None of its keys can be used.
    #[error(
        "has no key that can verify a signature: RSA, EC with P-256 or P-384, and OKP with Ed25519 can, unless their alg, use \
         or key_ops say otherwise"
    )]
    NoUsableKey,
}

/// A public key that can verify signatures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Its name in the set.
    pub kid: Option<String>,
    /// The only algorithm that it may be used with; none: each that fits the material.
    alg: Option<Algorithm>,
    /// Its numbers.
    pub material: KeyMaterial,
}

/// The numbers of a key, in base64url.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// RSA (RFC 7518, 6.3).
    Rsa {
        /// Modulus.
        n: String,
        /// Exponent.
        e: String,
    },
    /// Elliptic curve (RFC 7518, 6.2).
    Ec {
        /// The curve.
        curve: Curve,
        /// First coordinate.
        x: String,
        /// Second coordinate.
        y: String,
    },
    /// Ed25519 (RFC 8037, 2).
    Ed25519 {
        /// The key.
        x: String,
    },
}

/// Curves of EC keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the registered ones")]
pub enum Curve {
    P256,
    P384,
}

/// A key as a set has it. No private member (RFC 7518, 6.2.2 and 6.3.2; RFC 8037, 2) is read.
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

impl KeyMaterial {
    /// Algorithms that fit.
    fn algorithms(&self) -> &'static [Algorithm] {
        use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
        match self {
            Self::Rsa { .. } => &[RS256, RS384, RS512, PS256, PS384, PS512],
            Self::Ec { curve: Curve::P256, .. } => &[ES256],
            Self::Ec { curve: Curve::P384, .. } => &[ES384],
            Self::Ed25519 { .. } => &[EdDSA],
        }
    }
}

impl PublicKey {
    /// What it may be used with: never the token's choice.
    #[must_use]
    pub fn algorithms(&self) -> Vec<Algorithm> {
        self.alg.map_or_else(|| self.material.algorithms().to_vec(), |only| vec![only])
    }

    /// The keys of a set that can verify signatures, at least one. Others (encryption keys, symmetric keys, unknown curves) are
    /// ignored.
    pub fn parse_set(text: &[u8]) -> Result<Vec<Self>, KeySetError> {
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLong);
        }
        let mut set: Value = serde_json::from_slice(text).map_err(KeySetError::Json)?;
        let Some(Value::Array(keys)) = set.get_mut("keys").map(Value::take) else { return Err(KeySetError::NoKeys) };
        if keys.is_empty() {
            return Err(KeySetError::NoKeys);
        }
        let read = keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok()?.usable());
        let usable: Vec<Self> = read.take(MAX_KEYS).collect();
        if usable.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(usable) }
    }

    /// A set of these keys, with their public members only.
    #[must_use]
    pub fn write_set(keys: &[Self]) -> String {
        json!({"keys": keys.iter().map(Self::jwk).collect::<Vec<_>>()}).to_string()
    }

    fn jwk(&self) -> Map<String, Value> {
        let mut out = Map::new();
        let mut put = |name: &str, value: &str| drop(out.insert(name.to_owned(), value.into()));
        match &self.material {
            KeyMaterial::Rsa { n, e } => {
                put("kty", "RSA");
                put("n", n);
                put("e", e);
            }
            KeyMaterial::Ec { curve, x, y } => {
                put("kty", "EC");
                put("crv", if *curve == Curve::P256 { "P-256" } else { "P-384" });
                put("x", x);
                put("y", y);
            }
            KeyMaterial::Ed25519 { x } => {
                put("kty", "OKP");
                put("crv", "Ed25519");
                put("x", x);
            }
        }
        if let Some(kid) = &self.kid {
            put("kid", kid);
        }
        if let Some(alg) = self.alg {
            put("alg", alg.name());
        }
        out
    }
}

impl Jwk {
    fn usable(self) -> Option<PublicKey> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let may_verify = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        if !for_signatures || !may_verify {
            return None;
        }
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => KeyMaterial::Rsa { n: number(self.n, None)?, e: number(self.e, None)? },
            ("EC", Some("P-256")) => {
                KeyMaterial::Ec { curve: Curve::P256, x: number(self.x, Some(32))?, y: number(self.y, Some(32))? }
            }
            ("EC", Some("P-384")) => {
                KeyMaterial::Ec { curve: Curve::P384, x: number(self.x, Some(48))?, y: number(self.y, Some(48))? }
            }
            ("OKP", Some("Ed25519")) => KeyMaterial::Ed25519 { x: number(self.x, Some(32))? },
            // A symmetric key is all secret.
            _ => return None,
        };
        let alg = match self.alg {
            None => None,
            Some(name) => Some(Algorithm::named(&name).filter(|alg| material.algorithms().contains(alg))?),
        };
        Some(PublicKey { kid: self.kid, alg, material })
    }
}

/// Base64url of at least one byte, or of exactly `len`.
fn number(text: Option<String>, len: Option<usize>) -> Option<String> {
    let text = text?;
    let bytes = URL_SAFE_NO_PAD.decode(&text).ok()?;
    (!bytes.is_empty() && len.is_none_or(|len| bytes.len() == len)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(set: &Value) -> Result<Vec<PublicKey>, KeySetError> {
        PublicKey::parse_set(set.to_string().as_bytes())
    }

    #[test]
    fn private_members_and_symmetric_keys_are_not_passed_on() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let set = json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "kid": "a", "use": "sig", "x": x, "d": "SECRET"},
            {"kty": "EC", "crv": "P-256", "kid": "b", "x": x, "y": x, "d": "SECRET", "n": "SECRET"},
            {"kty": "RSA", "kid": "c", "n": "AQAB", "e": "AQAB", "d": "SECRET", "p": "SECRET", "q": "SECRET",
             "dp": "SECRET", "dq": "SECRET", "qi": "SECRET", "oth": [{"r": "SECRET"}], "x": "SECRET"},
            {"kty": "oct", "kid": "d", "k": "SECRET"},
            {"kty": "RSA", "kid": "SECRET", "use": "enc", "n": "AQAB", "e": "AQAB"},
            "SECRET",
        ], "other": "SECRET"});
        let keys = parse(&set).unwrap();
        let ids: Vec<&str> = keys.iter().map(|key| key.kid.as_deref().unwrap()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
        let written = PublicKey::write_set(&keys);
        assert!(!written.contains("SECRET"), "{written}");
        assert_eq!(PublicKey::parse_set(written.as_bytes()).unwrap(), keys);
    }

    #[test]
    fn a_key_has_the_algorithms_of_its_kind_or_the_one_that_it_names() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let rsa = |alg: &str| json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": alg}]});
        assert_eq!(parse(&rsa("PS256")).unwrap()[0].algorithms(), [Algorithm::PS256]);
        let ec = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": x, "y": x}]});
        assert_eq!(parse(&ec).unwrap()[0].algorithms(), [Algorithm::ES256]);
        for alg in ["ES256", "HS256", "none", "RSA-OAEP", ""] {
            assert!(matches!(parse(&rsa(alg)), Err(KeySetError::NoUsableKey)), "{alg}");
        }
    }

    #[test]
    fn a_set_without_a_usable_key_is_an_error() {
        for bad in [
            json!({"keys": [{"kty": "oct", "k": "AAAA"}]}),
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "short"}]}),
            json!({"keys": [{"kty": "EC", "crv": "P-521", "x": "AAAA", "y": "AAAA"}]}),
            json!({"keys": [{"kty": "RSA", "n": "", "e": "AQAB"}]}),
            json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "key_ops": ["sign"]}]}),
        ] {
            assert!(matches!(parse(&bad), Err(KeySetError::NoUsableKey)), "{bad}");
        }
        for bad in [json!({"keys": []}), json!({}), json!([]), json!({"keys": {}})] {
            assert!(matches!(parse(&bad), Err(KeySetError::NoKeys)), "{bad}");
        }
        assert!(matches!(PublicKey::parse_set(b"{"), Err(KeySetError::Json(_))));
        let long = vec![b' '; MAX_KEY_SET_BYTES + 1];
        assert!(matches!(PublicKey::parse_set(&long), Err(KeySetError::TooLong)));
    }
}
