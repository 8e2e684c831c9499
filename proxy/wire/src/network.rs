//! Networks whose clients a Stage or a rule accepts. The proxy compares the client's address with them.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// An IPv4 or IPv6 network. A network of IPv4-mapped IPv6 addresses is the IPv4 network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Why a text is not a network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNetworkError {
    /// It is none.
    #[error(
        "{0:?} is not a network: write an address and a prefix length, such as 10.0.0.0/8 or 2001:db8::/32, or one address"
    )]
    Syntax(String),
    /// Bits behind the prefix are set.
    #[error("{0} is not the first address of the network: write {1}, or {2} for one address")]
    HostBits(String, IpNet, IpAddr),
}

impl Network {
    /// As a network of the library.
    #[must_use]
    pub fn get(self) -> IpNet {
        self.0
    }
}

impl FromStr for Network {
    type Err = ParseNetworkError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || ParseNetworkError::Syntax(text.to_owned());
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(address.to_canonical().into()));
        }
        let network = text.parse::<IpNet>().map_err(|_| syntax())?;
        if network.addr() != network.network() {
            return Err(ParseNetworkError::HostBits(text.to_owned(), network.trunc(), network.addr()));
        }
        let IpNet::V6(mapped) = network else { return Ok(Self(network)) };
        let is_mapped = |address: Ipv6Addr| address.to_ipv4_mapped();
        match (is_mapped(mapped.network()), mapped.prefix_len().checked_sub(96)) {
            (Some(address), Some(length)) => {
                Ipv4Net::new(address, length).map(|network| Self(network.into())).map_err(|_| syntax())
            }
            _ => Ok(Self(network)),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl TryFrom<String> for Network {
    type Error = ParseNetworkError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

/// The clients that are accepted, by their address: those of `allow` (none: all), except those of `deny`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// None: every network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Network>,
    /// It takes precedence over `allow`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<Network>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_addresses_parse_to_one_form() {
        for (text, network) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("2001:DB8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
        ] {
            assert_eq!(text.parse::<Network>().unwrap().to_string(), network, "{text}");
        }
        for text in ["", "10.0.0.0/33", "10.0.0/8", "10.0.0.0/-1", "a/8", "::/129", "10.0.0.0/8/8", " 10.0.0.0/8", "*"]
        {
            assert!(matches!(text.parse::<Network>(), Err(ParseNetworkError::Syntax(_))), "{text}");
        }
        let error = "10.1.2.3/8".parse::<Network>().unwrap_err().to_string();
        assert_eq!(
            error,
            "10.1.2.3/8 is not the first address of the network: write 10.0.0.0/8, or 10.1.2.3 for one address"
        );
    }
}
