//! Key sets (RFC 7517): which keys of a set can verify signatures, and with which algorithms. The operator passes on the public
//! members of such keys only; the proxy verifies with them. Both parse sets here.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Algorithm;

/// A longer set is not parsed: sets have a handful of keys.
pub const MAX_KEY_SET_BYTES: usize = 256 << 10;
/// Further keys of a set are ignored.
const MAX_KEYS: usize = 256;
/// Some issuers write padding, which RFC 7515 does not have.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

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

/// Why a key of a set is skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SkipReason {
    /// `use`, `key_ops` or `alg` say that it is for encryption, or it is symmetric. Sets of working issuers have such keys.
    #[error("is not for verifying signatures")]
    NotForSignatures,
    /// It is not an object with the members of a key, each of its type.
    #[error("is not a JSON Web Key: {0}")]
    Malformed(String),
    /// `kty` and `crv`.
    #[error("has the type {0:?}, which is not supported: RSA, EC with P-256 or P-384, and OKP with Ed25519 are")]
    Type(String),
    /// `alg`.
    #[error("has the algorithm {0:?}, which does not fit its type or is not supported")]
    Algorithm(String),
    /// A number of the key is missing or has a wrong length.
    #[error("has no valid member {0:?}")]
    Member(&'static str),
    /// An RSA key of another size than the library verifies with.
    #[error("has an RSA modulus of {0} bits; from 2048 to 8192 are supported")]
    Size(usize),
    /// The library does not accept its numbers.
    #[error("is not a valid public key")]
    Invalid,
    /// The set has too many keys.
    #[error("is one of more than {MAX_KEYS} keys")]
    TooMany,
}

/// A key of a set that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its position in the set.
    pub at: usize,
    /// Its name, if it has one.
    pub kid: Option<String>,
    /// Why.
    pub reason: SkipReason,
}

impl std::fmt::Display for SkippedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kid {
            Some(kid) => write!(f, "keys[{}] (kid {kid:?}) {}", self.at, self.reason),
            None => write!(f, "keys[{}] {}", self.at, self.reason),
        }
    }
}

/// A key set, sorted by use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeySet {
    /// The keys that can verify signatures, with their positions.
    pub keys: Vec<(usize, PublicKey)>,
    /// The others.
    pub skipped: Vec<SkippedKey>,
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
        let usable: Vec<Self> = Self::read_set(text)?.keys.into_iter().map(|(_, key)| key).collect();
        if usable.is_empty() { Err(KeySetError::NoUsableKey) } else { Ok(usable) }
    }

    /// The keys of a set, and why each of the others is skipped. All of them may be.
    pub fn read_set(text: &[u8]) -> Result<KeySet, KeySetError> {
        if text.len() > MAX_KEY_SET_BYTES {
            return Err(KeySetError::TooLong);
        }
        let mut set: Value = serde_json::from_slice(text).map_err(KeySetError::Json)?;
        let Some(Value::Array(keys)) = set.get_mut("keys").map(Value::take) else { return Err(KeySetError::NoKeys) };
        if keys.is_empty() {
            return Err(KeySetError::NoKeys);
        }
        let mut set = KeySet::default();
        for (at, key) in keys.into_iter().enumerate() {
            let kid = key.get("kid").and_then(Value::as_str).map(str::to_owned);
            let read = match serde_json::from_value::<Jwk>(key) {
                _ if set.keys.len() == MAX_KEYS => Err(SkipReason::TooMany),
                Ok(jwk) => jwk.usable(),
                Err(error) => Err(SkipReason::Malformed(error.to_string())),
            };
            match read {
                Ok(key) => set.keys.push((at, key)),
                Err(reason) => set.skipped.push(SkippedKey { at, kid, reason }),
            }
        }
        Ok(set)
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
    fn usable(self) -> Result<PublicKey, SkipReason> {
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let may_verify = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        // A symmetric key is all secret.
        if !for_signatures || !may_verify || self.kty == "oct" {
            return Err(SkipReason::NotForSignatures);
        }
        let ec = |curve, len, x, y| {
            Ok(KeyMaterial::Ec { curve, x: number("x", x, Some(len))?, y: number("y", y, Some(len))? })
        };
        let material = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => KeyMaterial::Rsa { n: number("n", self.n, None)?, e: number("e", self.e, None)? },
            ("EC", Some("P-256")) => ec(Curve::P256, 32, self.x, self.y)?,
            ("EC", Some("P-384")) => ec(Curve::P384, 48, self.x, self.y)?,
            ("OKP", Some("Ed25519")) => {
                // Not a number: all its bytes count.
                let bytes = self.x.as_deref().and_then(decode).filter(|bytes| bytes.len() == 32);
                KeyMaterial::Ed25519 { x: URL_SAFE_NO_PAD.encode(bytes.ok_or(SkipReason::Member("x"))?) }
            }
            (kty, None) => return Err(SkipReason::Type(kty.to_owned())),
            (kty, Some(crv)) => return Err(SkipReason::Type(format!("{kty} with {crv}"))),
        };
        let alg = match self.alg.as_deref() {
            None => None,
            Some(name) if name.starts_with("RSA-OAEP") || name.starts_with("ECDH-ES") || name == "RSA1_5" => {
                return Err(SkipReason::NotForSignatures);
            }
            Some(name) => {
                let known = Algorithm::named(name).filter(|alg| material.algorithms().contains(alg));
                Some(known.ok_or_else(|| SkipReason::Algorithm(name.to_owned()))?)
            }
        };
        Ok(PublicKey { kid: self.kid, alg, material })
    }
}

/// Base64url, also with padding or in the other alphabet.
fn decode(text: &str) -> Option<Vec<u8>> {
    LENIENT.decode(text.trim().replace('+', "-").replace('/', "_")).ok()
}

/// A number in its one spelling: base64url without padding, without leading zero bytes, or with as many as make it `len` bytes long.
/// Issuers write a zero byte before numbers whose highest bit is set (Java), and leave out those that a coordinate has.
fn number(name: &'static str, text: Option<String>, len: Option<usize>) -> Result<String, SkipReason> {
    let bytes = text.as_deref().and_then(decode).ok_or(SkipReason::Member(name))?;
    let start = bytes.iter().position(|byte| *byte != 0).ok_or(SkipReason::Member(name))?;
    let digits = bytes.get(start..).unwrap_or_default();
    let missing = match len {
        None => 0,
        Some(len) => len.checked_sub(digits.len()).ok_or(SkipReason::Member(name))?,
    };
    let mut whole = vec![0; missing];
    whole.extend_from_slice(digits);
    Ok(URL_SAFE_NO_PAD.encode(whole))
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
    fn other_spellings_of_a_number_are_the_same_key() {
        let spelled = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let modulus: Vec<u8> = (0..256).map(|n| 0xff - (n % 7) as u8).collect();
        let zeros = |count: usize, bytes: &[u8]| spelled(&[&vec![0; count], bytes].concat());
        let plain = |key: &Value| parse(&json!({ "keys": [key] })).unwrap();
        let rsa = |n: String, e: &str| plain(&json!({"kty": "RSA", "n": n, "e": e}));
        let expected = rsa(spelled(&modulus), "AQAB");
        let padded = base64::engine::general_purpose::URL_SAFE.encode(&modulus);
        let standard = base64::engine::general_purpose::STANDARD.encode(&modulus);
        assert!(padded.ends_with('=') && standard.contains('/'));
        for n in [zeros(1, &modulus), zeros(3, &modulus), padded, standard, format!(" {}\n", spelled(&modulus))] {
            for e in ["AQAB", "AAEAAQ", "AAEAAQ=="] {
                assert_eq!(rsa(n.clone(), e), expected, "{n} {e}");
            }
        }
        let ec = |x: String, y: String| plain(&json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}));
        // A coordinate with a leading zero byte, which some issuers leave out.
        let (short, full) = ([7; 31], zeros(1, &[7; 31]));
        let high = [0xf7; 32];
        let expected = ec(full.clone(), spelled(&high));
        for (x, y) in [(spelled(&short), spelled(&high)), (full, zeros(1, &high)), (zeros(2, &short), zeros(4, &high))]
        {
            assert_eq!(ec(x.clone(), y.clone()), expected, "{x} {y}");
        }
    }

    #[test]
    fn each_skipped_key_has_its_reason() {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let long = URL_SAFE_NO_PAD.encode([7; 33]);
        for (key, reason) in [
            (json!({"kty": "oct", "k": "AAAA"}), "is not for verifying signatures"),
            (json!({"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}), "is not for verifying signatures"),
            (json!({"kty": "RSA", "alg": "RSA-OAEP-256", "n": "AQAB", "e": "AQAB"}), "is not for verifying signatures"),
            (json!({"kty": "RSA", "alg": "RS1", "n": "AQAB", "e": "AQAB"}), "algorithm \"RS1\""),
            (json!({"kty": "RSA", "n": "AQAB", "e": 65537}), "is not a JSON Web Key: invalid type: integer"),
            (json!({"kty": "RSA", "x5c": ["MII"]}), "has no valid member \"n\""),
            (json!({"kty": "RSA", "n": "AAAA", "e": "AQAB"}), "has no valid member \"n\""),
            (json!({"kty": "RSA", "n": "AQAB", "e": "!"}), "has no valid member \"e\""),
            (json!({"kty": "EC", "crv": "P-256", "x": x, "y": long}), "has no valid member \"y\""),
            (json!({"kty": "EC", "crv": "P-521", "x": x, "y": x}), "type \"EC with P-521\""),
            (json!({"kty": "OKP", "crv": "Ed25519", "x": long}), "has no valid member \"x\""),
            (json!({"kty": "rsa", "n": "AQAB", "e": "AQAB"}), "type \"rsa\""),
            (json!({"n": "AQAB"}), "is not a JSON Web Key: missing field `kty`"),
            (json!("key"), "is not a JSON Web Key: invalid type: string"),
        ] {
            let set = PublicKey::read_set(json!({ "keys": [key] }).to_string().as_bytes()).unwrap();
            assert!(set.keys.is_empty(), "{key}");
            let text = set.skipped[0].to_string();
            assert!(text.starts_with("keys[0] ") && text.contains(reason), "{key}: {text}");
        }
        let named = json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}, {"kty": "oct", "kid": "a"}]});
        let set = PublicKey::read_set(named.to_string().as_bytes()).unwrap();
        assert_eq!((set.keys[0].0, set.keys.len()), (0, 1));
        assert_eq!(set.skipped[0].to_string(), "keys[1] (kid \"a\") is not for verifying signatures");
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
