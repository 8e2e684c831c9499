//! The result of a translation: configuration parts and desired statuses.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_wire::{FleetName, Part, Parts};

use crate::translate::statuses::Statuses;

/// The result of a translation.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// All parts: what a proxy gets that serves every Stage.
    pub parts: Parts<Arc<Part>>,
    /// The configuration of each fleet that serves a Stage.
    pub fleets: BTreeMap<FleetName, Parts<Arc<Part>>>,
    /// The status that each object should have.
    pub statuses: Statuses,
}

impl Translation {
    /// Whether no object has a problem.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.statuses.are_clean()
    }
}
