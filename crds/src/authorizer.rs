//! Authorizer: who may call, decided from the token that a request carries.
//! Which scopes a rule asks for is said by the ApiRoute.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{
    condition::conditions_schema,
    field::{Duration, HEADER_NAME, HTTP_URL},
    reference::KeyReference,
};

/// Who may call the rules that name this Authorizer.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Authorizer",
    plural = "authorizers",
    shortname = "authz",
    category = "sluice",
    namespaced,
    status = "AuthorizerStatus",
    derive = "PartialEq",
    doc = "An Authorizer decides who may call (AWS: JWT authorizer, Cognito user pool). ApiRoutes name it and add the scopes that each rule asks for.",
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.type",
        description = "How callers are recognised."
    ),
    printcolumn(
        name = "Issuer",
        type_ = "string",
        json_path = ".spec.jwt.issuers[*].issuer",
        description = "The first issuer."
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
        description = "Whether every proxy runs this generation."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason",
        description = "Why the first condition that does not hold does not; empty when all is well."
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
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.jwt) == (self.type == 'Jwt')",
    "message": "type Jwt needs the member jwt"
}]))]
pub struct AuthorizerSpec {
    /// How callers are recognised; the member of the same name holds the settings. Example: `Jwt`.
    #[serde(rename = "type")]
    pub type_: AuthorizerType,
    /// JSON Web Tokens of OpenID Connect issuers. Needed with type `Jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuthorizer>,
}

/// The kinds of authorizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthorizerType {
    /// Signed tokens (RFC 7519) from an issuer whose keys are known.
    Jwt,
}

/// How a JSON Web Token is found and judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuthorizer {
    /// Whose tokens are accepted, and for which audiences. From 1 to 16.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["issuer"])
    )]
    pub issuers: Vec<JwtIssuer>,
    /// The signature algorithms that are accepted. Unset: `[RS256, ES256]`. Symmetric algorithms and `none` do not exist.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where the token stands; the first place that is present counts.
    /// Unset: the `authorization` header after `Bearer`. From 1 to 4.
    #[serde(default = "default_token_from")]
    #[schemars(length(min = 1, max = 4))]
    pub token_from: Vec<TokenFrom>,
    /// How far the clocks of issuer and proxy may differ when `exp` and `nbf` are judged. Unset: `60s`.
    /// Whole seconds from `0s` to `5m`.
    #[serde(default = "default_clock_skew")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) <= duration('5m')",
        "message": "clockSkew must be at most 5m"
    }, {
        "rule": "!self.contains('ms')",
        "message": "clockSkew must be in whole seconds: do not use the unit ms"
    }]))]
    pub clock_skew: Duration,
    /// Claims that a token must carry with exactly these values. A number or truth value is written as text; of a list,
    /// one element must be equal. Unset: no further claims are asked for. At most 16.
    /// Example: `{email_verified: "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "claims_schema")]
    pub required_claims: BTreeMap<String, String>,
}

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!(has(self.jwksUri) && has(self.jwks))",
    "message": "an issuer has either jwksUri or jwks, not both"
}, {
    "rule": "has(self.jwksUri) || has(self.jwks) || self.issuer.startsWith('https://') || self.issuer.startsWith('http://')",
    "message": "an issuer that is not an http or https URL has no discovery document: add jwksUri or jwks"
}]))]
pub struct JwtIssuer {
    /// What the token's `iss` must be, letter for letter. Example: `https://idp.example`.
    #[schemars(length(min = 1, max = 512), regex(pattern = r"^[!-~]+$"))]
    pub issuer: String,
    /// The audiences of which the token's `aud` (or, without one, its `client_id`) must name at least one.
    /// From 1 to 50. Example: `[shop]`.
    #[schemars(
        length(min = 1, max = 50),
        inner(length(min = 1, max = 512)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub audiences: Vec<String>,
    /// Where the issuer publishes its keys. Unset, and without `jwks`: found by the discovery document at
    /// `<issuer>/.well-known/openid-configuration`. Example: `https://idp.example/keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = HTTP_URL))]
    pub jwks_uri: Option<String>,
    /// Keys that stand in the cluster instead, for issuers that cannot be reached. Unset: keys are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JwksSource>,
}

/// A JSON Web Key Set that stands in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.configMap) == (self.type == 'ConfigMap')",
    "message": "type ConfigMap needs the member configMap, and no other type may have it"
}, {
    "rule": "has(self.secret) == (self.type == 'Secret')",
    "message": "type Secret needs the member secret, and no other type may have it"
}]))]
pub struct JwksSource {
    /// What holds the key set. Example: `ConfigMap`.
    #[serde(rename = "type")]
    pub type_: JwksSourceType,
    /// The ConfigMap, and the key in it. Required with type `ConfigMap`. Example: `{name: idp-keys}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyReference>,
    /// The Secret, and the key in it. Required with type `Secret`. Example: `{name: idp-keys}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyReference>,
}

/// What holds a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JwksSourceType {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A signature algorithm (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum JwtAlgorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    RS256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    RS384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    RS512,
    /// RSA PSS with SHA-256.
    PS256,
    /// RSA PSS with SHA-384.
    PS384,
    /// RSA PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    EdDSA,
}

impl JwtAlgorithm {
    /// As the token's `alg` writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }
}

/// A place where a request carries its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenFrom {
    /// The header. Example: `authorization`.
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub header: String,
    /// The word before the token, compared without regard to case. Unset: the header's whole value is the token.
    /// Example: `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = r"^[A-Za-z0-9._~+/-]+$"))]
    pub scheme: Option<String>,
}

/// What became of an Authorizer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizerStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the object that these words are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

fn claims_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

fn default_algorithms() -> Vec<JwtAlgorithm> {
    vec![JwtAlgorithm::RS256, JwtAlgorithm::ES256]
}

fn default_token_from() -> Vec<TokenFrom> {
    vec![TokenFrom { header: "authorization".to_owned(), scheme: Some("Bearer".to_owned()) }]
}

const fn default_clock_skew() -> Duration {
    Duration::from_secs(60)
}
