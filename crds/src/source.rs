//! The networks whose requests a Stage or a rule accepts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::NETWORK;

/// Which requests are accepted, by the address of the client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "size(self.allow) + size(self.deny) > 0",
    "message": "source requires a network in allow, deny or both"
}]))]
pub struct Source {
    /// The networks whose clients are accepted; other clients get 403. Each entry is an IPv4 or IPv6 network, or one address.
    /// Empty: every network. At most 256. Example: `[10.0.0.0/8, 2001:db8::/32, 203.0.113.7]`.
    #[serde(default)]
    #[schemars(
        length(max = 256),
        inner(length(min = 2, max = 49), regex(pattern = NETWORK)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow: Vec<String>,
    /// The networks whose clients get 403. It takes precedence over `allow`. Empty: none. At most 256.
    /// Example: `[10.66.0.0/16]`.
    #[serde(default)]
    #[schemars(
        length(max = 256),
        inner(length(min = 2, max = 49), regex(pattern = NETWORK)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub deny: Vec<String>,
}
