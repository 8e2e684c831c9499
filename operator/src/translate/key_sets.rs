//! Key sets (RFC 7517) from ConfigMaps and Secrets: what proxies may see of them. Verifying signatures is the proxy's.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A longer key set is refused: sets have a handful of keys.
const MAX_BYTES: usize = 256 * 1024;
/// As many as a proxy looks at.
const MAX_KEYS: usize = 256;

/// The members of a key that say what it is and what it verifies with. None of the private ones (RFC 7518, 6.2.2 and
/// 6.3.2; RFC 8037, 2) is among them.
#[derive(Deserialize, Serialize)]
struct PublicKey {
    kty: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alg: Option<String>,
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    usage: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_ops: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    crv: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e: Option<String>,
}

impl PublicKey {
    /// Without the numbers of other kinds of keys: the private `d` of one must not pass as something of another.
    fn narrowed(mut self) -> Option<Self> {
        let good = |text: &Option<String>, len: Option<usize>| {
            let bytes = text.as_ref().and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
            bytes.is_some_and(|bytes| !bytes.is_empty() && len.is_none_or(|len| bytes.len() == len))
        };
        let usable = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", _) => {
                (self.crv, self.x, self.y) = (None, None, None);
                good(&self.n, None) && good(&self.e, None)
            }
            ("EC", Some(curve @ ("P-256" | "P-384"))) => {
                let len = Some(if curve == "P-256" { 32 } else { 48 });
                (self.n, self.e) = (None, None);
                good(&self.x, len) && good(&self.y, len)
            }
            ("OKP", Some("Ed25519")) => {
                (self.n, self.e, self.y) = (None, None, None);
                good(&self.x, Some(32))
            }
            // A symmetric key is all secret.
            _ => false,
        };
        let for_signatures = self.usage.as_deref().is_none_or(|usage| usage == "sig");
        let may_verify = self.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        (usable && for_signatures && may_verify).then_some(self)
    }
}

/// The public keys of a set, as a set; or what is wrong with it.
pub(crate) fn public(bytes: &[u8]) -> Result<String, String> {
    if bytes.len() > MAX_BYTES {
        return Err(format!("is longer than {MAX_BYTES} bytes"));
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|_| "is not JSON".to_owned())?;
    let keys = value.get("keys").and_then(Value::as_array).filter(|keys| !keys.is_empty());
    let keys = keys.ok_or("is not a JSON Web Key Set: it must have a list `keys` with at least one key")?;
    let keys = keys.iter().filter_map(|key| PublicKey::deserialize(key).ok()?.narrowed());
    let keys: Vec<PublicKey> = keys.take(MAX_KEYS).collect();
    if keys.is_empty() {
        return Err("has no key that can verify a signature: RSA, EC with P-256 or P-384, and OKP with Ed25519 can, \
                    unless their use or key_ops say otherwise"
            .to_owned());
    }
    Ok(json!({"keys": keys}).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn private_members_and_symmetric_keys_stay_behind() {
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
        let public = public(set.to_string().as_bytes()).unwrap();
        assert!(!public.contains("SECRET"), "{public}");
        let value: Value = serde_json::from_str(&public).unwrap();
        let ids: Vec<&str> = value["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap()).collect();
        assert_eq!(ids, ["a", "b", "c"]);
    }

    #[test]
    fn a_set_without_a_usable_key_is_rejected() {
        for bad in [
            json!({"keys": [{"kty": "oct", "k": "AAAA"}]}),
            json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "short"}]}),
            json!({"keys": [{"kty": "EC", "crv": "P-521", "x": "AAAA", "y": "AAAA"}]}),
            json!({"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "key_ops": ["sign"]}]}),
            json!({"keys": []}),
        ] {
            assert!(public(bad.to_string().as_bytes()).is_err(), "{bad}");
        }
    }
}
