//! Parses a token: its place in a request, its three segments, its registered claims. Nothing is verified here. Keys that a
//! token names (`jwk`, `jku`, `x5u`) are never used.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderName};
use serde_json::{Map, Value};
use sluice_wire::{Algorithm, TokenSource, normalized_token_type};

use super::error::TokenError;
use super::json;
use crate::auth::identity::Identity;
use crate::auth::identity::cache_identity;

/// A longer token is rejected without parsing.
const MAX_TOKEN_BYTES: usize = 8 << 10;
const MAX_KID_BYTES: usize = 256;

/// A place where a request can carry a token.
#[derive(Debug)]
pub(super) struct Source {
    header: HeaderName,
    scheme: Option<String>,
}

impl Source {
    pub(super) fn compile(part: &TokenSource) -> Option<Self> {
        let header = HeaderName::from_bytes(part.header.as_bytes()).ok()?;
        Some(Self { header, scheme: part.scheme.clone() })
    }

    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }
}

/// The token of a request and its header. The first place that has a token is used.
pub(super) fn find<'a, 's>(
    sources: &'s [Source],
    headers: &'a HeaderMap,
) -> Result<(&'a str, &'s HeaderName), TokenError> {
    for source in sources {
        let mut values = headers.get_all(&source.header).iter();
        let Some(value) = values.next() else { continue };
        // The backend might use the other one.
        if values.next().is_some() {
            return Err(TokenError::Repeated);
        }
        // Not `to_str`, which checks each byte of a long token separately.
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| TokenError::Malformed)?.trim_ascii();
        let token = match &source.scheme {
            None => text,
            Some(scheme) => match text.split_once(' ') {
                Some((found, rest)) if found.eq_ignore_ascii_case(scheme) => rest.trim_ascii(),
                None if text.eq_ignore_ascii_case(scheme) => return Err(TokenError::Malformed),
                _ => continue,
            },
        };
        if token.is_empty() {
            continue;
        }
        return if token.len() <= MAX_TOKEN_BYTES { Ok((token, &source.header)) } else { Err(TokenError::TooLong) };
    }
    Err(TokenError::Missing)
}

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

/// The times of a token.
#[derive(Debug)]
pub(super) struct Times {
    expires: SystemTime,
    not_before: Option<SystemTime>,
    issued: Option<SystemTime>,
}

impl Times {
    /// `exp` is required; each must be a number.
    pub(super) fn of(claims: &Map<String, Value>) -> Result<Self, TokenError> {
        let expires = time(claims, "exp", TokenError::InvalidExpiry)?.ok_or(TokenError::NoExpiry)?;
        let not_before = time(claims, "nbf", TokenError::InvalidNotBefore)?;
        Ok(Self { expires, not_before, issued: time(claims, "iat", TokenError::InvalidIssuedAt)? })
    }

    /// `exp` with the tolerance of the authorizer.
    pub(super) fn accepted_until(&self, skew: Duration) -> SystemTime {
        self.expires.checked_add(skew).unwrap_or(self.expires)
    }

    pub(super) fn check(&self, now: SystemTime, skew: Duration) -> Result<(), TokenError> {
        let (early, late) = (now.checked_sub(skew).unwrap_or(now), now.checked_add(skew).unwrap_or(now));
        if self.expires <= early {
            return Err(TokenError::Expired);
        }
        if self.not_before.is_some_and(|t| t > late) || self.issued.is_some_and(|t| t > late) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

fn time(claims: &Map<String, Value>, name: &str, invalid: TokenError) -> Result<Option<SystemTime>, TokenError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let since = value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()).ok_or(invalid)?;
    SystemTime::UNIX_EPOCH.checked_add(since).map(Some).ok_or(invalid)
}

/// Whether one of `accepted` is in `aud`, or equals `client_id` if there is no `aud`.
pub(super) fn audience_fits(claims: &Map<String, Value>, accepted: &[String]) -> Result<bool, TokenError> {
    let known = |text: &str| accepted.iter().any(|audience| audience == text);
    match claims.get("aud") {
        Some(Value::String(text)) => Ok(known(text)),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<&str>> = list.iter().map(Value::as_str).collect();
            Ok(texts.ok_or(TokenError::InvalidAudience)?.into_iter().any(known))
        }
        Some(_) => Err(TokenError::InvalidAudience),
        None => Ok(claims.get("client_id").and_then(Value::as_str).is_some_and(known)),
    }
}

/// The caller of a verified token.
pub(super) fn identity(issuer: &str, claims: Map<String, Value>, expires: SystemTime) -> Result<Identity, TokenError> {
    let text = |name: &str, invalid| match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(invalid),
    };
    // An empty name distinguishes no caller from another.
    let id = text("sub", TokenError::InvalidSubject)?.filter(|id| !id.is_empty());
    text("jti", TokenError::InvalidId)?;
    let mut scopes = Vec::new();
    for name in ["scope", "scp"] {
        match claims.get(name) {
            Some(Value::String(text)) => scopes.extend(text.split_ascii_whitespace().map(str::to_owned)),
            Some(Value::Array(list)) => scopes.extend(list.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        }
    }
    let cache_identity = match &id {
        Some(subject) => cache_identity(&[b"Jwt", issuer.as_bytes(), b"sub", subject.as_bytes()]),
        // Without a subject, the claims are all that distinguishes the caller.
        None => {
            let claims = serde_json::to_vec(&claims).map_err(|_| TokenError::Malformed)?;
            cache_identity(&[b"Jwt", issuer.as_bytes(), b"claims", &claims])
        }
    };
    Ok(Identity { kind: "Jwt", id, scopes, attributes: claims, expires, cache_identity })
}
