//! What is watched, and what watches report.

use crate::objects::{Kind, Object, ObjectKey};

/// What is watched: all objects of a kind, or one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    All(Kind),
    One(Kind, ObjectKey),
}

impl Scope {
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::All(kind) | Self::One(kind, _) => *kind,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All(kind) => write!(f, "all objects of kind {kind}"),
            Self::One(kind, key) => write!(f, "{kind} {key}"),
        }
    }
}

/// A change that a watch reports. The number distinguishes it from an earlier watch of the same scope.
pub(super) struct WatchEvent {
    pub(super) scope: Scope,
    pub(super) watch: u64,
    pub(super) change: Change,
}

pub(super) enum Change {
    /// A complete list.
    All(Vec<Object>),
    /// An object was created or changed.
    Apply(Box<Object>),
    /// An object was deleted.
    Delete(ObjectKey),
    /// The API server does not serve the kind: it has no objects.
    NotServed,
    /// A list or watch failed.
    Failed(Failure),
}

/// How a watch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The API server rejects the request: the operator may not read the object, or its kind is not served.
    Denied,
    /// The API server responds with another error.
    ErrorResponse,
    /// There is no response.
    NoResponse,
}
