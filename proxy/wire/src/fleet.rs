//! The name of a fleet: proxies that serve the same Stages and share each limit.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a fleet, a DNS label.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FleetName(Arc<str>);

/// The longest name of a fleet, as that of a DNS label.
const MAX_LENGTH: usize = 63;

/// The text cannot name a fleet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a name of a fleet: write 1 to {MAX_LENGTH} lower-case letters, digits and hyphens, beginning and \
     ending with a letter or digit"
)]
pub struct ParseFleetError(String);

impl FleetName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for FleetName {
    /// The fleet of Stages and proxies that name none.
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FleetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FleetName({self})")
    }
}

impl FromStr for FleetName {
    type Err = ParseFleetError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = (1..=MAX_LENGTH).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !text.starts_with('-')
            && !text.ends_with('-');
        if valid { Ok(Self(text.into())) } else { Err(ParseFleetError(text.chars().take(MAX_LENGTH).collect())) }
    }
}

impl TryFrom<String> for FleetName {
    type Error = ParseFleetError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<FleetName> for String {
    fn from(name: FleetName) -> Self {
        name.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_named_by_a_dns_label() {
        for good in ["default", "a", "edge-1", "0", &"a".repeat(63)] {
            assert_eq!(good.parse::<FleetName>().unwrap().as_str(), good);
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a/b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<FleetName>().is_err(), "{bad}");
        }
    }
}
