//! Tokens of ServiceAccounts of the cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::token::{TokenFrom, default_clock_skew, default_token_from};
use crate::field::Duration;

/// Which tokens of ServiceAccounts are accepted. They are those that the cluster's API server issues; the operator reads its
/// issuer and keys, so that proxies need no permissions in the cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountAuthorizer {
    /// The accepted audiences: a token must have one of them. Clients request their tokens for one of them, with a projected
    /// volume or `kubectl create token --audience`. Do not list the audience of the API server: a backend that gets such a token
    /// could use it there. From 1 to 16. Example: `[shop.example.com]`.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 512)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub audiences: Vec<String>,
    /// Where requests carry the token; the first place that is present is used. Unset: the `authorization` header with scheme
    /// `Bearer`. From 1 to 4. Example: `[{header: x-token}]`.
    #[serde(default = "default_token_from")]
    #[schemars(length(min = 1, max = 4))]
    pub token_from: Vec<TokenFrom>,
    /// The tolerated difference between the clocks of API server and proxy, for `exp`, `nbf` and `iat`. Unset: `60s`. Whole
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
    /// Whether RBAC of the cluster must allow each call: the ServiceAccount needs the verb of the request's method, in lower
    /// case, for the resource `apiroutes/invoke` with the name of the ApiRoute. The operator asks the API server
    /// (SubjectAccessReview); a result is used for 10 s, and without one the request is rejected. Unset: `false`: each
    /// ServiceAccount with an accepted token may call.
    #[serde(default)]
    pub access_reviews: bool,
}
