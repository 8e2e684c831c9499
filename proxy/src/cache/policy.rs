//! What may be kept, what tells answers apart, and who may refresh them.
//! Where answers are kept is in `cache`.

use std::time::Duration;

use aws_lc_rs::digest;
use http::header::{CACHE_CONTROL, CONTENT_RANGE, RANGE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sluice_wire::{
    Behavior, CacheKey, CacheScope, Invalidation, ObjectRef, PartName, RuleCache, StageCache, Unauthorized,
};

use super::NotStored;
use crate::auth::Caller;

/// The scope that permits refreshing where `invalidation` is `Required`.
const INVALIDATE_SCOPE: &str = "sluice:invalidate-cache";
/// What everybody else is told with `SucceedWithWarning`.
pub(crate) const IGNORED_WARNING: HeaderValue =
    HeaderValue::from_static("199 sluice \"Cache-control headers were ignored because the caller was unauthorized.\"");
/// Statuses kept by a stage of its own behaviour; AWS keeps every status.
const NATIVE_STATUSES: [u16; 6] = [200, 203, 204, 301, 404, 410];

/// What tells answers apart: a digest over length-prefixed fields, so that no two lists of fields share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// Which rule, at which stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleId<'a> {
    /// The stage's part.
    pub(crate) stage: &'a PartName,
    /// The ApiRoute's part.
    pub(crate) route: &'a PartName,
    /// The rule's name.
    pub(crate) rule: &'a str,
}

/// Who asks: whatever of this is there keeps callers apart.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CallerKey<'a> {
    /// The caller an authorizer verified.
    pub(crate) caller: Option<&'a Caller>,
    /// The ApiKey the request was admitted with.
    pub(crate) api_key: Option<&'a ObjectRef>,
    /// The request's `authorization`, verified or not.
    pub(crate) authorization: Option<&'a HeaderValue>,
}

struct Fields(digest::Context);

impl Fields {
    fn add(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.0.update(&[0]),
            Some(bytes) => {
                self.0.update(&[1]);
                self.0.update(&(bytes.len() as u64).to_be_bytes());
                self.0.update(bytes);
            }
        }
    }
}

/// Caching of one rule at one stage.
#[derive(Debug)]
pub(crate) struct CachePolicy {
    ttl: Duration,
    keys: Vec<CacheKey>,
    methods: Vec<Method>,
    scope: CacheScope,
    native: bool,
    invalidation: Invalidation,
    unauthorized: Unauthorized,
}

/// An answer and the request it belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The request's method.
    pub(crate) method: &'a Method,
    /// The request's headers.
    pub(crate) request: &'a HeaderMap,
    /// The answer's status.
    pub(crate) status: StatusCode,
    /// The answer's headers, as the integration gave them.
    pub(crate) headers: &'a HeaderMap,
}

impl CachePolicy {
    /// Joins a rule's caching with its stage's.
    pub(crate) fn compile(rule: &RuleCache, stage: &StageCache, behavior: Behavior) -> Self {
        Self {
            ttl: Duration::from_millis(rule.ttl_ms.unwrap_or(stage.ttl_ms)),
            keys: rule.keys.clone(),
            // A name that is no method matches no request.
            methods: rule.methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect(),
            scope: rule.scope,
            native: behavior == Behavior::Native,
            invalidation: stage.invalidation,
            unauthorized: stage.unauthorized,
        }
    }

    /// Whether the cache has nothing to do with a request.
    pub(crate) fn bypass(&self, method: &Method, request: &HeaderMap) -> bool {
        self.ttl.is_zero()
            || !self.methods.contains(method)
            || request.contains_key(RANGE)
            || (self.native && directives(request).any(|(name, _)| name == "no-store"))
    }

    /// The key of a request. `path` is the canonical path after the base path; `value` gives each keyed field.
    pub(crate) fn key<V: AsRef<[u8]>>(
        &self,
        rule: RuleId<'_>,
        method: &Method,
        path: &str,
        caller: CallerKey<'_>,
        value: impl Fn(&CacheKey) -> Option<V>,
    ) -> Key {
        let mut fields = Fields(digest::Context::new(&digest::SHA256));
        for text in [&rule.stage.id, &rule.route.id, rule.rule, method.as_str(), path] {
            fields.add(Some(text.as_bytes()));
        }
        for key in &self.keys {
            fields.add(value(key).as_ref().map(AsRef::as_ref));
        }
        if self.scope == CacheScope::Caller {
            let subject = caller.caller.and_then(|caller| caller.subject.as_deref());
            fields.add(caller.caller.map(|caller| caller.issuer.as_bytes()));
            fields.add(subject.map(str::as_bytes));
            // Without a subject only the token itself tells its bearer from others, wherever it stands.
            let nameless = caller.caller.filter(|caller| caller.subject.is_none());
            fields.add(nameless.and_then(|caller| serde_json::to_vec(&caller.claims).ok()).as_deref());
            let authorization = if subject.is_some() { None } else { caller.authorization };
            fields.add(authorization.map(HeaderValue::as_bytes));
            fields.add(caller.api_key.map(|key| key.namespace.as_bytes()));
            fields.add(caller.api_key.map(|key| key.name.as_bytes()));
        }
        let mut out = [0; 32];
        out.copy_from_slice(fields.0.finish().as_ref());
        Key(out)
    }

    /// How long an answer may be kept, or why it may not.
    pub(crate) fn storable(&self, answer: Answer<'_>) -> Result<Duration, NotStored> {
        if !self.methods.contains(answer.method) {
            return Err(NotStored::Method);
        }
        if answer.request.contains_key(RANGE)
            || answer.status == StatusCode::PARTIAL_CONTENT
            || answer.headers.contains_key(CONTENT_RANGE)
        {
            return Err(NotStored::Range);
        }
        let status = answer.status.as_u16();
        if status < 200 || status == 304 || (self.native && !NATIVE_STATUSES.contains(&status)) {
            return Err(NotStored::Status);
        }
        if answer.headers.contains_key(SET_COOKIE) {
            return Err(NotStored::SetCookie);
        }
        if answer.headers.get_all(VARY).iter().any(|value| !self.keys_all_of(value)) {
            return Err(NotStored::Vary);
        }
        self.time_to_live(answer.headers)
    }

    /// Whether each field a `vary` names is part of the key.
    fn keys_all_of(&self, vary: &HeaderValue) -> bool {
        let Ok(names) = vary.to_str() else { return false };
        let mut names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.all(|name| {
            self.keys.iter().any(|key| matches!(key, CacheKey::Header(keyed) if keyed.eq_ignore_ascii_case(name)))
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

/// What becomes of a request that wants a fresh answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Invalidate {
    /// It does not ask.
    NotAsked,
    /// The answer is fetched anew and replaces the kept one.
    Refresh,
    /// 403.
    Refuse,
    /// Answered as usual, with [`IGNORED_WARNING`] as `warning`.
    Warn,
    /// Answered as usual.
    Ignore,
}

/// Judges `cache-control: max-age=0` of a request.
pub(crate) fn invalidation(policy: &CachePolicy, request: &HeaderMap, caller: Option<&Caller>) -> Invalidate {
    if !directives(request).any(|(name, value)| name == "max-age" && value == "0") {
        return Invalidate::NotAsked;
    }
    let permitted = match policy.invalidation {
        Invalidation::None => true,
        Invalidation::Required => {
            caller.is_some_and(|caller| caller.scopes.iter().any(|scope| scope == INVALIDATE_SCOPE))
        }
    };
    match policy.unauthorized {
        _ if permitted => Invalidate::Refresh,
        Unauthorized::FailWith403 => Invalidate::Refuse,
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
