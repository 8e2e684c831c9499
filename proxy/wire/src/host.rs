//! Hostnames that a Stage claims: exact, or with `*.` for one or more labels in front. The proxy matches requests to them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A lower-case DNS name, or `*.` and a DNS name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostPattern {
    wildcard: bool,
    name: String,
}

/// Why a text is not a host pattern.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a host name: use a DNS name such as api.shop.example, or *.shop.example for its subdomains")]
pub struct ParseHostError(String);

impl HostPattern {
    /// Whether it starts with `*.`.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.wildcard
    }

    /// The name without `*.`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl FromStr for HostPattern {
    type Err = ParseHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let (wildcard, name) = lower.strip_prefix("*.").map_or((false, lower.as_str()), |rest| (true, rest));
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(ParseHostError(text.to_owned()));
        }
        Ok(Self { wildcard, name: name.to_owned() })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*." } else { "" }, self.name)
    }
}

impl TryFrom<String> for HostPattern {
    type Error = ParseHostError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<HostPattern> for String {
    fn from(host: HostPattern) -> Self {
        host.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_wildcards_parse_and_everything_else_is_rejected() {
        assert_eq!("API.Shop.example".parse::<HostPattern>().unwrap().to_string(), "api.shop.example");
        assert!("*.shop.example".parse::<HostPattern>().unwrap().is_wildcard());
        for bad in ["", "*", "a..b", "-a.b", "a_b", "a b", "*.*.a", "a.b:80", &"a".repeat(64)] {
            assert!(bad.parse::<HostPattern>().is_err(), "{bad}");
        }
    }
}
