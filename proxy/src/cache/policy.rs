//! What may be kept, what tells answers apart, and who may refresh them.
//! Where answers are kept is in `cache`.

use std::time::Duration;

use aws_lc_rs::digest;
use http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_RANGE, COOKIE, RANGE, SET_COOKIE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Serialize;
use sluice_wire::{
    Behavior, CacheScope, Invalidation, ObjectRef, PartName, Rule, RuleCache, RulePolicy, StageCache, Unauthorized,
    Variable,
};
use smallvec::SmallVec;

use super::phase::NotStored;
use crate::template::Variables;

/// The scope that permits refreshing where `invalidation` is `Required`.
const INVALIDATE_SCOPE: &str = "sluice:invalidate-cache";
/// What everybody else is told with `SucceedWithWarning`.
pub(crate) const IGNORED_WARNING: HeaderValue =
    HeaderValue::from_static("199 sluice \"Cache-control headers were ignored because the caller was unauthorized.\"");
/// Statuses kept by a stage of its own behaviour; AWS keeps every status.
const NATIVE_STATUSES: [u16; 6] = [200, 203, 204, 301, 404, 410];
const API_KEY: HeaderName = HeaderName::from_static(crate::key::HEADER);
/// What a backend may know a caller by, whether or not the gateway checked it.
const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, API_KEY];

/// What tells answers apart: a digest over length-prefixed fields, so that no two lists of fields share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(pub(crate) [u8; 32]);

/// Where answers come from: which rule, at which stage, and what it makes of a request before the integration sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin<'a> {
    /// The stage's part.
    pub(crate) stage: &'a PartName,
    /// The ApiRoute's part.
    pub(crate) route: &'a PartName,
    /// The rule.
    pub(crate) rule: &'a Rule,
    /// What is done for it.
    pub(crate) policy: &'a RulePolicy,
    /// Whose headers the stage imitates.
    pub(crate) behavior: Behavior,
}

/// Who asks: whatever of this is there keeps callers apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerKey<'a> {
    /// The caller that an authorizer identified: what tells it from all others.
    pub(crate) identity: Option<&'a [u8]>,
    /// The header with a credential that the identity stands for, so that another credential of the same caller finds the
    /// same responses.
    pub(crate) credential: Option<&'a HeaderName>,
    /// The ApiKey the request was admitted with.
    pub(crate) api_key: Option<&'a ObjectRef>,
    /// The request's headers, for the credentials that nobody verified.
    pub(crate) headers: &'a HeaderMap,
}

impl CallerKey<'_> {
    /// Whether a header says no more than who the caller and its key are.
    fn says_no_more(&self, name: &HeaderName) -> bool {
        self.credential == Some(name) || (self.api_key.is_some() && *name == API_KEY)
    }

    fn add_to(&self, fields: &mut Fields) {
        fields.add(self.identity);
        fields.add(self.api_key.map(|key| key.namespace.as_bytes()));
        fields.add(self.api_key.map(|key| key.name.as_bytes()));
        for name in CREDENTIALS.iter().filter(|name| !self.says_no_more(name)) {
            for value in self.headers.get_all(name) {
                fields.add(Some(value.as_bytes()));
            }
            fields.add(None);
        }
    }
}

struct Fields(SmallVec<[u8; 256]>);

impl Fields {
    fn new() -> Self {
        Self(SmallVec::new())
    }

    fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        out
    }

    /// Everything a part of the configuration says.
    fn add_part(&mut self, part: &impl Serialize) {
        self.add(serde_json::to_vec(part).ok().as_deref());
    }

    fn add(&mut self, field: Option<&[u8]>) {
        match field {
            None => self.0.push(0),
            Some(bytes) => {
                self.0.push(1);
                self.0.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
                self.0.extend_from_slice(bytes);
            }
        }
    }
}

/// Caching of one rule at one stage.
#[derive(Debug)]
pub(crate) struct CachePolicy {
    origin: [u8; 32],
    ttl: Duration,
    keys: Vec<Variable>,
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
    pub(crate) fn compile(origin: &Origin<'_>, rule: &RuleCache, stage: &StageCache) -> Self {
        let ttl = Duration::from_millis(rule.ttl_ms.unwrap_or(stage.ttl_ms));
        Self {
            origin: fingerprint(origin, rule),
            ttl,
            keys: rule.keys.clone(),
            // A name that is no method matches no request.
            methods: rule.methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect(),
            scope: rule.scope,
            native: origin.behavior == Behavior::Native,
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

    /// The key of a request. `path` is the canonical path after the base path.
    pub(crate) fn key(&self, method: &Method, path: &str, caller: CallerKey<'_>, variables: &impl Variables) -> Key {
        let mut fields = Fields::new();
        fields.add(Some(&self.origin));
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

/// Tells the answers of one origin from those of others, and from its own before a change of what it answers with.
fn fingerprint(origin: &Origin<'_>, cache: &RuleCache) -> [u8; 32] {
    let mut fields = Fields::new();
    for text in [origin.stage.id(), origin.route.id(), origin.rule.name.as_str()] {
        fields.add(Some(text.as_bytes()));
    }
    fields.add_part(&origin.behavior);
    fields.add_part(&origin.rule.path);
    fields.add_part(&origin.policy.integration);
    fields.add_part(&origin.policy.request_headers);
    fields.add_part(&cache.keys);
    fields.add_part(&cache.scope);
    fields.finish()
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
