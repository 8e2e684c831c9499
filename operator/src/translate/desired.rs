//! The status that an object should have, as far as translation knows it. What the connected proxies add to it is
//! decided by `publish`; `report` writes it.

use std::collections::BTreeSet;
use std::fmt;

use sluice_crds::condition;
use sluice_wire::PartName;

/// What is to be said about an object, apart from what only the fleet knows.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredStatus {
    /// `Accepted` and `ResolvedRefs`.
    pub conditions: Vec<condition::Wanted>,
    /// The generation that was judged.
    pub generation: Option<i64>,
    /// The parts that a proxy must have as [`Translation::parts`] has them (not at all, if it has them not) to run this
    /// generation.
    pub parts: BTreeSet<PartName>,
    /// Whether the proxies were given anything for this object to run.
    pub served: Served,
    /// What the kind's status says besides.
    pub detail: Detail,
    /// The reasons of its problems.
    pub problems: Vec<&'static str>,
}

/// Whether anything of an object reaches the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Something does, or there is nothing that should.
    Yes,
    /// The object's problems leave nothing to serve.
    Nothing,
}

/// What the status of some kinds says besides conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Of a Stage: how many rules it serves.
    Stage {
        /// Rules of ApiRoutes.
        routes: usize,
    },
    /// Of an ApiKey.
    ApiKey {
        /// How the key begins.
        prefix: Option<String>,
        /// The Secret that holds it.
        secret: String,
        /// Whether the operator must make that Secret.
        must_generate: bool,
    },
}

/// As one line for people.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Stage { routes: 1 } => f.write_str("1 rule"),
            Self::Stage { routes } => write!(f, "{routes} rules"),
            Self::ApiKey { prefix: Some(prefix), secret, .. } => write!(f, "{prefix} in Secret {secret}"),
            Self::ApiKey { prefix: None, secret, .. } => write!(f, "Secret {secret}"),
        }
    }
}
