//! ApiRoute: the operations of an API, each with its match, policies and integration. It attaches to Stages.

mod authorization;
mod authorize;
mod integration;
mod rule;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use crate::field::Header;
pub use authorization::{Authorization, AuthorizationType};
pub use authorize::{AuthorizeExpression, MAX_EXPRESSION, MAX_EXPRESSIONS, MAX_MESSAGE};
pub use integration::{HttpIntegration, Integration, IntegrationType, MockIntegration};
pub use rule::{
    BodyLimits, CacheMethod, CacheScope, HeaderChanges, HttpMethod, MatchType, MessageChanges, Rule, RuleCache,
    ValueMatch,
};

use crate::{
    condition::conditions_schema,
    field::{ApiKeyRequirement, HEADER_NAME},
    reference::Reference,
};

/// The operations of an API.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "ApiRoute",
    plural = "apiroutes",
    shortname = "apir",
    category = "sluice",
    namespaced,
    status = "ApiRouteStatus",
    derive = "PartialEq",
    doc = "An ApiRoute defines operations of an API (AWS: resources, methods and integrations). Each rule has a match, authorization, throttle, cache and integration.",
    printcolumn(
        name = "Stage",
        type_ = "string",
        json_path = ".spec.stages[*].name",
        description = "The first stage that the route attaches to."
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".spec.version.name",
        description = "The version that the route serves."
    ),
    printcolumn(
        name = "Authorizer",
        type_ = "string",
        json_path = ".spec.authorization.authorizer.name",
        description = "The default Authorizer of its rules."
    ),
    printcolumn(
        name = "Rules",
        type_ = "integer",
        json_path = ".status.rules",
        description = "The number of rules that at least one Stage serves."
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
pub struct ApiRouteSpec {
    /// The Stages that serve the route. From 1 to 16. Example: `[{name: prod}]`.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x == y))",
            "message": "each Stage may be listed once"
        }])
    )]
    pub stages: Vec<Reference>,

    /// The API version of the rules, so that several ApiRoutes can serve v1 and v2 side by side. Unset: the rules serve
    /// requests without a version, or with a version that no other ApiRoute serves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<ApiVersion>,

    /// Who may call the rules without their own `authorization`. Required, so that no rule is open by accident:
    /// `{type: None}` allows every client.
    /// Example: `{type: Authorizer, authorizer: {name: customers}, scopes: [orders.read]}`.
    pub authorization: Authorization,

    /// Conditions in CEL that each request of every rule must meet. All must be true; a request for which one is false or cannot
    /// be evaluated gets 403. They are checked after authorizer, scopes, policies and API key. Empty: no condition. At most 16.
    /// Example: `[{expression: "identity.claims.tenant == params.tenant"}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = MAX_EXPRESSIONS), extend("x-kubernetes-list-type" = "atomic"))]
    pub authorize: Vec<AuthorizeExpression>,

    /// Whether rules without their own `apiKey` require an API key. `Optional`: only a key that is not valid is rejected, and
    /// valid ones have the throttles of their plan. `Alternative`: a request needs a valid key, or the credential that
    /// `authorization` requires. Unset: `None`. Example: `Required`.
    #[serde(default)]
    pub api_key: ApiKeyRequirement,

    /// The operations. The most specific match wins; the order has no meaning. From 1 to 256.
    #[schemars(
        length(min = 1, max = 256),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub rules: Vec<Rule>,
}

/// The API version of a route, and how a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.parameter) || self.scheme == 'Header' || self.scheme == 'Query'",
    "message": "parameter is allowed with scheme Header or Query only"
}]))]
pub struct ApiVersion {
    /// The version in requests. At most 32 letters, digits, `.`, `_` and `-`. Example: `v1`.
    #[schemars(length(min = 1, max = 32), regex(pattern = crate::field::VERSION_NAME))]
    pub name: String,
    /// How a request names the version. `Path`: the first path segment (`/v1/orders`), which is removed before rules are
    /// matched. `Header`: a header. `Query`: a query parameter. `MediaType`: the parameter `version` of the `Accept` header,
    /// as in `application/json;version=v1`. Example: `Path`.
    pub scheme: VersionScheme,
    /// The name of the header or query parameter. Not allowed with the other schemes. Unset: `x-api-version` with `Header`,
    /// `version` with `Query`. At most 128 characters. Example: `x-version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub parameter: Option<String>,
}

/// How a request names a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum VersionScheme {
    /// The first segment of the path.
    Path,
    /// A header.
    Header,
    /// A query parameter.
    Query,
    /// The media type in `Accept`.
    MediaType,
}

/// The observed state of an ApiRoute at one of its Stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteStageStatus {
    /// The name of the Stage.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The namespace of the Stage. Unset: that of the ApiRoute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub namespace: Option<String>,
    /// Accepted, ResolvedRefs and Programmed at this Stage.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
}

/// The observed state of an ApiRoute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiRouteStatus {
    /// Accepted, ResolvedRefs and Programmed, for all Stages together: a problem at one of them is one of the ApiRoute.
    /// Warnings while there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The same for each of its Stages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub stages: Vec<RouteStageStatus>,
    /// The most recent generation observed by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The number of rules that at least one Stage serves. Rules that are invalid, or that an older ApiRoute has, do not
    /// count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub rules: Option<i32>,
}
