//! Token introspection (RFC 7662): the endpoint, the gateway's client there, and which active tokens are accepted.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::token::{TokenFrom, claims_schema, default_token_from};
use crate::field::{Duration, HTTP_URL, PRINTABLE, VISIBLE};
use crate::reference::SecretKeyReference;

/// How a token is found, and the endpoint that decides whether it is active.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.audiences) && size(self.audiences) > 0) != self.anyAudience",
    "message": "introspection requires either audiences with at least one entry, or anyAudience: true"
}]))]
pub struct IntrospectionAuthorizer {
    /// The URL of the introspection endpoint. Proxies call it with each token that they do not remember.
    /// Example: `https://idp.example/oauth2/introspect`.
    #[schemars(length(min = 1, max = 1024), regex(pattern = HTTP_URL))]
    pub url: String,
    /// The gateway's client at the authorization server, with which the endpoint is called.
    pub client: IntrospectionClient,
    /// Where requests carry the token; the first place that is present is used. Unset: the `authorization` header with scheme
    /// `Bearer`. From 1 to 4. Example: `[{header: x-token}]`.
    #[serde(default = "default_token_from")]
    #[schemars(length(min = 1, max = 4))]
    pub token_from: Vec<TokenFrom>,
    /// The required value of `iss` in the response. Unset: `iss` is not looked at. At most 512 characters.
    /// Example: `https://idp.example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = VISIBLE))]
    pub issuer: Option<String>,
    /// The accepted audiences: one must be in `aud` of the response, or equal its `client_id` if there is no `aud`. Empty:
    /// allowed with `anyAudience: true` only. At most 50. Example: `[shop]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 50),
        inner(length(min = 1, max = 512)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub audiences: Vec<String>,
    /// Whether tokens for every audience, or for none, are accepted. Only for authorization servers whose tokens are all for
    /// this API, or whose endpoint reports only tokens for its caller as active. Unset: `false`.
    #[serde(default)]
    pub any_audience: bool,
    /// Members that the response must have with exactly these values. A number or boolean is compared as text; if a member is
    /// a list, one element must be equal. A member inside of another has a path: `realm_access.roles`. Unset: none. At
    /// most 16. Example: `{email_verified: "true"}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "claims_schema")]
    pub required_claims: BTreeMap<String, String>,
    /// For how long a proxy accepts a token without another call, at most until its `exp`: a token that is revoked is
    /// rejected after this time at the latest. `0s`: each request causes a call. Unset: `1m`. At most `1h`.
    #[serde(default = "default_result_ttl")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) <= duration('1h')",
        "message": "resultTtl must be at most 1h"
    }]))]
    pub result_ttl: Duration,
    /// The time for a call, including the connection. Requests are rejected when it has passed. Unset: `5s`. From `100ms` to
    /// `29s`.
    #[serde(default = "default_timeout")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('100ms') && duration(self) <= duration('29s')",
        "message": "timeout must be from 100ms to 29s"
    }]))]
    pub timeout: Duration,
}

/// A client of an authorization server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IntrospectionClient {
    /// The client id. At most 256 characters. Example: `shop-gateway`.
    #[schemars(length(min = 1, max = 256), regex(pattern = PRINTABLE))]
    pub id: String,
    /// The Secret with the client secret. Example: `{name: idp-client}`.
    pub secret: SecretKeyReference,
    /// How id and secret are sent (RFC 6749, section 2.3.1). `Basic`: in the header `authorization`, as each authorization
    /// server supports it; `Post`: in the form. Unset: `Basic`.
    #[serde(default)]
    pub authentication: ClientAuthentication,
}

/// How a client authenticates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuthentication {
    /// `client_secret_basic`: in the header `authorization`.
    #[default]
    Basic,
    /// `client_secret_post`: in the form.
    Post,
}

const fn default_result_ttl() -> Duration {
    Duration::from_secs(60)
}

const fn default_timeout() -> Duration {
    Duration::from_secs(5)
}
