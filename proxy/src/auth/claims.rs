//! Checks of claims (RFC 7519, 4.1), whether they were in a signed token or in the response of an introspection endpoint.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};

use super::identity::Identity;
use super::token_error::TokenError;

/// The times of a token.
#[derive(Debug)]
pub(super) struct Times {
    expires: Option<SystemTime>,
    not_before: Option<SystemTime>,
    issued: Option<SystemTime>,
}

impl Times {
    /// Each must be a number.
    pub(super) fn of(claims: &Map<String, Value>) -> Result<Self, TokenError> {
        let expires = time(claims, "exp", TokenError::InvalidExpiry)?;
        let not_before = time(claims, "nbf", TokenError::InvalidNotBefore)?;
        Ok(Self { expires, not_before, issued: time(claims, "iat", TokenError::InvalidIssuedAt)? })
    }

    /// `exp`; none: the token has none.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    pub(super) fn check(&self, now: SystemTime, skew: Duration) -> Result<(), TokenError> {
        let (early, late) = (now.checked_sub(skew).unwrap_or(now), now.checked_add(skew).unwrap_or(now));
        if self.expires.is_some_and(|t| t <= early) {
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

/// Whether the holder of a token must prove the possession of a key (RFC 7800, 8705, 9449), which is not verified: the token
/// alone permits nothing.
pub(super) fn is_key_bound(claims: &Map<String, Value>) -> bool {
    claims.get("cnf").is_some_and(|cnf| !cnf.is_null())
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

/// The scopes of a token: the claims `scope` and `scp`.
pub(super) fn scopes(claims: &Map<String, Value>) -> Vec<String> {
    let mut scopes = Vec::new();
    for name in ["scope", "scp"] {
        match claims.get(name) {
            Some(Value::String(text)) => scopes.extend(text.split_ascii_whitespace().map(str::to_owned)),
            Some(Value::Array(list)) => scopes.extend(list.iter().filter_map(Value::as_str).map(str::to_owned)),
            _ => {}
        }
    }
    scopes
}

/// A claim that must be a text where it is present.
pub(super) fn text<'a>(
    claims: &'a Map<String, Value>,
    name: &str,
    invalid: TokenError,
) -> Result<Option<&'a str>, TokenError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid),
    }
}

/// Whether a caller has each of these claims with exactly this text.
pub(super) fn has_all(identity: &Identity, required: &BTreeMap<String, String>) -> bool {
    required.iter().all(|(path, text)| identity.value(path).is_some_and(|claim| claim_is(claim, text)))
}

/// Whether a claim is `text`; of a list, whether one element is. Values without a text of their own are equal to none.
fn claim_is(claim: &Value, text: &str) -> bool {
    let is = |value: &Value| match value {
        Value::String(value) => value == text,
        Value::Number(number) => number.to_string() == text,
        Value::Bool(value) => text == if *value { "true" } else { "false" },
        _ => false,
    };
    claim.as_array().map_or_else(|| is(claim), |list| list.iter().any(is))
}
