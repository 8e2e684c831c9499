//! The check of the API key: where a Stage reads it, and what is removed from a request whose key was verified.

use std::borrow::Cow;

use http::request::Parts;

use super::admission::Present;
use super::credentials::{remove_all, without};
use super::edits;
use super::exchange::Exchange;
use super::explain;
use crate::auth::Place;
use crate::explain::Check;
use crate::gateway::path::query_pairs;
use crate::gateway::{Gateway, KeySource, Matched, Policy};
use crate::headers::{cookies, is_usual};
use crate::key::{API_KEY, PlanAtStage, Presented, presented};
use crate::reject::Reject;

/// The plan of the request's key; none: the request has no key, and needs none.
pub(super) fn check<'a>(
    exchange: &mut Exchange,
    gateway: &'a Gateway,
    matched: &Matched<'_>,
    policy: &Policy,
    parts: &mut Parts,
    present: Present,
) -> Result<Option<&'a PlanAtStage>, Reject> {
    let source = &matched.stage.key_source;
    exchange.begin(Check::ApiKey);
    explain::key(exchange, source, None, None);
    let record = match find(source, parts) {
        Presented::Key(text) => gateway.keys.find(&text).ok_or(Reject::InvalidKey)?,
        Presented::Nothing if policy.optional_key => {
            remove_others(source, parts, present);
            return Ok(None);
        }
        Presented::Nothing | Presented::Invalid => return Err(Reject::InvalidKey),
    };
    let plan = record.admits(&matched.stage.part);
    explain::key(exchange, source, Some(record), plan);
    let plan = plan.ok_or(Reject::InvalidKey)?;
    exchange.key = Some(record.clone());
    remove_others(source, parts, present);
    if let KeySource::Query(name) = source {
        let same = |other: &str| other == &**name;
        parts.uri = without(&parts.uri, same).ok_or(Reject::InvalidKey)?;
    }
    Ok(Some(plan))
}

/// The plan of a key that replaces the credential for the authorizer; none: the request has no key. The tokens of a request with a
/// key are not verified, and are removed.
pub(super) fn alternative<'a>(
    exchange: &mut Exchange,
    gateway: &'a Gateway,
    matched: &Matched<'_>,
    policy: &Policy,
    parts: &mut Parts,
    present: Present,
) -> Result<Option<&'a PlanAtStage>, Reject> {
    let source = &matched.stage.key_source;
    if find(source, parts) == Presented::Nothing {
        // Without an authorizer nothing would be verified.
        let Some(_) = &policy.authorizer else {
            exchange.begin(Check::ApiKey);
            explain::key(exchange, source, None, None);
            return Err(Reject::InvalidKey);
        };
        remove_others(source, parts, present);
        return Ok(None);
    }
    let plan = check(exchange, gateway, matched, policy, parts, present)?;
    let Some((authorizer, _)) = &policy.authorizer else { return Ok(plan) };
    let verified = match source {
        // Another value of this header could be a token.
        KeySource::Header { name, .. } if parts.headers.get_all(name).iter().nth(1).is_some() => {
            return Err(Reject::InvalidKey);
        }
        KeySource::Header { name, .. } => Some(Place::Header(name)),
        KeySource::Cookie(name) => Some(Place::Cookie(name)),
        KeySource::Query(_) => None,
    };
    remove_all(authorizer, verified, parts, present)?;
    Ok(plan)
}

fn find<'a>(source: &KeySource, parts: &'a Parts) -> Presented<'a> {
    let headers = &parts.headers;
    match source {
        KeySource::Header { name, scheme: None } => {
            presented(headers.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes())))
        }
        KeySource::Header { name, scheme: Some(scheme) } => {
            let values = headers.get_all(name).iter();
            presented(values.filter_map(|value| after(value.as_bytes(), scheme)).map(Cow::Borrowed))
        }
        KeySource::Query(name) => {
            let pairs = query_pairs(parts.uri.query().unwrap_or_default());
            presented(pairs.filter(|(found, _)| found == &**name).map(|(_, value)| match value {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            }))
        }
        KeySource::Cookie(name) => presented(cookies(headers, name).map(Cow::Borrowed)),
    }
}

/// What follows a scheme. None: the value has another scheme, and is another credential.
fn after<'a>(value: &'a [u8], scheme: &str) -> Option<&'a [u8]> {
    let (found, rest) = value.split_at_checked(scheme.len())?;
    let key = match rest.split_first() {
        None => rest,
        Some((b' ', key)) => key,
        Some(_) => return None,
    };
    found.eq_ignore_ascii_case(scheme.as_bytes()).then(|| key.trim_ascii())
}

/// Removes what a backend could take for a key that was verified: AWS's header, where keys are not read from it, and other
/// spellings of the header that they are read from.
fn remove_others(source: &KeySource, parts: &mut Parts, present: Present) {
    let header = match source {
        KeySource::Header { name, .. } => Some(name),
        KeySource::Query(_) | KeySource::Cookie(_) => None,
    };
    if header == Some(&API_KEY) {
        return; // other spellings of it are removed from each request
    }
    parts.headers.remove(API_KEY);
    if let Some(name) = header.filter(|name| present.unusual_names || !is_usual(name.as_str())) {
        edits::remove_aliases(&mut parts.headers, name);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn header(name: &'static str, scheme: Option<&str>) -> KeySource {
        KeySource::Header { name: http::HeaderName::from_static(name), scheme: scheme.map(Into::into) }
    }

    #[test]
    fn a_key_is_read_from_the_place_of_the_stage_only() {
        let query = || KeySource::Query("api_key".into());
        let jar = || KeySource::Cookie("key".into());
        let (key, none, bad) = (Some(Some("k1")), Some(None), None);
        for (source, target, headers, expected) in [
            (header("x-api-key", None), "/", &[("x-api-key", "k1")][..], key),
            (header("x-api-key", None), "/?api_key=k1", &[("cookie", "key=k1")], none),
            (header("x-key", None), "/", &[("x-api-key", "k1")], none),
            (header("x-key", None), "/", &[("x-key", "")], bad),
            (header("authorization", Some("ApiKey")), "/", &[("authorization", "apikey k1")], key),
            (header("authorization", Some("ApiKey")), "/", &[("authorization", "Bearer k1")], none),
            (header("authorization", Some("ApiKey")), "/", &[("authorization", "ApiKeyk1")], none),
            (header("authorization", Some("ApiKey")), "/", &[("authorization", "ApiKey")], bad),
            (
                header("authorization", Some("ApiKey")),
                "/",
                &[("authorization", "ApiKey k1"), ("authorization", "Bearer x")],
                key,
            ),
            (
                header("authorization", Some("ApiKey")),
                "/",
                &[("authorization", "ApiKey k1"), ("authorization", "ApiKey k1")],
                bad,
            ),
            (query(), "/?a=b&api_key=k1", &[], key),
            (query(), "/?api%5Fkey=%6b1", &[], key),
            (query(), "/?api_key=k1&api_key=k1", &[], bad),
            (query(), "/?api_key=k1&api%5fkey=k2", &[], bad),
            (query(), "/?api_key=", &[], bad),
            (query(), "/?api_key", &[], bad),
            (query(), "/?API_KEY=k1", &[], none),
            (query(), "/", &[("x-api-key", "k1")], none),
            (jar(), "/", &[("cookie", "a=b; key=k1")], key),
            (jar(), "/", &[("cookie", "a=b"), ("cookie", "key=\"k1\"")], key),
            (jar(), "/", &[("cookie", "key=k1;key=k2")], bad),
            (jar(), "/", &[("cookie", "monkey=k1; Key=k1; key")], none),
        ] {
            let mut request = http::Request::get(target).body(()).unwrap().into_parts().0;
            for (name, value) in headers {
                request.headers.append(*name, HeaderValue::from_static(value));
            }
            let found = match find(&source, &request) {
                Presented::Nothing => Some(None),
                Presented::Key(key) => Some(Some(String::from_utf8(key.into_owned()).unwrap())),
                Presented::Invalid => None,
            };
            assert_eq!(found.as_ref().map(Option::as_deref), expected, "{source:?} {target} {headers:?}");
        }
    }
}
