//! One rule of an ApiRoute: the requests it matches and the policies they meet.
//! Where requests go is the integration's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Authorization, Integration};
use crate::field::{
    ApiKeyRequirement, DNS_LABEL, Duration, HEADER_NAME, HEADER_VALUE, Header, PATH_TEMPLATE, Throttle,
};

/// One operation: what it matches, who may call, and where it leads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The rule's name within the ApiRoute; statuses, logs and usage plans say it. Lower case letters, digits and `-`,
    /// at most 63. Example: `get-order`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,

    /// The methods that the rule matches; `ANY`, alone, matches those that no other rule of the path names.
    /// From 1 to 7. Example: `[GET]`.
    #[schemars(
        length(min = 1, max = 7),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = [{
            "rule": "size(self) == 1 || !self.exists(m, m == 'ANY')",
            "message": "ANY stands alone: it already covers the other methods"
        }])
    )]
    pub methods: Vec<HttpMethod>,

    /// The path below the stage's base path. `{name}` matches one segment, `{name+}` at the end matches the rest.
    /// At most 1024 characters. Example: `/orders/{id}`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = PATH_TEMPLATE))]
    pub path: String,

    /// Headers that a request must have as well. Empty: headers do not matter. At most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 8),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub headers: Vec<ValueMatch>,

    /// Query parameters that a request must have as well. Empty: they do not matter. At most 8.
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

    /// Whether callers need an API key. Unset: as the ApiRoute's `apiKey` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ApiKeyRequirement>,

    /// How many requests the rule lets through in each stage, for all callers together.
    /// Unset: the stage's `throttle`, counted for this rule alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,

    /// Keeps responses in the stage's cache. Unset: nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<RuleCache>,

    /// What is changed in a request before it is sent on. Unset: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<MessageChanges>,

    /// What is changed in a response before the client gets it. Unset: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<MessageChanges>,

    /// How long the integration may take until its response begins. Unset: `29s`. From `50ms` to `300s`.
    #[serde(default = "default_timeout")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('50ms') && duration(self) <= duration('300s')",
        "message": "timeout must be from 50ms to 300s"
    }]))]
    pub timeout: Duration,

    /// Where requests go.
    pub integration: Integration,
}

/// A method of HTTP, or all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum HttpMethod {
    /// Every method that no other rule of the path names.
    Any,
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// PATCH.
    Patch,
    /// DELETE.
    Delete,
    /// OPTIONS.
    Options,
}

impl HttpMethod {
    /// As a request writes it; `ANY` for all of them.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "ANY",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }
}

/// A header or query parameter that a request must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.value) == (self.type == 'Exact')",
    "message": "type Exact needs a value, and type Present must not have one"
}]))]
pub struct ValueMatch {
    /// The name. Headers are compared without regard to case, query parameters with it. Example: `x-channel`.
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub name: String,
    /// `Exact`: it must have this value. `Present`: any value will do. Unset: `Exact`.
    #[serde(default, rename = "type")]
    pub type_: MatchType,
    /// The value, letter for letter. Needed with type `Exact`. At most 1024 characters. Example: `mobile`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024), regex(pattern = HEADER_VALUE))]
    pub value: Option<String>,
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum MatchType {
    /// Letter for letter.
    #[default]
    Exact,
    /// Being there is enough.
    Present,
}

/// Which responses of a rule are kept, and under which key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleCache {
    /// How long a response is kept. Unset: the stage's `cache.ttl`. From `1s` to `1h`. Example: `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        "message": "ttl must be from 1s to 1h; leave cache out where nothing is to be kept"
    }]))]
    pub ttl: Option<Duration>,
    /// Variables of the cache key, in addition to stage, rule, method and path: `request.querystring.<name>`,
    /// `request.header.<name>`, `request.path.<name>`, `context.authorizer.claims.<name>` and the other variables of a
    /// request. Query parameters and headers that are not listed are not part of the key. At most 16.
    /// Example: `[request.querystring.expand]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        inner(
            length(min = 1, max = 192),
            regex(pattern = r"^(request\.(path|querystring|header)\.[!-~]{1,128}|context\.[!-~]{1,160})$")
        ),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub keys: Vec<String>,
    /// The methods whose responses are kept. Unset: `[GET, HEAD]`. Responses to `POST` are told apart by the same keys,
    /// never by the body.
    #[serde(default = "default_cache_methods")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub methods: Vec<CacheMethod>,
    /// `Caller`: each caller, by token and API key, has responses of its own. `Shared`: all callers share them, for
    /// data that does not depend on who asks. Unset: `Caller`. For callers with neither token nor key both are the same.
    #[serde(default)]
    pub scope: CacheScope,
}

/// A method whose responses can be kept.
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
    /// As a request writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
        }
    }
}

/// Who shares a kept response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum CacheScope {
    /// The caller alone.
    #[default]
    Caller,
    /// All callers.
    Shared,
}

/// What is changed in a request or response.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageChanges {
    /// Headers that are set, added or removed, in this order: removed, set, added. Unset: headers stay.
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
    /// Headers that get exactly this value; earlier values are removed. At most 16, each name once.
    /// Example: `[{name: x-customer, value: "${context.authorizer.claims.sub}"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crate::field::unique_headers)]
    pub set: Vec<Header>,
    /// Headers that get one more value; earlier values stay. At most 16, each name once.
    /// Example: `[{name: via, value: 1.1 shop}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crate::field::unique_headers)]
    pub add: Vec<Header>,
    /// Headers that are taken away. At most 32. Example: `[server]`.
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
