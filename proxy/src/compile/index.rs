//! Index of the routes by stage, authorizer and upstream, so that a change finds the routes that it affects without a scan.

use std::collections::{BTreeMap, BTreeSet};

use sluice_wire::{ObjectRef, PartName, RoutePart};

/// References between routes and other parts.
#[derive(Default)]
pub(super) struct Index {
    routes: BTreeMap<PartName, RouteEntry>,
    /// Routes by the parts that they reference.
    by: BTreeMap<PartName, BTreeSet<PartName>>,
}

struct RouteEntry {
    object: ObjectRef,
    stages: Vec<PartName>,
    uses: BTreeSet<PartName>,
}

impl Index {
    /// Adds a route and returns the stages that it was and is attached to.
    pub(super) fn insert(&mut self, name: &PartName, route: &RoutePart) -> BTreeSet<PartName> {
        let mut touched = self.remove(name);
        touched.extend(route.stages.iter().cloned());
        let entry = RouteEntry {
            object: route.object.clone(),
            stages: route.stages.clone(),
            uses: route.uses().cloned().collect(),
        };
        for other in entry.stages.iter().chain(&entry.uses) {
            self.by.entry(other.clone()).or_default().insert(name.clone());
        }
        self.routes.insert(name.clone(), entry);
        touched
    }

    /// Removes a route and returns the stages that it was attached to.
    pub(super) fn remove(&mut self, name: &PartName) -> BTreeSet<PartName> {
        let Some(old) = self.routes.remove(name) else { return BTreeSet::new() };
        for other in old.stages.iter().chain(&old.uses) {
            if let Some(routes) = self.by.get_mut(other) {
                routes.remove(name);
                if routes.is_empty() {
                    self.by.remove(other);
                }
            }
        }
        old.stages.into_iter().collect()
    }

    /// A route's object and the parts that it references.
    pub(super) fn get(&self, name: &PartName) -> Option<(&ObjectRef, impl Iterator<Item = &PartName>)> {
        self.routes.get(name).map(|entry| (&entry.object, entry.uses.iter()))
    }

    /// The stages of a route.
    pub(super) fn stages(&self, name: &PartName) -> &[PartName] {
        self.routes.get(name).map_or(&[], |entry| &entry.stages)
    }

    /// The routes of a stage.
    pub(super) fn attached(&self, stage: &PartName) -> impl Iterator<Item = &PartName> {
        self.by.get(stage).into_iter().flatten()
    }

    /// The routes that use an authorizer or call an upstream.
    pub(super) fn users(&self, used: &PartName) -> impl Iterator<Item = &PartName> {
        self.by.get(used).into_iter().flatten()
    }
}
