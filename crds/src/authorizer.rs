//! Authorizer: which tokens are accepted. ApiRoutes define the required scopes.

mod cognito;
mod iam;
mod introspection;
mod issuer;
mod lambda;
mod service_account;
mod token;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{condition::conditions_schema, field::Duration};
pub use cognito::{CognitoAuthorizer, UserPool};
pub use iam::{IamAuthorizer, SessionTokens, UnsignedPayload};
pub use introspection::{ClientAuthentication, IntrospectionAuthorizer, IntrospectionClient};
pub use issuer::{JwksSource, JwksSourceType, JwtIssuer};
pub use lambda::{
    ContextSource, FunctionService, IdentitySource, LambdaAuthorizer, LambdaEvent, LambdaFunction, LambdaFunctionType,
    LambdaInvoke, LambdaPayload, LambdaResponses,
};
pub use service_account::ServiceAccountAuthorizer;
pub use token::TokenFrom;
use token::{claims_schema, default_clock_skew, default_token_from};

/// Who may call the rules that reference this Authorizer.
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
    doc = "An Authorizer defines who may call (AWS: JWT authorizer, Cognito user pool, IAM authorization, Lambda authorizer). ApiRoutes reference it and add the scopes that each rule requires.",
    printcolumn(
        name = "Type",
        type_ = "string",
        json_path = ".spec.type",
        description = "The type of the Authorizer."
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
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.jwt) == (self.type == 'Jwt')",
    "message": "type Jwt requires the field jwt, which is not allowed with other types"
}, {
    "rule": "has(self.introspection) == (self.type == 'Introspection')",
    "message": "type Introspection requires the field introspection, which is not allowed with other types"
}, {
    "rule": "has(self.cognito) == (self.type == 'Cognito')",
    "message": "type Cognito requires the field cognito, which is not allowed with other types"
}, {
    "rule": "has(self.serviceAccount) == (self.type == 'ServiceAccount')",
    "message": "type ServiceAccount requires the field serviceAccount, which is not allowed with other types"
}, {
    "rule": "has(self.iam) == (self.type == 'Iam')",
    "message": "type Iam requires the field iam, which is not allowed with other types"
}, {
    "rule": "has(self.lambda) == (self.type == 'Lambda')",
    "message": "type Lambda requires the field lambda, which is not allowed with other types"
}]))]
pub struct AuthorizerSpec {
    /// The type; the field of the same name has the settings. `Jwt`: JSON Web Tokens, which the proxy verifies itself.
    /// `Cognito`: the same for Amazon Cognito user pools, with their rules for ID and access tokens. `Introspection`: tokens of
    /// every form, about which an endpoint of the authorization server decides. `ServiceAccount`: tokens of the cluster's
    /// ServiceAccounts. `Iam`: requests that a Principal of the
    /// Authorizer's namespace signed with AWS Signature Version 4. `Lambda`: a function of the user decides about
    /// each request. Example: `Jwt`.
    #[serde(rename = "type")]
    pub type_: AuthorizerType,
    /// JSON Web Tokens of OpenID Connect issuers. Required with type `Jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuthorizer>,
    /// Amazon Cognito user pools. Required with type `Cognito`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cognito: Option<CognitoAuthorizer>,
    /// Token introspection. Required with type `Introspection`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introspection: Option<IntrospectionAuthorizer>,
    /// ServiceAccounts of the cluster. Required with type `ServiceAccount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account: Option<ServiceAccountAuthorizer>,
    /// AWS Signature Version 4. Required with type `Iam`; `{}` for the values that its fields have when they are unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iam: Option<IamAuthorizer>,
    /// A function that decides. Required with type `Lambda`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lambda: Option<LambdaAuthorizer>,
}

/// The types of authorizers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthorizerType {
    /// Signed tokens (RFC 7519) of trusted issuers.
    Jwt,
    /// Signed tokens of Amazon Cognito user pools.
    Cognito,
    /// Tokens about which an endpoint decides (RFC 7662).
    Introspection,
    /// Signed tokens of ServiceAccounts of the cluster.
    ServiceAccount,
    /// Signed requests of Principals.
    Iam,
    /// Requests about which a function decides.
    Lambda,
}

/// How a JSON Web Token is found and verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JwtAuthorizer {
    /// The trusted issuers with their audiences. From 1 to 16.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["issuer"])
    )]
    pub issuers: Vec<JwtIssuer>,
    /// The accepted signature algorithms. Symmetric algorithms and `none` are not supported. Unset: `[RS256, ES256]`.
    #[serde(default = "default_algorithms")]
    #[schemars(length(min = 1, max = 9), extend("x-kubernetes-list-type" = "set"))]
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where requests carry the token; the first place that is present is used. Unset: the `authorization` header with scheme
    /// `Bearer`. From 1 to 4. Example: `[{header: x-id-token}]`.
    #[serde(default = "default_token_from")]
    #[schemars(length(min = 1, max = 4))]
    pub token_from: Vec<TokenFrom>,
    /// The tolerated difference between the clocks of issuer and proxy, for `exp`, `nbf` and `iat`. Unset: `60s`. Whole
    /// seconds, at most `5m`.
    #[serde(default = "default_clock_skew")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) <= duration('5m')",
        "message": "clockSkew must be at most 5m"
    }, {
        "rule": "!self.contains('ms')",
        "message": "clockSkew must be in whole seconds: do not use the unit ms"
    }]))]
    pub clock_skew: Duration,
    /// Claims that a token must have with exactly these values. A number or boolean is compared as text; if a claim is a list,
    /// one element must be equal. A claim inside of another has a path: `realm_access.roles`. Unset: none. At most 16.
    /// Example: `{email_verified: "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "claims_schema")]
    pub required_claims: BTreeMap<String, String>,
    /// The accepted types of tokens (RFC 8725, section 3.11): values of `typ` in the token's header, not case-sensitive and
    /// with or without `application/`. A token without `typ` is a `JWT`. Tokens of other types, such as `logout+jwt`, are
    /// rejected. Unset: `[JWT, at+jwt]`. From 1 to 8. Example: `[at+jwt]`.
    #[serde(default = "default_token_types")]
    #[schemars(
        length(min = 1, max = 8),
        inner(length(min = 1, max = 64), regex(pattern = crate::field::TOKEN_TYPE)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub token_types: Vec<String>,
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
    /// The value of the token's `alg`.
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

/// The observed state of an Authorizer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizerStatus {
    /// Accepted, ResolvedRefs and Programmed; Warnings while there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The most recent generation observed by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

fn default_algorithms() -> Vec<JwtAlgorithm> {
    vec![JwtAlgorithm::RS256, JwtAlgorithm::ES256]
}

fn default_token_types() -> Vec<String> {
    vec!["JWT".to_owned(), "at+jwt".to_owned()]
}
