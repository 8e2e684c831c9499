//! The result of a translation: configuration parts and desired statuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_wire::{ObjectRef, Part, Parts};

use crate::translate::desired::DesiredStatus;

/// What a cluster state leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// The configuration of the proxies.
    pub parts: Parts<Arc<Part>>,
    /// What is to be said about each object.
    pub statuses: BTreeMap<ObjectRef, Arc<DesiredStatus>>,
}

impl Translation {
    /// Whether no object has a problem.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.statuses.values().all(|wanted| wanted.problems.is_empty())
    }
}
