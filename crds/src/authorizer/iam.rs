//! AWS Signature Version 4: which signatures are accepted. The callers are Principals.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{AWS_SERVICE, Duration, REGION};

/// Which signatures are accepted. The callers are the Principals of the Authorizer's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IamAuthorizer {
    /// The regions that clients may sign for. Clients use the region of their own settings; AWS requires the one of the API.
    /// Unset: `[us-east-1]`. From 1 to 16. Example: `[eu-west-1, eu-central-1]`.
    #[serde(default = "default_regions")]
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 32), regex(pattern = REGION)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub regions: Vec<String>,
    /// The service that clients sign for. Unset: `execute-api`, as for API Gateway. At most 64 characters.
    /// Example: `execute-api`.
    #[serde(default = "default_service")]
    #[schemars(length(min = 1, max = 64), regex(pattern = AWS_SERVICE))]
    pub service: String,
    /// The tolerated difference between the time of a request (`X-Amz-Date`) and the clock of the proxy. Within it a request
    /// that was recorded on its way can be sent again. Unset: `5m`, as for AWS. Whole seconds, from `1s` to `15m`.
    #[serde(default = "default_clock_skew")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1s') && duration(self) <= duration('15m')",
        "message": "clockSkew must be from 1s to 15m"
    }, {
        "rule": "!self.contains('ms')",
        "message": "clockSkew must be in whole seconds: do not use the unit ms"
    }]))]
    pub clock_skew: Duration,
    /// Requests whose signature does not cover the body (`X-Amz-Content-Sha256: UNSIGNED-PAYLOAD`). `Reject`: they are rejected. `Allow`: who
    /// can change a request on its way can change its body. Unset: `Reject`.
    #[serde(default)]
    pub unsigned_payload: UnsignedPayload,
    /// Requests with temporary credentials, which have a session token. `Allow`: those of roles are accepted (`trust` of Principals).
    /// `Reject`: only access keys of Principals are. Unset: `Allow`.
    #[serde(default)]
    pub session_tokens: SessionTokens,
}

/// What happens to requests with temporary credentials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum SessionTokens {
    /// They are accepted.
    #[default]
    Allow,
    /// They are rejected.
    Reject,
}

/// What happens to requests whose signature does not cover the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum UnsignedPayload {
    /// They are rejected.
    #[default]
    Reject,
    /// They are accepted.
    Allow,
}

fn default_regions() -> Vec<String> {
    vec!["us-east-1".to_owned()]
}

fn default_service() -> String {
    "execute-api".to_owned()
}

const fn default_clock_skew() -> Duration {
    Duration::from_secs(300)
}
