//! Which responses may be stored and for how long, what their keys are made of, and who may refresh them.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_RANGE, FORWARDED, HOST, RANGE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use sluice_wire::{
    Behavior, CacheScope, Integration, Invalidation, Rule, RuleCache, StageCache, Unauthorized, Variable,
};

use super::conditional;
use super::control::{ResponseControl, age, expires};
use super::fingerprint::{RuleAtStage, fingerprint};
use super::key::{CallerKey, Fields, Key, Target};
use super::phase::NotStored;
use super::vary::{self, Coding};
use crate::template::Variables;

/// The scope that permits refreshing where `invalidation` is `Required`.
pub(crate) const INVALIDATE_SCOPE: &str = "sluice:invalidate-cache";
/// The warning for all others with `SucceedWithWarning`.
pub(crate) const IGNORED_WARNING: HeaderValue =
    HeaderValue::from_static("199 sluice \"Cache-control headers were ignored because the caller was unauthorized.\"");
/// Statuses that a stage with native behavior stores; AWS stores every status.
const NATIVE_STATUSES: [u16; 6] = [200, 203, 204, 301, 404, 410];
/// Caching of one rule at one stage.
#[derive(Debug)]
pub(crate) struct CachePolicy {
    /// Long enough: a request cannot change it.
    fingerprint: [u8; 16],
    ttl: Duration,
    /// The variables of the key: those that the rule lists, and those that the gateway renders into the backend's request or a mock's
    /// response.
    keys: Vec<Variable>,
    /// Whether the host that the gateway sends is part of the key.
    host: bool,
    /// Whether the scheme and port that it sends are.
    scheme: bool,
    /// The gateway sends a value that no other request has, and the rule does not leave it out of the key.
    unique: bool,
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
    /// The time between request and response.
    pub(crate) delay: Duration,
    /// When the response began.
    pub(crate) received: SystemTime,
}

/// How a response is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Storable {
    /// How long after its request it is fresh.
    pub(crate) ttl: Duration,
    /// Its age at the time of its request.
    pub(crate) age: Duration,
    /// The headers of its request that it depends on, without those that are part of the key.
    pub(crate) vary: Vec<HeaderName>,
}

impl CachePolicy {
    /// Joins a rule's caching with its stage's.
    pub(crate) fn compile(rule_at_stage: &RuleAtStage<'_>, rule: &RuleCache, stage: &StageCache) -> Self {
        let ttl = Duration::from_millis(rule.ttl_ms.unwrap_or(stage.ttl_ms));
        let keyed = |variable: &Variable| !rule.unkeyed.contains(variable);
        let (host, scheme) = (keyed(&Variable::DomainName), keyed(&Variable::Scheme));
        let mut keys = rule.keys.clone();
        let mut unique = false;
        for variable in rendered(rule_at_stage.rule).filter(|variable| keyed(variable)) {
            match variable {
                Variable::RequestId => unique = true,
                // Part of the key, or the same for all requests of the rule at this stage.
                Variable::Stage
                | Variable::StageId
                | Variable::Route
                | Variable::Rule
                | Variable::HttpMethod
                | Variable::Path
                | Variable::PathParameter(_)
                | Variable::DomainName
                | Variable::Scheme => {}
                other if keys.contains(other) => {}
                other => keys.push(other.clone()),
            }
        }
        Self {
            fingerprint: fingerprint(rule_at_stage, ttl).first_chunk().copied().unwrap_or_default(),
            ttl,
            keys,
            host,
            scheme,
            unique,
            // A name that is not a method matches no request.
            methods: rule.methods.iter().filter_map(|method| Method::from_bytes(method.as_bytes()).ok()).collect(),
            scope: rule.scope,
            native: rule_at_stage.behavior == Behavior::Native,
            invalidation: stage.invalidation,
            unauthorized: stage.unauthorized,
        }
    }

    /// Whether a request neither reads the cache nor fills it.
    pub(crate) fn bypass(&self, method: &Method, request: &HeaderMap, has_body: bool) -> bool {
        self.ttl.is_zero()
            || !self.lists(method)
            || request.contains_key(RANGE)
            || conditional::for_backend(request)
            || (has_body && !self.ignores_body(method))
            || (self.native && directives(request).any(|(name, _)| name == "no-store"))
    }

    /// For how long responses are stored that do not say it.
    pub(crate) fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Whether responses to the method are stored.
    pub(crate) fn lists(&self, method: &Method) -> bool {
        self.methods.contains(method)
    }

    /// The body of a request is not part of its key. AWS stores the responses to POST requests nevertheless, if they are listed.
    fn ignores_body(&self, method: &Method) -> bool {
        !self.native && *method == Method::POST
    }

    /// Why no response of the rule is stored.
    pub(crate) fn stores_nothing(&self) -> Option<NotStored> {
        self.unique.then_some(NotStored::RequestId)
    }

    /// The key of a request.
    pub(crate) fn key(&self, target: &Target<'_>, caller: CallerKey<'_>, variables: &impl Variables) -> Key {
        let mut fields = Fields::new();
        fields.add_fixed(&self.fingerprint);
        fields.add(Some(target.method.as_str().as_bytes()));
        fields.add(Some(target.path.as_bytes()));
        if self.host {
            fields.add(target.authority.map(HeaderValue::as_bytes));
        }
        if self.scheme {
            fields.add_fixed(&[u8::from(target.tls)]);
            fields.add(Some(target.port.as_bytes()));
        }
        fields.add(target.certificate.map(str::as_bytes));
        for key in &self.keys {
            variables.each(key, &mut |value| fields.add(Some(value)));
            // The end of its values: two values of one variable are not one value of each of two.
            fields.add(None);
        }
        if self.scope == CacheScope::Caller {
            caller.add_to(&mut fields);
        }
        Key::new(fields, target.path)
    }

    /// How a response may be stored, or why it may not.
    pub(crate) fn storable(&self, response: ReceivedResponse<'_>) -> Result<Storable, NotStored> {
        if !self.lists(response.method) {
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
        let vary = self.vary(&response)?;
        let age = age(response.headers, response.delay, response.received);
        Ok(Storable { ttl: self.time_to_live(&response, age)?, age, vary })
    }

    /// The headers of the request that the response depends on, without those that are part of the key. An encoded response depends on
    /// `Accept-Encoding`, whether or not its backend says so.
    fn vary(&self, response: &ReceivedResponse<'_>) -> Result<Vec<HeaderName>, NotStored> {
        let mut names = vary::names(response.headers).ok_or(NotStored::Vary)?;
        match Coding::of(response.request, response.headers) {
            Coding::Identity => {}
            Coding::Accepted => names.push(ACCEPT_ENCODING),
            Coding::Other => return Err(NotStored::Coding),
        }
        let mut separate = Vec::with_capacity(names.len());
        for name in names {
            match self.sent(&name) {
                Some(true) => {}
                Some(false) => return Err(NotStored::Vary),
                None => separate.push(name),
            }
        }
        Ok(separate)
    }

    /// Whether a header of the backend's request, which does not have the client's value, is part of the key. None: it has the client's.
    fn sent(&self, name: &HeaderName) -> Option<bool> {
        let keyed = |variable: &Variable| self.keys.contains(variable);
        let address = || keyed(&Variable::SourceIp);
        match name.as_str() {
            _ if keyed(&Variable::RequestHeader(name.as_str().to_owned().into())) => Some(true),
            "x-forwarded-proto" | "x-forwarded-port" => Some(self.scheme),
            "x-forwarded-host" => Some(self.host),
            "x-forwarded-for" => Some(address()),
            // One is part of the key, and a client cannot send the other.
            "client-cert" | "client-cert-chain" => Some(true),
            "cdn-loop" | "x-amzn-trace-id" => Some(false),
            _ if *name == HOST => Some(self.host),
            _ if *name == FORWARDED => Some(self.host && self.scheme && address()),
            _ => None,
        }
    }

    fn time_to_live(&self, response: &ReceivedResponse<'_>, age: Duration) -> Result<Duration, NotStored> {
        let control = ResponseControl::parse(response.headers).ok_or(NotStored::CacheControl)?;
        if control.no_store || control.private {
            return Err(NotStored::CacheControl);
        }
        // AWS looks at its own settings only.
        if !self.native {
            return Ok(self.ttl);
        }
        if control.no_cache {
            return Err(NotStored::CacheControl);
        }
        let own = control.s_maxage.or(control.max_age).or_else(|| expires(response.headers, response.received));
        let ttl = match own {
            Some(lifetime) => self.ttl.min(lifetime.saturating_sub(age)),
            // It may be used while it is fresh, and nothing says how long that is (RFC 9111, 5.2.2.2).
            None if control.revalidate => return Err(NotStored::CacheControl),
            None => self.ttl,
        };
        if ttl.is_zero() { Err(NotStored::Expired) } else { Ok(ttl) }
    }
}

/// The variables that the gateway renders into the backend's request, or into the response of a mock. Those of `response.headers` are rendered
/// for stored responses as well.
fn rendered(rule: &Rule) -> impl Iterator<Item = &Variable> {
    let templates = rule.action.policy().into_iter().flat_map(|policy| {
        let mock = match &policy.integration {
            Integration::Mock(mock) => mock.headers.as_slice(),
            Integration::Service(_) | Integration::Http(_) => &[],
        };
        policy.request_headers.set.iter().chain(&policy.request_headers.add).chain(mock)
    });
    templates.flat_map(|(_, template)| template.variables())
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
pub(crate) fn invalidation(
    policy: &CachePolicy,
    request: &HeaderMap,
    has_permission: impl FnOnce() -> bool,
) -> Invalidate {
    if !directives(request).any(|(name, value)| name == "max-age" && value == "0") {
        return Invalidate::NotAsked;
    }
    let permitted = match policy.invalidation {
        Invalidation::None => true,
        Invalidation::Required => has_permission(),
    };
    match policy.unauthorized {
        _ if permitted => Invalidate::Refresh,
        Unauthorized::FailWith403 => Invalidate::Reject,
        Unauthorized::SucceedWithWarning => Invalidate::Warn,
        Unauthorized::SucceedSilently => Invalidate::Ignore,
    }
}

/// The directives of a request's `cache-control` in lower case, with their values unquoted.
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
