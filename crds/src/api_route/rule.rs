//! One rule of an ApiRoute: its match and its policies. `integration` defines the upstream.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::authorization::Authorization;
use super::authorize::{AuthorizeExpression, MAX_EXPRESSIONS};
use super::integration::Integration;
use crate::client_throttle::ClientThrottle;
use crate::cors::Cors;
use crate::field::{
    ApiKeyRequirement, Bytes, CACHE_KEY, DNS_LABEL, Duration, HEADER_NAME, HEADER_VALUE, Header, PATH_TEMPLATE,
    Throttle, methods,
};
use crate::source::Source;

/// One operation: its match, policies and integration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The name of the rule, unique in the ApiRoute. Conditions, logs and UsagePlans refer to it. At most 63 lower case
    /// letters, digits and `-`. Example: `get-order`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,

    /// The methods of the rule. `[ANY]` matches each method that no other rule of the path lists. Other methods are rejected,
    /// also if a broader path has a rule for them; with AWS's behaviors they are matched by that rule. From 1 to 7.
    /// Example: `[GET]`.
    #[schemars(
        length(min = 1, max = 7),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = [{
            "rule": "size(self) == 1 || !self.exists(m, m == 'ANY')",
            "message": "ANY must be the only entry: it includes all other methods"
        }])
    )]
    pub methods: Vec<HttpMethod>,

    /// The path below the stage's base path. `{name}` matches one segment, `{name+}` at the end matches the rest, at least one
    /// character. A slash at the end is significant, also after a parameter, unless the stage's `trailingSlash` is `Ignore`.
    /// At most 1024 characters. Example: `/orders/{id}`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = PATH_TEMPLATE))]
    pub path: String,

    /// Conditions for headers. All must match. Empty: no condition. At most 8. Example: `[{name: x-channel, value: mobile}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub headers: Vec<ValueMatch>,

    /// Conditions for query parameters. All must match. Empty: no condition. At most 8.
    /// Example: `[{name: preview, type: Present}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub query_params: Vec<ValueMatch>,

    /// Who may call. Unset: the ApiRoute's `authorization` applies. A rule's own replaces all of it.
    /// Example: `{type: None}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,

    /// Whether the rule requires an API key. Unset: the ApiRoute's `apiKey` applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The schema of an optional enum has the description of the enum.
    #[schemars(with = "ApiKeyRequirement")]
    pub api_key: Option<ApiKeyRequirement>,

    /// The networks whose requests the rule accepts, in addition to what the stage demands; other requests get 403. Unset:
    /// every network that the stage accepts. Example: `{allow: [10.0.0.0/8], deny: [10.66.0.0/16]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,

    /// Conditions in CEL that a request of the rule must meet, in addition to those of the ApiRoute's `authorize`. All must be true; a request for which one is false or cannot
    /// be evaluated gets 403. They are checked after authorizer, scopes, policies and API key. Empty: no condition. At most 16.
    /// Example: `[{expression: "identity.claims.tenant == params.tenant"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_EXPRESSIONS), extend("x-kubernetes-list-type" = "atomic"))]
    pub authorize: Vec<AuthorizeExpression>,

    /// The throttle of the rule in each stage, for all callers together. Unset: the stage's `throttle`, with a bucket for
    /// this rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,

    /// The throttle of each client of the rule in each stage, by its address. It is checked before credentials. Unset: the
    /// stage's `clientThrottle`, with buckets for this rule. Example: `{rate: 10, burst: 20}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_throttle: Option<ClientThrottle>,

    /// Replaces the stage's `cors` for the rule. A preflight request gets the settings of the rule that the request it asks for
    /// would match by path and method. Unset: the stage's `cors`. Example: `{allowOrigins: ["*"]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,

    /// Stores responses in the stage's cache. Unset: responses are not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<RuleCache>,

    /// Changes of a request before it is forwarded. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<MessageChanges>,

    /// Changes of a response before it is sent to the client. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<MessageChanges>,

    /// The time from the last byte of the request to the head of the integration's response. Unset: `29s`. From `50ms` to
    /// `300s`. Example: `5s`.
    #[serde(default = "default_timeout")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('50ms') && duration(self) <= duration('300s')",
        "message": "timeout must be from 50ms to 300s"
    }]))]
    pub timeout: Duration,

    /// The largest request body that the rule accepts, and the largest that is buffered. Unset: the limits of the stage's
    /// `behavior`. Example: `{body: 1Mi}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<BodyLimits>,

    /// The upstream, or a fixed response.
    pub integration: Integration,
}

/// Limits for request bodies of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.body) || has(self.buffer)",
    "message": "limits requires body, buffer or both"
}]))]
pub struct BodyLimits {
    /// The largest request body. A larger one is rejected with 413: before the integration is called if the request has a
    /// `Content-Length`, otherwise as soon as the limit is exceeded. AWS's behaviors accept at most 10Mi, also if this is
    /// larger. Unset: no limit with `behavior: Native`, 10Mi with AWS's behaviors. Example: `1Mi`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Bytes>,
    /// The largest request body that is buffered in memory. With AWS's behaviors a larger body of unknown length is rejected
    /// with 413. A larger body of known length is forwarded as it arrives, and its request is not repeated if the connection
    /// to the backend is lost. At most `body`. Unset: `body`, but at most 10Mi. Example: `256Ki`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buffer: Option<Bytes>,
}

methods! {
    /// An HTTP method, or all methods.
    HttpMethod {
        /// Each method that no other rule of the path lists.
        Any = "ANY"
    }
    /// The method in a request; `ANY` for all methods.
}

/// A condition for a header or query parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.value) == (self.type == 'Exact')",
    "message": "type Exact requires a value, which is not allowed with type Present"
}]))]
pub struct ValueMatch {
    /// The name. Names of headers are not case-sensitive, names of query parameters are. At most 128 characters.
    /// Example: `x-channel`.
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub name: String,
    /// `Exact`: it must have this value. `Present`: any value matches. Unset: `Exact`.
    #[serde(default, rename = "type")]
    pub type_: MatchType,
    /// The exact value, case-sensitive. Required with type `Exact`. At most 1024 characters. Example: `mobile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = HEADER_VALUE))]
    pub value: Option<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum MatchType {
    /// Equal, case-sensitive.
    #[default]
    Exact,
    /// Present with any value.
    Present,
}

/// Which responses of a rule are stored, and their cache key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.keys) || !has(self.unkeyed) || !self.unkeyed.exists(name, name in self.keys)",
    "message": "a variable is in keys or in unkeyed, not in both"
}]))]
pub struct RuleCache {
    /// The lifetime of a stored response. Unset: the stage's `cache.ttl`. From `1s` to `1h`. Example: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        "message": "ttl must be from 1s to 1h; to disable caching, omit cache"
    }]))]
    pub ttl: Option<Duration>,
    /// Variables of the cache key, in addition to stage, rule, method, path, host, scheme and the variables in
    /// `request.headers`: `request.querystring.<name>`, `request.header.<name>`, `request.path.<name>`,
    /// `context.authorizer.claims.<name>` and the other variables of a request. Query parameters and headers that are not
    /// listed are not part of the key. Empty: no variables. At most 16.
    /// Example: `[request.querystring.expand]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 192),
            regex(pattern = CACHE_KEY)
        ),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub keys: Vec<String>,
    /// Variables that the gateway sends to the backend and that are not part of the cache key, because the response does not
    /// depend on them: `context.domainName` (the host), `context.scheme`, and variables in `request.headers`. The response
    /// to a request with one value is sent for requests with another. Empty: each is part of the key. At most 16.
    /// Example: `[context.requestId]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 192),
            regex(pattern = CACHE_KEY)
        ),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub unkeyed: Vec<String>,
    /// The methods whose responses are stored. The request body is not part of the cache key: the response to a request with
    /// a body is not stored, except for `POST` at a stage with AWS's behaviors. Unset: `[GET, HEAD]`. From 1 to 3.
    #[serde(default = "default_cache_methods")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<CacheMethod>,
    /// `Caller`: each caller, identified by token, API key and cookies, has separate entries. `Shared`: all callers share
    /// entries, for responses that do not depend on the caller. Unset: `Caller`.
    #[serde(default)]
    pub scope: CacheScope,
}

/// A method whose responses can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CacheMethod {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
}

impl CacheMethod {
    /// The method in a request.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
        }
    }
}

/// Who shares a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum CacheScope {
    /// The caller alone.
    #[default]
    Caller,
    /// All callers.
    Shared,
}

/// Changes of a request or response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageChanges {
    /// Changes of headers. `remove` is applied first, then `set`, then `add`. Unset: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderChanges>,
}

/// Changes of headers. Values can contain variables, such as `${context.authorizer.claims.<name>}`,
/// `${context.requestId}`, `${context.identity.sourceIp}`, `${context.stage}`, `${request.path.<name>}`,
/// `${request.querystring.<name>}` and `${request.header.<name>}`. A variable without a value is replaced by the empty
/// string; `$$` is a dollar sign.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HeaderChanges {
    /// Headers that get exactly this value; earlier values are removed. Empty: none. At most 16, each name once.
    /// Example: `[{name: x-customer, value: "${context.authorizer.claims.sub}"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crate::field::unique_headers)]
    pub set: Vec<Header>,
    /// Headers that get one more value; earlier values stay. Empty: none. At most 16, each name once.
    /// Example: `[{name: via, value: 1.1 shop}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crate::field::unique_headers)]
    pub add: Vec<Header>,
    /// Headers to remove. Empty: none. At most 32. Example: `[server]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 128), regex(pattern = HEADER_NAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub remove: Vec<String>,
}

const fn default_timeout() -> Duration {
    Duration::from_secs(29)
}

fn default_cache_methods() -> Vec<CacheMethod> {
    vec![CacheMethod::Get, CacheMethod::Head]
}
