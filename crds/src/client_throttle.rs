//! The throttle of single clients, by their addresses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{Duration, default_per};

/// A rate limit for each client: a token bucket for each address, or for each network of a given size. A request takes one
/// token; without a token it is rejected with 429.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientThrottle {
    /// The number of requests allowed to one client in each period. From 1 to 1000000. Example: `10`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rate: u32,
    /// The length of the period. Unset: `1s`. From `1s` to `24h`. Example: `1m`.
    #[serde(default = "default_per")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('1s') && duration(self) <= duration('24h')",
        "message": "per must be from 1s to 24h"
    }]))]
    pub per: Duration,
    /// The number of requests of one client that may arrive at once before the rate applies. From 1 to 1000000. Example: `20`.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// The number of leading bits by which IPv4 clients are distinguished: with `24`, the addresses of a /24 network share a
    /// bucket. Unset: `32`. From 8 to 32.
    #[serde(default = "default_ipv4_prefix")]
    #[schemars(range(min = 8, max = 32))]
    pub ipv4_prefix: u8,
    /// The same for IPv6 clients, which often have a whole /64 network each. Unset: `64`. From 16 to 128.
    #[serde(default = "default_ipv6_prefix")]
    #[schemars(range(min = 16, max = 128))]
    pub ipv6_prefix: u8,
}

const fn default_ipv4_prefix() -> u8 {
    32
}

const fn default_ipv6_prefix() -> u8 {
    64
}
