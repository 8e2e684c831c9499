//! Stage: an environment of an API, with its hosts, defaults, cache, CORS and access log.
//! What a route does within a stage is said by the ApiRoute.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    condition::conditions_schema,
    field::{BASE_PATH, Bytes, DNS_LABEL, Duration, HEADER_NAME_OR_ANY, HOSTNAME, Throttle},
    reference::Reference,
};

/// Where and how an API is served: hosts, base path, TLS, and the defaults of every route that attaches to it.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Stage",
    plural = "stages",
    shortname = "stg",
    category = "sluice",
    namespaced,
    status = "StageStatus",
    derive = "PartialEq",
    doc = "A Stage is an environment of an API (AWS: stage, custom domain, method settings): the hosts and base path under which ApiRoutes are served, TLS, throttling, cache, CORS and access log.",
    printcolumn(
        name = "Hosts",
        type_ = "string",
        json_path = ".spec.hostnames",
        description = "The hosts that the stage serves; empty means every host that no other Stage claims."
    ),
    printcolumn(
        name = "Base path",
        type_ = "string",
        json_path = ".spec.basePath",
        description = "The path under which the stage is served."
    ),
    printcolumn(
        name = "Routes",
        type_ = "integer",
        json_path = ".status.routes",
        description = "How many rules the stage serves."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the object is valid and free of conflicts."
    ),
    printcolumn(
        name = "ResolvedRefs",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ResolvedRefs\")].status",
        description = "Whether everything that it names exists and can be used."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether every proxy serves this generation."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason",
        description = "Why the first condition that does not hold does not; empty when all is well."
    ),
    printcolumn(
        name = "Proxies",
        type_ = "string",
        json_path = ".status.proxies.summary",
        description = "Proxies that serve this generation, of those connected."
    ),
    printcolumn(
        name = "Fleet",
        type_ = "string",
        priority = 1,
        json_path = ".spec.fleet.name",
        description = "The fleet that serves the stage; empty means the fleet default."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "What is wrong with the object, if anything."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct StageSpec {
    /// The hosts that the stage serves, in lower case; `*.shop.example` serves every host below `shop.example`.
    /// Empty: every host that no other Stage claims. At most 32. Example: `[api.shop.example]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = HOSTNAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hostnames: Vec<String>,

    /// The path under which the stage is served; it is taken off before routes are matched. `/prod` gives AWS's default
    /// URL shape. Unset: `/`. Begins with a slash and does not end with one. Example: `/v1`.
    #[serde(default = "default_base_path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = BASE_PATH))]
    pub base_path: String,

    /// The fleet of proxies that serves the stage, and no other does. Proxies name their fleet with `--fleet`; each fleet gets
    /// the configuration of its own stages only, and shares limits among its own proxies. May be changed: the old fleet
    /// stops serving the stage when the new one starts. Unset: the fleet `default`. Example: `{name: edge}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetReference>,

    /// Which gateway's answers a client sees: refusal bodies, 403 for an unknown path, header remaps.
    /// Unset: `Native`. Example: `AwsRest`.
    #[serde(default)]
    pub behavior: Behavior,

    /// Serves the stage's hosts over TLS as well. Unset: these hosts answer without TLS only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StageTls>,

    /// The throttle of each rule that has none of its own. Unset: such rules are not throttled by the stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,

    /// The stage's response cache. Unset: nothing is cached, also where a rule has a `cache`.
    /// A response is only ever kept for a rule that has a `cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<StageCache>,

    /// Answers preflight requests and adds CORS headers for every route of the stage; the integrations' own CORS
    /// headers are then replaced. Unset: preflight requests are routed like all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,

    /// The access log, one line for each request on standard output. Unset: JSON lines.
    #[serde(default)]
    pub access_log: AccessLog,
}

/// A fleet of proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetReference {
    /// The name that the proxies of the fleet are started with. At most 63 characters. Example: `edge`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
}

/// Which gateway's answers a client sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Behavior {
    /// Sluice's own answers: the status that HTTP means, and a body with a reason.
    #[default]
    Native,
    /// As an AWS REST API answers.
    AwsRest,
    /// As an AWS HTTP API answers.
    AwsHttp,
}

/// TLS for the hosts of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageTls {
    /// Secrets of type `kubernetes.io/tls` with a certificate chain in `tls.crt` and its private key in `tls.key`. With
    /// several, a client gets the first one that is valid for the host it names and whose key type it supports. A change
    /// of a Secret takes effect without closing connections. From 1 to 8. Example: `[{name: api-shop-tls}]`.
    #[schemars(
        length(min = 1, max = 8),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x == y))",
            "message": "each Secret may be listed once"
        }])
    )]
    pub certificates: Vec<Reference>,
}

/// The response cache of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageCache {
    /// Whether the cache is on. Unset: `true`. `false` empties it and keeps the settings.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// How long a response is kept when the rule names no time of its own. Unset: `5m`. From `1s` to `1h`.
    #[serde(default = "default_cache_ttl")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        "message": "ttl must be from 1s to 1h; leave the rule's cache out where nothing is to be kept"
    }]))]
    pub ttl: Duration,
    /// How much memory the stage's responses take in each proxy; the least useful ones leave first.
    /// Unset: `64Mi`. Example: `256Mi`.
    #[serde(default = "default_cache_bytes")]
    pub max_bytes: Bytes,
    /// Who may have a response fetched anew with `Cache-Control: max-age=0`. Unset: callers with a permission only.
    #[serde(default)]
    pub invalidation: Invalidation,
}

/// Who may pass by the cache, and what happens to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invalidation {
    /// `Required`: only callers whose token carries the scope `sluice:invalidate-cache`. `None`: everybody.
    /// Unset: `Required`.
    #[serde(default)]
    pub authorization: InvalidationAuthorization,
    /// What a caller without that permission gets. Unset: `SucceedWithWarning`.
    #[serde(default)]
    pub unauthorized: UnauthorizedInvalidation,
}

/// Whether invalidation needs a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum InvalidationAuthorization {
    /// The caller needs the permission.
    #[default]
    Required,
    /// Every caller may invalidate.
    None,
}

/// What a caller gets who asks for invalidation without the permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum UnauthorizedInvalidation {
    /// 403.
    FailWith403,
    /// The cached response with a `Warning` header.
    #[default]
    SucceedWithWarning,
    /// The cached response.
    SucceedSilently,
}

/// Cross-origin resource sharing for every route of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!self.allowCredentials || !self.allowOrigins.exists(o, o == '*' || o == 'http://*' || o == 'https://*')",
    "message": "allowCredentials cannot be combined with a wildcard in allowOrigins: list the origins that may send credentials"
}]))]
pub struct Cors {
    /// The origins whose pages may read responses: `https://shop.example`, or `*`, `https://*`, `http://*`.
    /// From 1 to 32.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 253), regex(pattern = r"^(\*|https?://(\*|[A-Za-z0-9.:\[\]-]+)|null)$")),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow_origins: Vec<String>,
    /// The methods that pages may use, or `*`. Empty: only those that need no preflight (GET, HEAD, POST).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub allow_methods: Vec<CorsMethod>,
    /// The request headers that pages may set, or `*`. Empty: only those that need no permission. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 128), regex(pattern = HEADER_NAME_OR_ANY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow_headers: Vec<String>,
    /// The response headers that pages may read, or `*`. Empty: only the safe ones. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 128), regex(pattern = HEADER_NAME_OR_ANY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub expose_headers: Vec<String>,
    /// Whether browsers send cookies and credentials along. Unset: `false`. Not together with a wildcard origin.
    #[serde(default)]
    pub allow_credentials: bool,
    /// How long a browser remembers the answer to a preflight request. Unset: the browser decides (5 seconds, mostly).
    /// Whole seconds from `0s` (asks every time) to `24h`. Example: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) <= duration('24h')",
        "message": "maxAge must be at most 24h"
    }, {
        "rule": "!self.contains('ms')",
        "message": "maxAge must be in whole seconds: do not use the unit ms"
    }]))]
    pub max_age: Option<Duration>,
}

/// A method in `cors.allowMethods`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum CorsMethod {
    /// Every method.
    #[serde(rename = "*")]
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

impl CorsMethod {
    /// As the `Access-Control-Allow-Methods` header writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Any => "*",
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

/// The access log of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// How a request is written down. Unset: `Json`.
    #[serde(default)]
    pub format: AccessLogFormat,
}

/// How a request is written to the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogFormat {
    /// One JSON object in one line.
    #[default]
    Json,
    /// Not at all.
    None,
}

/// What became of a Stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the object that these words are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How many proxies serve this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ProxyCount>,
    /// How many rules of ApiRoutes the stage serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub routes: Option<i32>,
}

/// How many proxies serve a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyCount {
    /// Proxies that serve it.
    #[schemars(range(min = 0))]
    pub serving: i32,
    /// Proxies that are connected.
    #[schemars(range(min = 0))]
    pub total: i32,
    /// Both, for people: `2/2`.
    #[schemars(length(max = 32))]
    pub summary: String,
}

impl ProxyCount {
    /// `serving` of `total`.
    #[must_use]
    pub fn new(serving: i32, total: i32) -> Self {
        Self { serving, total, summary: format!("{serving}/{total}") }
    }
}

fn default_base_path() -> String {
    "/".to_owned()
}

const fn default_true() -> bool {
    true
}

const fn default_cache_ttl() -> Duration {
    Duration::from_secs(300)
}

const fn default_cache_bytes() -> Bytes {
    Bytes::new(64 << 20)
}
