//! A Stage, its rules with their policies, and a request that matches one of them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use sluice_wire::{ApiKeySource, Behavior, HostPattern, ObjectRef, PartName, PlainHttp, StageTls};

use super::request_policy::ResolvedPolicy;
use super::router::{self, Captures, Router};
use crate::auth::Authorizer;
use crate::body::MemoryBudget;
use crate::cache::{Cache, CachePolicy};
use crate::client_certificate::Trust;
use crate::cors::Cors;
use crate::integration::Upstream;
use crate::key::API_KEY;
use crate::limit::{ClientLimit, Limit};
use crate::observe::metrics::{RouteMetrics, StageMetrics};
use crate::permission::ResourcePolicy;
use crate::source::SourceFilter;
use crate::template::HeaderTemplate;

/// One Stage with the rules of all routes attached to it.
pub(crate) struct Stage {
    pub(crate) part: PartName,
    pub(crate) object: ObjectRef,
    pub(crate) hostnames: Vec<HostPattern>,
    /// `""` or `/prod`.
    pub(crate) base: Box<str>,
    pub(crate) behavior: Behavior,
    pub(crate) request_policy: ResolvedPolicy,
    /// The headers that clients can spoof and that are forwarded all the same.
    pub(crate) forward_client_headers: Box<[HeaderName]>,
    /// All its requests are rejected.
    pub(crate) invalid: bool,
    /// None: requests from every network are accepted.
    pub(crate) source: Option<SourceFilter>,
    /// How the ARNs of its methods begin: `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/`.
    pub(crate) arn: Box<str>,
    /// None: every request that passes the other checks is allowed.
    pub(crate) policy: Option<Box<ResourcePolicy>>,
    /// Where clients send their API key.
    pub(crate) key_source: KeySource,
    /// None: it is served over plain HTTP only.
    pub(crate) tls: Option<TlsPolicy>,
    /// None: certificates of clients have no meaning.
    pub(crate) client_auth: Option<Box<ClientAuth>>,
    /// Whether responses have the headers `RateLimit-Policy` and `RateLimit`.
    pub(crate) rate_limit_headers: bool,
    pub(crate) cors: Option<Cors>,
    /// The stage's part of an access log line; none: it has no access log.
    pub(crate) log: Option<Box<str>>,
    pub(crate) router: Router<Arc<Rule>>,
    pub(crate) metrics: Arc<StageMetrics>,
    /// Of request bodies that are buffered.
    pub(crate) memory: Arc<MemoryBudget>,
    /// The stored responses that requests with unsafe methods invalidate.
    pub(crate) cache: Option<Arc<Cache>>,
}

/// What happens to requests that are not sent over TLS, and to responses that are.
pub(crate) struct TlsPolicy {
    pub(crate) http: PlainHttp,
    /// Where clients reach HTTPS.
    pub(crate) https_port: u16,
    /// The value of `Strict-Transport-Security`.
    pub(crate) hsts: Option<HeaderValue>,
}

impl TlsPolicy {
    pub(crate) fn compile(part: &StageTls, https_port: u16) -> Self {
        let hsts = part.hsts.map(|hsts| {
            let scope = if hsts.subdomains { "; includeSubDomains" } else { "" };
            let value = HeaderValue::try_from(format!("max-age={}{scope}", hsts.max_age_s));
            value.unwrap_or_else(|_| HeaderValue::from_static("max-age=0"))
        });
        Self { http: part.http, https_port, hsts }
    }
}

/// Certificates of clients.
pub(crate) struct ClientAuth {
    pub(crate) trust: Arc<Trust>,
    /// Requests without one are rejected.
    pub(crate) required: bool,
    /// Integrations get it.
    pub(crate) forward: bool,
}

/// Where clients send their API key.
#[derive(Debug)]
pub(crate) enum KeySource {
    /// In a header, after a scheme if there is one.
    Header {
        name: HeaderName,
        scheme: Option<Box<str>>,
    },
    Query(Box<str>),
    Cookie(Box<str>),
}

impl Default for KeySource {
    fn default() -> Self {
        Self::Header { name: API_KEY, scheme: None }
    }
}

impl KeySource {
    /// None: the name is not one of a header.
    pub(crate) fn compile(source: &ApiKeySource) -> Option<Self> {
        Some(match source {
            ApiKeySource::Header { name, scheme } => {
                Self::Header { name: name.parse().ok()?, scheme: scheme.as_deref().map(Into::into) }
            }
            ApiKeySource::Query(name) => Self::Query(name.as_str().into()),
            ApiKeySource::Cookie(name) => Self::Cookie(name.as_str().into()),
        })
    }
}

/// AWS's limit for bodies, and the default for bodies that are buffered.
pub(crate) const AWS_BODY: u64 = 10 << 20;

/// The longest body of a behavior: a native stage forwards bodies of any length.
pub(crate) fn body_limit(behavior: Behavior) -> u64 {
    if behavior == Behavior::Native { u64::MAX } else { AWS_BODY }
}

/// One operation.
pub(crate) struct Rule {
    /// The part's name of its ApiRoute where that has one part: by it the route is the same at all stages.
    pub(crate) part: PartName,
    pub(crate) name: Box<str>,
    /// Of the path, in the order of captures.
    pub(crate) parameters: Vec<Box<str>>,
    /// Whether the first segment of the path names the version.
    pub(crate) version_in_path: bool,
    pub(crate) action: Action,
    pub(crate) metrics: Arc<RouteMetrics>,
    /// The rule's part of an access log line.
    pub(crate) log: Box<str>,
    /// The id of its ApiRoute, at Stages that imitate AWS REST APIs.
    pub(crate) api: Option<Box<HeaderValue>>,
    /// What events contain of the rule; none: it has no authorizer.
    pub(crate) operation: Option<Box<Operation>>,
}

/// What a rule matches, as AWS names it in events.
pub(crate) struct Operation {
    /// The path below the base path, with parameters in braces.
    pub(crate) path: Box<str>,
    pub(crate) any_method: bool,
}

impl Rule {
    /// The ApiRoute's name.
    pub(crate) fn route(&self) -> &str {
        self.part.id().split_once('/').map_or("", |(_, name)| name)
    }
}

impl Rule {
    /// Its settings for pages of other origins at a stage.
    pub(crate) fn cors<'a>(&'a self, stage: &'a Stage) -> Option<&'a Cors> {
        let own = match &self.action {
            Action::Serve(policy) => policy.cors.as_deref(),
            Action::Invalid => None,
        };
        own.or(stage.cors.as_ref())
    }

    /// Whether a request that was admitted to `other` gets nothing that this rule would have denied it: the same backend, with
    /// the same authorization, and without limits or header changes of its own.
    pub(crate) fn gives_no_less_than(&self, other: &Self) -> bool {
        let (Action::Serve(policy), Action::Serve(other)) = (&self.action, &other.action) else { return false };
        let authorizer = match (&policy.authorizer, &other.authorizer) {
            (None, _) => true,
            (Some((one, scopes)), Some((two, others))) => Arc::ptr_eq(one, two) && scopes == others,
            (Some(_), None) => false,
        };
        let integration = match (&policy.integration, &other.integration) {
            (Integration::Service(one), Integration::Service(two)) => Arc::ptr_eq(one, two),
            (Integration::Http(one), Integration::Http(two)) => {
                Arc::ptr_eq(&one.upstream, &two.upstream) && one.path.is_none() && two.path.is_none()
            }
            _ => false,
        };
        authorizer
            && integration
            && policy.source.is_none()
            && policy.authorize.is_none()
            && !policy.api_key
            && policy.limit.is_none()
            && policy.request.is_none()
    }
}

/// What happens to a request that matches.
pub(crate) enum Action {
    Serve(Policy),
    /// The rule keeps its place and rejects its requests.
    Invalid,
}

/// The checks and actions of a rule. Kept small, with rare members boxed: with thousands of rules it is fetched from
/// memory for each request.
pub(crate) struct Policy {
    /// None: requests from every network are accepted.
    pub(crate) source: Option<Box<SourceFilter>>,
    /// None: no expression must hold.
    pub(crate) authorize: Option<Box<Authorize>>,
    pub(crate) authorizer: Option<(Arc<Authorizer>, Vec<String>)>,
    pub(crate) api_key: bool,
    /// A request without a key is accepted.
    pub(crate) optional_key: bool,
    /// A key is accepted instead of a credential for the authorizer.
    pub(crate) alternative_key: bool,
    /// The buckets of each client, from the rule's own throttle or the stage's default.
    pub(crate) client_limit: Option<Box<ClientLimit>>,
    /// The bucket of the rule, from its own throttle or the stage's default.
    pub(crate) limit: Option<Limit>,
    /// None: the stage's.
    pub(crate) cors: Option<Box<Cors>>,
    pub(crate) cache: Option<Box<Caching>>,
    pub(crate) request: Option<Box<Edits>>,
    pub(crate) response: Option<Box<Edits>>,
    /// Whether a template names a header or query parameter of the request, so that its head must be kept for them.
    pub(crate) reads_request: bool,
    pub(crate) timeout: Duration,
    /// The longest request body.
    pub(crate) body_limit: u64,
    /// The longest request body that is buffered.
    pub(crate) buffer_limit: u64,
    pub(crate) integration: Integration,
}

/// Expressions that must all hold.
pub(crate) struct Authorize {
    /// Each with what a rejected client reads.
    pub(crate) terms: Vec<(Arc<sluice_authorize::Expression>, Option<Box<str>>)>,
}

/// Caching of a rule.
pub(crate) struct Caching {
    pub(crate) store: Arc<Cache>,
    pub(crate) policy: CachePolicy,
}

/// Edits to headers, in the order remove, set, add.
pub(crate) struct Edits {
    pub(crate) remove: Vec<HeaderName>,
    pub(crate) set: Vec<(HeaderName, HeaderTemplate)>,
    pub(crate) add: Vec<(HeaderName, HeaderTemplate)>,
}

/// What responds to requests.
pub(crate) enum Integration {
    Service(Arc<Upstream>),
    Http(Box<ExternalHttp>),
    Mock(Box<Mock>),
}

/// An external URL.
pub(crate) struct ExternalHttp {
    pub(crate) upstream: Arc<Upstream>,
    pub(crate) host: HeaderValue,
    /// None: the request's own path.
    pub(crate) path: Option<Vec<PathSegment>>,
}

/// A segment of a path that is rendered for each request.
pub(crate) enum PathSegment {
    Text(Box<str>),
    /// The number of a capture.
    Parameter(usize),
}

/// A fixed response.
pub(crate) struct Mock {
    pub(crate) status: StatusCode,
    pub(crate) headers: Vec<(HeaderName, HeaderTemplate)>,
    pub(crate) body: Bytes,
}

/// A request that has found its rule.
pub(crate) struct Matched<'a> {
    pub(crate) stage: &'a Stage,
    pub(crate) rule: &'a Rule,
    /// Canonical, below the base path: what captures point into.
    pub(crate) path: &'a str,
    /// The same as it was matched.
    pub(crate) matched: &'a str,
    pub(crate) captures: Captures,
    /// A copy, where a template of the rule reads it.
    pub(crate) head: Option<Box<RequestHead>>,
}

/// The target and the headers of a request, before the rule's changes.
pub(crate) struct RequestHead {
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl Matched<'_> {
    /// A path parameter, as the client wrote it.
    pub(crate) fn parameter(&self, name: &str) -> Option<&str> {
        let at = self.rule.parameters.iter().position(|known| &**known == name)?;
        self.captured(at)
    }

    pub(crate) fn captured(&self, at: usize) -> Option<&str> {
        self.captures.get(at).map(|range| router::slice(self.path, *range))
    }

    /// The path as an integration sees it: below base path and version.
    pub(crate) fn forwarded(&self) -> &str {
        if !self.rule.version_in_path {
            return self.path;
        }
        let rest = self.path.strip_prefix('/').and_then(|path| path.find('/').and_then(|at| path.get(at..)));
        let Some(rest) = rest else { return "/" };
        // With one slash, also where empty segments follow the version.
        let empty = rest.len() - rest.trim_start_matches('/').len() - 1;
        rest.get(empty..).unwrap_or("/")
    }
}
