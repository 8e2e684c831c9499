//! What an ApiRoute configures: rules, each with a match and an action.

use serde::{Deserialize, Serialize};

use crate::{ClientThrottle, Cors, ObjectRef, PartName, PathTemplate, Sources, Template, Throttle, Variable};

/// One ApiRoute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoutePart {
    /// The ApiRoute.
    pub object: ObjectRef,
    /// Stage parts it attaches to.
    pub stages: Vec<PartName>,
    /// The version it serves, when it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ApiVersion>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

impl RoutePart {
    /// The authorizers and upstreams that its rules use, in the order of the rules.
    pub fn uses(&self) -> impl Iterator<Item = &PartName> {
        let policies = self.rules.iter().filter_map(|rule| rule.action.policy());
        policies.flat_map(|policy| {
            let upstream = match &policy.integration {
                Integration::Service(part) => Some(part),
                Integration::Http(_) | Integration::Mock(_) => None,
            };
            policy.authorizer.iter().map(|used| &used.part).chain(upstream)
        })
    }
}

/// The version an ApiRoute serves and where clients name it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiVersion {
    /// `v1`.
    pub name: String,
    /// Where clients name it.
    pub scheme: VersionScheme,
}

/// Where clients name a version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum VersionScheme {
    /// The first segment after the base path.
    Path,
    /// A request header whose value is the name.
    Header(String),
    /// A query parameter whose value is the name.
    Query(String),
    /// The parameter `version` of `Accept`, as in `application/json;version=v1`.
    MediaType,
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Unique in the ApiRoute.
    pub name: String,
    /// Upper-case methods; none: any.
    pub methods: Vec<String>,
    /// Path below base path and version.
    pub path: PathTemplate,
    /// Further matches on headers (names in lower case): all must hold.
    pub headers: Vec<FieldMatch>,
    /// Further matches on query parameters: all must hold.
    pub query: Vec<FieldMatch>,
    /// What happens.
    pub action: RuleAction,
}

/// A match on a header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldMatch {
    /// Its name.
    pub name: String,
    /// The exact value; none: it must be present.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What happens to a request that matches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RuleAction {
    /// The policy is complete.
    Serve(Box<RulePolicy>),
    /// The policy is complete and has expressions. A proxy that does not know them does not know this variant either, and rejects
    /// the requests of the ApiRoute.
    Authorize(Box<RulePolicy>),
    /// It is not: 500, reason `InvalidConfig`.
    Invalid {
        /// Why, for logs; never for callers.
        why: String,
    },
}

impl RuleAction {
    /// Serves requests with the policy.
    #[must_use]
    pub fn of(policy: RulePolicy) -> Self {
        if policy.authorize.is_empty() { Self::Serve(Box::new(policy)) } else { Self::Authorize(Box::new(policy)) }
    }

    /// The policy; none: requests are rejected.
    #[must_use]
    pub fn policy(&self) -> Option<&RulePolicy> {
        match self {
            Self::Serve(policy) | Self::Authorize(policy) => Some(policy),
            Self::Invalid { .. } => None,
        }
    }
}

/// An expression that must hold for a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizeTerm {
    /// In CEL.
    pub expression: String,
    /// What a rejected client reads; none: a general sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Everything that is checked and done for a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RulePolicy {
    /// From where; none: from every network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Sources>,
    /// Expressions that must all hold.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub authorize: Vec<AuthorizeTerm>,
    /// Who may call. None: every client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<AuthorizerUse>,
    /// Whether a key of a plan for this stage is required.
    pub api_key: bool,
    /// Whether requests without a key are accepted; one with a key that is not valid is rejected. A proxy that does not know
    /// this field requires a key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional_key: bool,
    /// Whether a key is accepted instead of a credential for the authorizer. A proxy that does not know this field requires both.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub alternative_key: bool,
    /// The rule's own bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// The rule's own buckets of each client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_throttle: Option<ClientThrottle>,
    /// Cross-origin resource sharing; none: the stage's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Caching, where the stage caches at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<RuleCache>,
    /// Edits to the request's headers.
    #[serde(default)]
    pub request_headers: HeaderEdits,
    /// Edits to the response's headers.
    #[serde(default)]
    pub response_headers: HeaderEdits,
    /// From the first byte sent to the head of the response, in milliseconds.
    pub timeout_ms: u64,
    /// The longest request body, in bytes; a longer one is rejected with 413. None: the limit of the stage's behavior.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<u64>,
    /// The longest request body that is buffered in memory, in bytes; a longer one is rejected with 413. None: the limit of
    /// the stage's behavior. Bodies that are forwarded as they arrive are not affected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer_limit: Option<u64>,
    /// The upstream or fixed response.
    pub integration: Integration,
}

/// An authorizer and the scopes of which a token needs one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorizerUse {
    /// The authorizer's part.
    pub part: PartName,
    /// At least one of these; none: any valid token.
    pub scopes: Vec<String>,
}

/// Caching of a rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleCache {
    /// Overrides the stage's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// The cache key consists of stage, rule, method, path, host, scheme, the variables that the gateway renders into the
    /// request, and the values of these.
    pub keys: Vec<Variable>,
    /// Variables that are left out of the cache key although the gateway sends them: the response does not depend on them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unkeyed: Vec<Variable>,
    /// Methods whose responses are stored.
    pub methods: Vec<String>,
    /// Whether callers share responses, if the rule has an authorizer or requires a key.
    pub scope: CacheScope,
}

/// Who shares a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CacheScope {
    /// Each caller (token subject and issuer, and API key) has its own.
    Caller,
    /// All callers the rule lets through.
    Shared,
}

/// Edits to headers, applied in the order remove, set, add. Names in lower case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeaderEdits {
    /// Replaces all values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub set: Vec<(String, Template)>,
    /// Adds a value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(String, Template)>,
    /// Removes all values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// The upstream of a request, or a fixed response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Integration {
    /// A Service in the cluster: its upstream part.
    Service(PartName),
    /// An external URL.
    Http(HttpTarget),
    /// A fixed response of the proxy.
    Mock(Mock),
}

/// An external URL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpTarget {
    /// Whether it is `https`: the server's certificate is verified.
    pub tls: bool,
    /// A DNS name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// `/v2/{proxy}`: `{name}` is replaced by the path parameter as the client wrote it. None: the request's own path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mock {
    /// 200 to 599.
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, Template)>,
    /// The body as it is sent.
    pub body: String,
}
