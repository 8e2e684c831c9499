//! What an Authorizer configures: whose tokens are believed, and what they must say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ObjectRef;

/// One Authorizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorizerPart {
    /// The Authorizer.
    pub object: ObjectRef,
    /// JSON Web Tokens (RFC 7519). None with `invalid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// A sentence when it cannot be used as written: every route that names it fails closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

/// Tokens that are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jwt {
    /// At least one.
    pub issuers: Vec<Issuer>,
    /// Signature algorithms; the key must agree.
    pub algorithms: Vec<Algorithm>,
    /// Where the token stands; the first place that holds one counts.
    pub token_from: Vec<TokenSource>,
    /// Tolerance for `exp` and `nbf`, in seconds.
    pub clock_skew_s: u64,
    /// Claims that must have exactly this text.
    pub required_claims: BTreeMap<String, String>,
}

/// One issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issuer {
    /// Must equal `iss`.
    pub issuer: String,
    /// One must be in `aud`, or equal `client_id` where `aud` is absent.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: KeySource,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum KeySource {
    /// `ISSUER/.well-known/openid-configuration` (OpenID Connect Discovery 1.0).
    Discovery,
    /// A key set's URL.
    Uri(String),
    /// A key set (RFC 7517) as JSON text.
    Inline(String),
}

/// Signature algorithms (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the registered ones")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// Where a token stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TokenSource {
    /// A header in lower case.
    pub header: String,
    /// `Bearer`; none: the whole value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
}
