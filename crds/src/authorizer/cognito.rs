//! Tokens of Amazon Cognito user pools.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::issuer::JwtIssuer;
use super::token::{TokenFrom, claims_schema, default_clock_skew};
use crate::field::{Duration, HTTP_URL, USER_POOL};

/// How tokens of Cognito user pools are found and verified. A rule without scopes accepts ID tokens; a rule with scopes accepts
/// access tokens with one of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CognitoAuthorizer {
    /// The trusted user pools. From 1 to 16.
    #[schemars(
        length(min = 1, max = 16),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"])
    )]
    pub user_pools: Vec<UserPool>,
    /// Where requests carry the token; the first place that is present is used. Unset: the `authorization` header, with or
    /// without scheme `Bearer`. From 1 to 4. Example: `[{header: x-id-token}]`.
    #[serde(default = "default_token_from")]
    #[schemars(length(min = 1, max = 4))]
    pub token_from: Vec<TokenFrom>,
    /// The tolerated difference between the clocks of user pool and proxy, for `exp`, `nbf` and `iat`. Unset: `60s`. Whole
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
    /// Claims that a token must have with exactly these values; if a claim is a list, one element must be equal. Unset: none.
    /// At most 16. Example: `{"cognito:groups": admins}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "claims_schema")]
    pub required_claims: BTreeMap<String, String>,
}

/// A user pool and its app clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.clientIds) && size(self.clientIds) > 0) != self.anyClient",
    "message": "a user pool requires either clientIds with at least one entry, or anyClient: true"
}]))]
pub struct UserPool {
    /// The id of the user pool; it begins with the region. At most 128 characters. Example: `eu-west-1_aBcDeFgHi`.
    #[schemars(length(min = 3, max = 128), regex(pattern = USER_POOL))]
    pub id: String,
    /// The ids of the app clients whose tokens are accepted. Empty: allowed with `anyClient: true` only. At most 50.
    /// Example: `[1h57kf5cpq17m0eml12EXAMPLE]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 50),
        inner(length(min = 1, max = 128)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub client_ids: Vec<String>,
    /// Whether the tokens of every app client of the pool are accepted, as AWS does. Unset: `false`.
    #[serde(default)]
    pub any_client: bool,
    /// The required value of the token's `iss`, for servers that are compatible with Cognito. Unset:
    /// `https://cognito-idp.REGION.amazonaws.com/ID`. At most 512 characters. Example: `http://cognito.test.svc:9229/local_pool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = HTTP_URL))]
    pub issuer: Option<String>,
    /// The URL of the pool's key set. Unset: `<issuer>/.well-known/jwks.json`.
    /// Example: `http://moto.test.svc:5000/eu-west-1_aBcDeFgHi/.well-known/jwks.json`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = HTTP_URL))]
    pub jwks_uri: Option<String>,
}

impl UserPool {
    /// The `iss` of its tokens.
    #[must_use]
    pub fn issuer(&self) -> String {
        self.issuer.clone().unwrap_or_else(|| {
            let region = self.id.split('_').next().unwrap_or_default();
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            format!("https://cognito-idp.{region}.{domain}/{}", self.id)
        })
    }

    /// The URL of its key set.
    #[must_use]
    pub fn jwks_uri(&self) -> String {
        self.jwks_uri
            .clone()
            .unwrap_or_else(|| format!("{}/.well-known/jwks.json", self.issuer().trim_end_matches('/')))
    }

    /// The pool as an issuer of tokens.
    #[must_use]
    pub fn as_issuer(&self) -> JwtIssuer {
        JwtIssuer {
            issuer: self.issuer(),
            audiences: self.client_ids.clone(),
            any_audience: self.any_client,
            jwks_uri: Some(self.jwks_uri()),
            jwks: None,
        }
    }
}

fn default_token_from() -> Vec<TokenFrom> {
    let mut places = super::token::default_token_from();
    places.push(TokenFrom { header: Some("authorization".to_owned()), ..TokenFrom::default() });
    places
}
