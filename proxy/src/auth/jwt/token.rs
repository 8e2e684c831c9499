//! Parses a token: its three segments, and the caller that its claims state. Nothing is verified here. Keys that a
//! token names (`jwk`, `jku`, `x5u`) are never used.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use sluice_wire::{Algorithm, normalized_token_type};

use crate::auth::claims;
use crate::auth::identity::{Identity, cache_identity};
use crate::auth::json;
use crate::auth::token_error::TokenError;
use crate::key::Presented;

const MAX_KID_BYTES: usize = 256;

/// A parsed token.
pub(super) struct Token<'a> {
    /// The first two segments, which are signed.
    pub(super) message: &'a str,
    /// The third segment.
    pub(super) signature: &'a str,
    /// The algorithm of the header. None: it is not supported.
    pub(super) algorithm: Option<Algorithm>,
    /// The key ID.
    pub(super) kid: Option<String>,
    /// The type of the header, in the form that types are compared in; a token without one is a `jwt`.
    pub(super) token_type: Cow<'static, str>,
    /// The claims.
    pub(super) claims: Map<String, Value>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, TokenError> {
        let (message, signature) = text.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') || URL_SAFE_NO_PAD.decode(signature).is_err() {
            return Err(TokenError::Malformed);
        }
        let (header, claims) = (object(header)?, object(claims)?);
        // Critical extensions are not supported (RFC 7515, 4.1.11).
        if header.contains_key("crit") {
            return Err(TokenError::Critical);
        }
        let name = header.get("alg").and_then(Value::as_str).ok_or(TokenError::WrongAlgorithm)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= MAX_KID_BYTES => Some(kid.clone()),
            Some(_) => return Err(TokenError::InvalidKeyId),
        };
        let token_type = match header.get("typ") {
            None => Cow::Borrowed("jwt"),
            Some(Value::String(text)) => Cow::Owned(normalized_token_type(text)),
            Some(_) => return Err(TokenError::WrongType),
        };
        Ok(Self { message, signature, algorithm: Algorithm::named(name), kid, token_type, claims })
    }

    /// Whether it is of one of these types. A token of a general type that reports events (RFC 8417), such as a logout token (OpenID Connect
    /// Back-Channel Logout 1.0, 2.4), is none that permits a call.
    pub(super) fn is_of(&self, types: &[String]) -> bool {
        let reports = self.token_type == "jwt" && self.claims.get("events").is_some_and(Value::is_object);
        types.iter().any(|accepted| *accepted == self.token_type) && !reports
    }

    /// `iss`, which must be a string.
    pub(super) fn issuer(&self) -> Result<&str, TokenError> {
        let claim = self.claims.get("iss").ok_or(TokenError::NoIssuer)?;
        claim.as_str().ok_or(TokenError::InvalidIssuer)
    }
}

/// Base64 without padding (RFC 7515, 2). With padding, one token would have several encodings.
fn object(segment: &str) -> Result<Map<String, Value>, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(segment).map_err(|_| TokenError::Malformed)?;
    json::object(&bytes)
}

/// The caller of a verified token.
pub(super) fn identity(issuer: &str, claims: Map<String, Value>, expires: SystemTime) -> Result<Identity, TokenError> {
    // An empty name distinguishes no caller from another.
    let id = claims::text(&claims, "sub", TokenError::InvalidSubject)?.filter(|id| !id.is_empty()).map(str::to_owned);
    claims::text(&claims, "jti", TokenError::InvalidId)?;
    let scopes = claims::scopes(&claims);
    let cache_identity = match &id {
        Some(subject) => cache_identity(&[b"Jwt", issuer.as_bytes(), b"sub", subject.as_bytes()]),
        // Without a subject, the claims are all that distinguishes the caller.
        None => {
            let claims = serde_json::to_vec(&claims).map_err(|_| TokenError::Malformed)?;
            cache_identity(&[b"Jwt", issuer.as_bytes(), b"claims", &claims])
        }
    };
    Ok(Identity {
        kind: "Jwt",
        id,
        scopes,
        attributes: claims,
        policies: None,
        api_key: Presented::Nothing,
        expires,
        cache_identity,
    })
}
