//! Which responses may be stored and for how long, and who may refresh them.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_RANGE, RANGE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sluice_wire::{Behavior, CacheScope, Invalidation, RuleCache, StageCache, Unauthorized, Variable};

use super::fingerprint::{RuleAtStage, fingerprint};
use super::key::{CallerKey, Fields, Key};
use super::phase::NotStored;
use crate::template::Variables;

/// The scope that permits refreshing where `invalidation` is `Required`.
const INVALIDATE_SCOPE: &str = "sluice:invalidate-cache";
/// The warning for all others with `SucceedWithWarning`.
pub(crate) const IGNORED_WARNING: HeaderValue =
    HeaderValue::from_static("199 sluice \"Cache-control headers were ignored because the caller was unauthorized.\"");
/// Statuses that a stage with native behavior stores; AWS stores every status.
const NATIVE_STATUSES: [u16; 6] = [200, 203, 204, 301, 404, 410];
/// Caching of one rule at one stage.
#[derive(Debug)]
pub(crate) struct CachePolicy {
    fingerprint: [u8; 32],
    ttl: Duration,
    keys: Vec<Variable>,
    methods: Vec<Method>,
    scope: CacheScope,
    native: bool,
    invalidation: Invalidation,
    unauthorized: Unauthorized,
}

/// A response and its request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedResponse<'a> {
    pub(crate) method: &'a Method,
    /// The request's headers.
    pub(crate) request: &'a HeaderMap,
    pub(crate) status: StatusCode,
    /// The response's headers, as the integration sent them.
    pub(crate) headers: &'a HeaderMap,
}

impl CachePolicy {
    /// Joins a rule's caching with its stage's.
    pub(crate) fn compile(rule_at_stage: &RuleAtStage<'_>, rule: &RuleCache, stage: &StageCache) -> Self {
        let ttl = Duration::from_millis(rule.ttl_ms.unwrap_or(stage.ttl_ms));
        Self {
            fingerprint: fingerprint(rule_at_stage, ttl),
            ttl,
            keys: rule.keys.clone(),
            // A name that is not a method matches no request.
            methods: rule.methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect(),
            scope: rule.scope,
            native: rule_at_stage.behavior == Behavior::Native,
            invalidation: stage.invalidation,
            unauthorized: stage.unauthorized,
        }
    }

    /// Whether a request neither reads the cache nor fills it.
    pub(crate) fn bypass(&self, method: &Method, request: &HeaderMap) -> bool {
        self.ttl.is_zero()
            || !self.methods.contains(method)
            || request.contains_key(RANGE)
            || (self.native && directives(request).any(|(name, _)| name == "no-store"))
    }

    /// The key of a request. `path` is the canonical path after the base path.
    pub(crate) fn key(&self, method: &Method, path: &str, caller: CallerKey<'_>, variables: &impl Variables) -> Key {
        let mut fields = Fields::new();
        fields.add(Some(&self.fingerprint));
        fields.add(Some(method.as_str().as_bytes()));
        fields.add(Some(path.as_bytes()));
        for key in &self.keys {
            variables.each(key, &mut |value| fields.add(Some(value.as_bytes())));
            // The end of its values: two values of one variable are not one value of each of two.
            fields.add(None);
        }
        if self.scope == CacheScope::Caller {
            caller.add_to(&mut fields);
        }
        Key(fields.finish())
    }

    /// How long a response may be stored, or why it may not.
    pub(crate) fn storable(&self, response: ReceivedResponse<'_>) -> Result<Duration, NotStored> {
        if !self.methods.contains(response.method) {
            return Err(NotStored::Method);
        }
        if response.request.contains_key(RANGE)
            || response.status == StatusCode::PARTIAL_CONTENT
            || response.headers.contains_key(CONTENT_RANGE)
        {
            return Err(NotStored::Range);
        }
        let status = response.status.as_u16();
        if status < 200 || status == 304 || (self.native && !NATIVE_STATUSES.contains(&status)) {
            return Err(NotStored::Status);
        }
        if response.headers.contains_key(SET_COOKIE) {
            return Err(NotStored::SetCookie);
        }
        if response.headers.get_all(VARY).iter().any(|value| !self.keys_all_of(value)) {
            return Err(NotStored::Vary);
        }
        self.time_to_live(response.headers)
    }

    /// Whether each header that `vary` names is part of the key.
    fn keys_all_of(&self, vary: &HeaderValue) -> bool {
        let Ok(names) = vary.to_str() else { return false };
        let mut names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.all(|name| {
            self.keys
                .iter()
                .any(|key| matches!(key, Variable::RequestHeader(keyed) if keyed.eq_ignore_ascii_case(name)))
        })
    }

    fn time_to_live(&self, headers: &HeaderMap) -> Result<Duration, NotStored> {
        let (mut own, mut shared) = (None, None);
        for (name, value) in directives(headers) {
            match name.as_str() {
                "no-store" | "private" => return Err(NotStored::CacheControl),
                "no-cache" if self.native => return Err(NotStored::CacheControl),
                // What cannot be read is stale (RFC 9111, 4.2.1).
                "max-age" => own = Some(value.parse::<u64>().unwrap_or(0)),
                "s-maxage" => shared = Some(value.parse::<u64>().unwrap_or(0)),
                _ => {}
            }
        }
        let ttl = match shared.or(own) {
            // AWS looks at its own settings only.
            Some(seconds) if self.native => self.ttl.min(Duration::from_secs(seconds)),
            _ => self.ttl,
        };
        if ttl.is_zero() { Err(NotStored::Expired) } else { Ok(ttl) }
    }
}

/// The result of a request's `cache-control: max-age=0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalidate {
    /// It does not have it.
    NotAsked,
    /// A new response is fetched and replaces the stored one.
    Refresh,
    /// 403.
    Reject,
    /// It is ignored, with [`IGNORED_WARNING`] as `warning`.
    Warn,
    /// It is ignored.
    Ignore,
}

/// Decides about `cache-control: max-age=0` of a request.
pub(crate) fn invalidation(policy: &CachePolicy, request: &HeaderMap, scopes: &[String]) -> Invalidate {
    if !directives(request).any(|(name, value)| name == "max-age" && value == "0") {
        return Invalidate::NotAsked;
    }
    let permitted = match policy.invalidation {
        Invalidation::None => true,
        Invalidation::Required => scopes.iter().any(|scope| scope == INVALIDATE_SCOPE),
    };
    match policy.unauthorized {
        _ if permitted => Invalidate::Refresh,
        Unauthorized::FailWith403 => Invalidate::Reject,
        Unauthorized::SucceedWithWarning => Invalidate::Warn,
        Unauthorized::SucceedSilently => Invalidate::Ignore,
    }
}

/// The directives of `cache-control` in lower case, with their values unquoted.
fn directives(headers: &HeaderMap) -> impl Iterator<Item = (String, String)> {
    let values = headers.get_all(CACHE_CONTROL).iter();
    let texts = values.map(|value| String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase());
    let all: Vec<(String, String)> =
        texts.flat_map(|text| text.split(',').map(directive).collect::<Vec<_>>()).collect();
    all.into_iter()
}

fn directive(text: &str) -> (String, String) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.trim().to_owned(), value.trim().trim_matches('"').to_owned())
}

#[cfg(test)]
mod tests;
