//! The result of a translation: configuration parts and desired statuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_wire::{FleetName, ObjectRef, Part, Parts};

use crate::translate::desired::DesiredStatus;

/// The result of a translation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// All parts: what a proxy gets that serves every Stage.
    pub parts: Parts<Arc<Part>>,
    /// The configuration of each fleet that serves a Stage.
    pub fleets: BTreeMap<FleetName, Parts<Arc<Part>>>,
    /// The status that each object should have.
    pub statuses: BTreeMap<ObjectRef, Arc<DesiredStatus>>,
}

impl Translation {
    /// Every problem: kind of the object and reason.
    pub(crate) fn problems(&self) -> impl Iterator<Item = (&str, &str)> {
        let reasons =
            self.statuses.iter().flat_map(|(object, status)| status.problems.iter().map(move |one| (object, one)));
        reasons.map(|(object, reason)| (&*object.kind, *reason))
    }

    /// Whether no object has a problem.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.statuses.values().all(|desired| desired.problems.is_empty())
    }
}
