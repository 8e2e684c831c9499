//! Diagnostics of a configuration: which objects cannot be served as written, and why.

use std::collections::BTreeMap;

use sluice_wire::{Diagnostic, ObjectRef, PartName};

/// What cannot be served as written, by what was compiled when it was found.
#[derive(Default)]
pub(super) struct Diagnostics {
    /// Of parts that cannot be read or used.
    pub(super) unreadable: BTreeMap<PartName, Vec<Diagnostic>>,
    /// Of routes, at their stages.
    pub(super) rules: BTreeMap<(PartName, PartName), Vec<Diagnostic>>,
    /// Of routes that call an unknown Service.
    pub(super) missing: BTreeMap<PartName, Vec<Diagnostic>>,
    pub(super) certificates: Vec<Diagnostic>,
}

impl Diagnostics {
    /// All of them, in order.
    pub(super) fn all(&self) -> Vec<Diagnostic> {
        let mut all: Vec<Diagnostic> = self.unreadable.values().flatten().cloned().collect();
        all.extend(self.certificates.iter().cloned());
        all.extend(self.rules.values().chain(self.missing.values()).flatten().cloned());
        all.sort();
        all.dedup();
        all
    }
}

/// A diagnostic of one object.
pub(super) fn diagnostic(object: &ObjectRef, message: String) -> Diagnostic {
    Diagnostic { object: object.clone(), message }
}
