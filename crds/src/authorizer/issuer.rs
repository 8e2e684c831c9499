//! Issuers of JSON Web Tokens, and where their keys are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::HTTP_URL;
use crate::reference::KeyReference;

/// One issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.audiences) && size(self.audiences) > 0) != self.anyAudience",
    "message": "an issuer requires either audiences with at least one entry, or anyAudience: true"
}, {
    "rule": "!(has(self.jwksUri) && has(self.jwks))",
    "message": "set either jwksUri or jwks, not both"
}, {
    "rule": "has(self.jwksUri) || has(self.jwks) || self.issuer.startsWith('https://') || self.issuer.startsWith('http://')",
    "message": "an issuer that is not an http or https URL has no discovery document: add jwksUri or jwks"
}]))]
pub struct JwtIssuer {
    /// The required value of the token's `iss`. At most 512 characters. Example: `https://idp.example`.
    #[schemars(length(min = 1, max = 512), regex(pattern = crate::field::VISIBLE))]
    pub issuer: String,
    /// The accepted audiences: one must be in the token's `aud`, or equal its `client_id` if there is no `aud`. Empty: allowed
    /// with `anyAudience: true` only. At most 50. Example: `[shop]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 50),
        inner(length(min = 1, max = 512)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub audiences: Vec<String>,
    /// Whether tokens for every audience, or for none, are accepted: also those that the issuer made for other APIs. Only for
    /// issuers whose tokens are all for this API. Unset: `false`.
    #[serde(default)]
    pub any_audience: bool,
    /// The URL of the issuer's key set. Not allowed with `jwks`. Unset, and without `jwks`: the URL in the discovery document
    /// at `<issuer>/.well-known/openid-configuration`. Example: `https://idp.example/keys`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = HTTP_URL))]
    pub jwks_uri: Option<String>,
    /// A key set in the cluster, for issuers that proxies cannot reach. Unset: keys are fetched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JwksSource>,
}

/// A JSON Web Key Set in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.configMap) == (self.type == 'ConfigMap')",
    "message": "type ConfigMap requires the field configMap, which is not allowed with other types"
}, {
    "rule": "has(self.secret) == (self.type == 'Secret')",
    "message": "type Secret requires the field secret, which is not allowed with other types"
}]))]
pub struct JwksSource {
    /// The kind of the object with the key set. Example: `ConfigMap`.
    #[serde(rename = "type")]
    pub type_: JwksSourceType,
    /// The ConfigMap and its data key. Required with type `ConfigMap`. Example: `{name: idp-keys}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<KeyReference>,
    /// The Secret and its data key. Required with type `Secret`. Example: `{name: idp-keys}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<KeyReference>,
}

/// The kind of object that has a key set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum JwksSourceType {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}
