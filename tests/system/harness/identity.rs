//! An identity provider without a server: a key, its public half in a ConfigMap, and tokens signed with it.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// The issuer that the quickstart's Authorizer trusts.
pub(crate) const ISSUER: &str = "http://identity.shop.svc.cluster.local:9400";
const KEY_ID: &str = "tests";

/// The private key.
pub(crate) struct Identity {
    key: EncodingKey,
    jwks: String,
}

impl Identity {
    /// Generates a key for ES256.
    pub(crate) fn new() -> anyhow::Result<Self> {
        let pair = rcgen::KeyPair::generate()?;
        // An uncompressed point: 4, then two coordinates of 32 bytes.
        let point = pair.public_key_raw();
        anyhow::ensure!(point.len() == 65, "not a point of P-256");
        let part = |range| point.get(range).map(|bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes));
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": KEY_ID,
            "x": part(1..33), "y": part(33..65),
        }]});
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?;
        Ok(Self { key, jwks: jwks.to_string() })
    }

    /// The ConfigMap `identity` with the key set.
    pub(crate) fn config_map(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "identity"},
            "data": {"jwks.json": self.jwks},
        })
    }

    /// The value of an `authorization` header, valid for an hour.
    pub(crate) fn bearer(&self, subject: &str, scope: &str) -> anyhow::Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = json!({
            "iss": ISSUER, "aud": "shop", "sub": subject, "scope": scope, "iat": now, "nbf": now, "exp": now + 3600,
        });
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::ES256) };
        Ok(format!("Bearer {}", jsonwebtoken::encode(&header, &claims, &self.key)?))
    }
}
