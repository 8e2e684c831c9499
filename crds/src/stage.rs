//! Stage: an environment of an API, with its hosts, defaults, cache, CORS and access log. ApiRoutes attach to Stages.

mod client_auth;
mod policy;
mod request_policy;
mod tls;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

pub use crate::policy_document::PolicyDocument;
use crate::{
    accepts::Accepts,
    client_throttle::ClientThrottle,
    condition::conditions_schema,
    cors::Cors,
    field::{BASE_PATH, Bytes, DNS_LABEL, Duration, HEADER_NAME, HOSTNAME, TOKEN_SCHEME, Throttle},
    source::Source,
};
pub use client_auth::{ClientAuth, ClientAuthMode, ClientCertForwarding, RevocationReference, RevocationSource};
pub use policy::AwsNames;
pub use request_policy::{
    DoubleEncoding, EmptySegments, EncodedSlashes, HeaderNames, HeaderValues, PathCharacters, QueryCharacters,
    RequestPolicy, Semicolons,
};
pub use tls::{Hsts, HstsScope, PlainHttp, StageTls};

/// How an API is served: hosts, base path, TLS, and defaults for the ApiRoutes that attach to the Stage.
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
        description = "The hosts of the stage. Empty: all hosts that no other Stage lists."
    ),
    printcolumn(
        name = "Base path",
        type_ = "string",
        json_path = ".spec.basePath",
        description = "The path prefix of the stage."
    ),
    printcolumn(
        name = "Rules",
        type_ = "integer",
        json_path = ".status.rules",
        description = "The number of rules that the Stage serves."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the object is valid and has no conflict."
    ),
    printcolumn(
        name = "ResolvedRefs",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ResolvedRefs\")].status",
        description = "Whether each referenced object exists and is usable."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether each connected proxy serves this generation."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason",
        description = "Reason of the first condition that is False; empty if there is none."
    ),
    printcolumn(
        name = "Proxies",
        type_ = "string",
        json_path = ".status.proxies.summary",
        description = "Connected proxies that serve this generation."
    ),
    printcolumn(
        name = "Fleet",
        type_ = "string",
        priority = 1,
        json_path = ".spec.fleet.name",
        description = "The fleet that serves the stage. Empty: default."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "Message of the first condition that is False."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct StageSpec {
    /// The hosts of the stage, in lower case. `*.shop.example` matches every host below `shop.example`. Empty: all hosts that
    /// no other Stage lists. At most 32. Example: `[api.shop.example]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 253), regex(pattern = HOSTNAME)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub hostnames: Vec<String>,

    /// The path prefix of the stage, which is removed before rules are matched. `/prod` results in AWS's default form of URLs.
    /// It starts with a slash and does not end with one. Unset: `/`. At most 256 characters. Example: `/v1`.
    #[serde(default = "default_base_path")]
    #[schemars(length(min = 1, max = 256), regex(pattern = BASE_PATH))]
    pub base_path: String,

    /// The fleet of proxies that serves the stage; other fleets do not. Proxies select their fleet with `--fleet`. Each fleet
    /// receives the configuration of its own stages only, and its proxies share limits. After a change, the old fleet stops
    /// serving the stage when the new one starts. Unset: the fleet `default`. Example: `{name: edge}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetReference>,

    /// The format of rejections and other compatibility details, such as 403 for an unknown path and renamed headers.
    /// `Native`: Sluice's own. `AwsRest`: as an AWS REST API. `AwsHttp`: as an AWS HTTP API. Unset: `Native`.
    /// Example: `AwsRest`.
    #[serde(default)]
    pub behavior: Behavior,

    /// Whether a slash at the end of a path is significant. `Exact`: `/orders/` is another path than `/orders`; a request for
    /// one of them is never matched by a rule for the other, nor by a broader rule such as `/{proxy+}`. `Ignore`: a rule
    /// matches both, if no rule has exactly the path. Unset: `Ignore` with behavior `AwsRest`, otherwise `Exact`.
    /// Example: `Ignore`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The schema of an optional enum has the description of the enum.
    #[schemars(with = "TrailingSlash")]
    pub trailing_slash: Option<TrailingSlash>,

    /// TLS for the stage's hosts. Plain HTTP is redirected unless `tls.http` says otherwise. Unset: plain HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StageTls>,

    /// The networks whose requests the stage accepts; other requests get 403. The client's address is that of its connection,
    /// or the one that a trusted proxy states (`sluice-proxy --trusted-proxies`). Rules can restrict it further. Unset: every
    /// network. Example: `{allow: [10.0.0.0/8]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,

    /// The resource policy of the stage (AWS: resource policy): an IAM policy document. A request needs a statement that allows
    /// `execute-api:Invoke` for it, and none that denies it; other requests get 403. It is evaluated after the Authorizer of a
    /// rule, together with the policies of the caller if that is a Principal. `Principal: "*"` matches every caller, an ARN or
    /// account those of Principals. At most 8,192 characters as JSON. Unset: no policy.
    /// Example: `{Version: "2012-10-17", Statement: [{Effect: Allow, Principal: "*", Action: "execute-api:Invoke", Resource: "execute-api:/*"}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyDocument>,

    /// The names of the stage in AWS's terms: they are in the ARNs that `policy` is evaluated for. Unset, or with unset fields:
    /// region `us-east-1`, account `000000000000`, and the namespace as the id of the API. Example: `{region: eu-west-1}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aws: Option<AwsNames>,

    /// Where the API key of a request is, for rules with `apiKey`. Unset: in the header `x-api-key`.
    /// Example: `{type: Query, name: api_key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_source: Option<ApiKeySource>,

    /// The throttle of each rule without its own `throttle`. Each rule has its own bucket. Unset: such rules are not throttled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,

    /// The throttle of each client, by its address, at each rule without its own `clientThrottle`. It is checked before
    /// credentials, so that it also limits attempts to guess them. Unset: clients are not limited by address.
    /// Example: `{rate: 10, burst: 20}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_throttle: Option<ClientThrottle>,

    /// Whether responses have the headers `RateLimit-Policy` and `RateLimit` (draft of the IETF) with the throttles of the request
    /// and what is left of them. They replace the integration's own. Unset: `false`.
    #[serde(default)]
    pub rate_limit_headers: bool,

    /// The response cache of the stage. Responses are stored only for rules that have a `cache`. Unset: no caching, also for
    /// rules with a `cache`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<StageCache>,

    /// The proxy responds to preflight requests and adds CORS headers to all responses of the stage. They replace the
    /// integrations' own. Unset: preflight requests are routed like all other requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,

    /// What the proxy does with requests that two programs could interpret differently, such as paths with `//` or `%2F`.
    /// Each value applies to matching, cache keys, the access log and forwarding alike. Unset, or with unset fields: the
    /// settings of the fleet (`sluice-proxy --request-policy`), then the defaults of `behavior`.
    /// Example: `{encodedSlashes: Forward, emptySegments: Collapse}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_policy: Option<RequestPolicy>,

    /// Headers of requests that are forwarded although clients can spoof them: they state another client address, method, path
    /// or host than the request itself. The proxy removes such headers, for example `X-Real-IP`, `X-Original-URL`
    /// and `X-HTTP-Method-Override`; the page about headers lists them. List one if a load balancer in front of the proxies sets it
    /// in every request, or if no backend trusts it. Headers that the proxy sets itself, and `Proxy`, cannot be listed. Lower case,
    /// at most 32. Unset: none of them is forwarded. Example: `[true-client-ip]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        inner(length(min = 1, max = 63), regex(pattern = DNS_LABEL)),
        extend("x-kubernetes-list-type" = "set", "x-kubernetes-validations" = [{
            "rule": "!self.exists(x, x in ['client-cert', 'client-cert-chain', 'forwarded', 'proxy', 'x-forwarded', 'x-forwarded-for', 'x-forwarded-host', 'x-forwarded-port', 'x-forwarded-proto'])",
            "message": "Client-Cert, Client-Cert-Chain, Proxy, Forwarded, X-Forwarded and X-Forwarded-For, -Host, -Port and -Proto are never forwarded"
        }])
    )]
    pub forward_client_headers: Vec<String>,

    /// Which ApiRoutes may attach to the stage. Unset: those of its own namespace.
    /// Example: `{namespaces: {from: All}}`.
    #[serde(default, skip_serializing_if = "Accepts::is_default")]
    pub accepts: Accepts,

    /// The access log: one line for each request, on the proxy's standard output. Unset: JSON.
    #[serde(default)]
    pub access_log: AccessLog,
}

/// A fleet of proxies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FleetReference {
    /// The name of the fleet, as in the proxies' `--fleet`. At most 63 characters. Example: `edge`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: String,
}

/// The format of rejections and other compatibility details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum Behavior {
    /// Sluice's own: HTTP status codes and problem details (RFC 9457).
    #[default]
    Native,
    /// As an AWS REST API.
    AwsRest,
    /// As an AWS HTTP API.
    AwsHttp,
}

/// Whether a slash at the end of a path is significant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum TrailingSlash {
    /// `/orders/` is another path than `/orders`.
    Exact,
    /// A rule matches both, if no rule has exactly the path.
    Ignore,
}

/// Where clients send their API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.scheme) || self.type == 'Header'",
    "message": "scheme is allowed with type Header only"
}, {
    "rule": "has(self.name) == (self.type != 'Authorizer')",
    "message": "name is required, except with type Authorizer, which has none"
}]))]
pub struct ApiKeySource {
    /// `Header`: in a header; `Query`: in a query parameter, which is not forwarded; `Cookie`: in a cookie; `Authorizer`: clients
    /// send none, it is the `usageIdentifierKey` in the response of a Lambda authorizer. Example: `Header`.
    #[serde(rename = "type")]
    pub type_: ApiKeySourceType,
    /// The name of the header, query parameter or cookie. The names of headers are not case-sensitive. Unset: allowed with type
    /// `Authorizer` only. At most 128 characters. Example: `x-customer-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub name: Option<String>,
    /// The scheme before the key in the header, not case-sensitive. Unset: the whole header value is the key.
    /// Example: `ApiKey`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = TOKEN_SCHEME))]
    pub scheme: Option<String>,
}

/// Where the API key of a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ApiKeySourceType {
    /// A header.
    Header,
    /// A query parameter.
    Query,
    /// A cookie.
    Cookie,
    /// The response of a Lambda authorizer.
    Authorizer,
}

/// The response cache of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageCache {
    /// Whether the cache is enabled. `false` purges it. Unset: `true`.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// The lifetime of responses for rules without their own `ttl`. Unset: `5m`. From `1s` to `1h`.
    #[serde(default = "default_cache_ttl")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1s') && duration(self) <= duration('1h')",
        "message": "ttl must be from 1s to 1h; to disable caching for a rule, omit its cache"
    }]))]
    pub ttl: Duration,
    /// The memory for stored responses in each proxy. If it is used up, the least used responses are evicted.
    /// Unset: `64Mi`. Example: `256Mi`.
    #[serde(default = "default_cache_bytes")]
    pub max_bytes: Bytes,
    /// Who may refresh a stored response with `Cache-Control: max-age=0`. Unset: only callers with the scope
    /// `sluice:invalidate-cache`.
    #[serde(default)]
    pub invalidation: Invalidation,
}

/// Who may refresh stored responses, and the response to other callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invalidation {
    /// `Required`: only callers whose token has the scope `sluice:invalidate-cache`, or whose IAM policies allow
    /// `execute-api:InvalidateCache`. `None`: every caller.
    /// Unset: `Required`.
    #[serde(default)]
    pub authorization: InvalidationAuthorization,
    /// The response to a caller without permission. `FailWith403`: 403. `SucceedWithWarning`: the stored response with a
    /// `Warning` header. `SucceedSilently`: the stored response. Unset: `SucceedWithWarning`.
    #[serde(default)]
    pub unauthorized: UnauthorizedInvalidation,
}

/// Whether a refresh requires permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum InvalidationAuthorization {
    /// The caller needs permission.
    #[default]
    Required,
    /// Every caller may refresh.
    None,
}

/// The response to a refresh without permission.
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

/// The access log of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// The format. `Json`: one JSON object per line. `None`: no access log. Unset: `Json`.
    #[serde(default)]
    pub format: AccessLogFormat,
}

/// The format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum AccessLogFormat {
    /// One JSON object in one line.
    #[default]
    Json,
    /// No access log.
    None,
}

/// The observed state of a Stage.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StageStatus {
    /// Accepted, ResolvedRefs and Programmed; Warnings while there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The most recent generation observed by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The proxies that serve this generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxies: Option<ProxyCount>,
    /// The number of rules of all ApiRoutes that the Stage serves. Rules that are invalid, or that an older ApiRoute has, do
    /// not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub rules: Option<i32>,
    /// The host names that the Stage claims, and since when. Of several Stages that claim a name, the one that has claimed it
    /// for the longest time has it. `*` means the hosts that no Stage lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 32),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub hostnames: Vec<ClaimedHostname>,
    /// The base path that the Stage claims on its host names, and since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_path: Option<ClaimedBasePath>,
}

/// A host name that a Stage claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedHostname {
    /// The host name as in `spec.hostnames`; `*` for a Stage without hostnames.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Since when the Stage claims it.
    #[schemars(schema_with = "time_schema")]
    pub since: MicroTime,
}

/// The base path that a Stage claims.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClaimedBasePath {
    /// The base path as in `spec.basePath`.
    #[schemars(length(min = 1, max = 256))]
    pub path: String,
    /// The fleet that serves the Stage.
    #[schemars(length(min = 1, max = 63))]
    pub fleet: String,
    /// Since when the Stage claims this base path in this fleet.
    #[schemars(schema_with = "time_schema")]
    pub since: MicroTime,
}

fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

/// The proxies that serve a generation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProxyCount {
    /// The number of connected proxies that serve it.
    #[schemars(range(min = 0))]
    pub serving: i32,
    /// The number of connected proxies.
    #[schemars(range(min = 0))]
    pub total: i32,
    /// Both numbers: `2/2`.
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
