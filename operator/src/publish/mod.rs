//! The current configuration and how it reaches the fleet. What it is made of is `translate`'s; what is said about it in
//! statuses is `report`'s.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_wire::{Delta, Hash, ObjectRef, Part, PartName, version_of};
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::translate::{Translation, Wanted};

mod fleet;
pub mod server;
mod session;
mod subscriber;

pub use fleet::{Fleet, Member, Programmed, programmed};
pub use subscriber::{Account, Admission};

/// One configuration.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its version.
    pub version: Hash,
    /// Its parts.
    pub parts: BTreeMap<PartName, Arc<Part>>,
    /// The hashes of its parts.
    pub hashes: Arc<BTreeMap<PartName, Hash>>,
}

impl Published {
    /// The configuration of these parts.
    #[must_use]
    pub fn new(parts: BTreeMap<PartName, Arc<Part>>) -> Self {
        let hashes: BTreeMap<PartName, Hash> = parts.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
        Self { version: version_of(&hashes), parts, hashes: Arc::new(hashes) }
    }

    /// The size of its parts.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.parts.values().map(|part| part.json.len()).sum()
    }
}

/// The change from what a proxy has to a configuration.
#[must_use]
pub fn delta(known: &BTreeMap<PartName, Hash>, new: &Published) -> Delta {
    let base = if known.is_empty() { Hash::NONE } else { version_of(known) };
    let changed = new.parts.iter().filter(|(name, part)| known.get(*name) != Some(&part.hash));
    Delta {
        base,
        version: new.version,
        upsert: changed.map(|(_, part)| Part::clone(part)).collect(),
        remove: known.keys().filter(|name| !new.parts.contains_key(*name)).cloned().collect(),
    }
}

/// A configuration and what is to be said about the objects it came from.
#[derive(Clone, Debug)]
pub struct Current {
    /// For the proxies.
    pub published: Published,
    /// For the users.
    pub statuses: BTreeMap<ObjectRef, Arc<Wanted>>,
}

/// Where the current configuration is put; none before the first.
#[derive(Clone, Debug)]
pub struct Publisher {
    current: watch::Sender<Option<Arc<Current>>>,
    metrics: Metrics,
}

impl Publisher {
    /// Nothing is published yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { current: watch::Sender::new(None), metrics }
    }

    /// Follows the current configuration.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Current>>> {
        self.current.subscribe()
    }

    /// Publishes a translation.
    pub fn publish(&self, translation: Translation) {
        let published = Published::new(translation.parts);
        let before = self.current.borrow().as_ref().map(|current| current.published.version);
        if before != Some(published.version) {
            self.metrics.published(&published.version.short(), published.bytes());
            tracing::info!(
                config.version = published.version.short(),
                config.parts = published.parts.len(),
                "published"
            );
        }
        self.current.send_replace(Some(Arc::new(Current { published, statuses: translation.statuses })));
    }
}

#[cfg(test)]
mod tests {
    use sluice_wire::{KeysPart, PartBody, PartKind};

    use super::*;

    fn published(names: &[(&str, usize)]) -> Published {
        let part = |(name, count): &(&str, usize)| {
            let object = ObjectRef::new("ApiKey", "a", "b");
            let entry = sluice_wire::KeyEntry { object, digest: Hash::NONE, plans: Vec::new() };
            let name = PartName::new(PartKind::Keys, *name);
            (name.clone(), Arc::new(Part::new(name, &PartBody::Keys(KeysPart { keys: vec![entry; *count] }))))
        };
        Published::new(names.iter().map(part).collect())
    }

    #[test]
    fn a_delta_holds_what_changed_and_names_what_is_gone() {
        let (old, new) = (published(&[("a", 1), ("b", 1), ("c", 1)]), published(&[("a", 1), ("b", 2), ("d", 1)]));
        let delta = delta(&old.hashes, &new);
        assert_eq!((delta.base, delta.version), (old.version, new.version));
        let names: Vec<String> = delta.upsert.iter().map(|part| part.name.to_string()).collect();
        assert_eq!(names, ["keys/b", "keys/d"]);
        assert_eq!(delta.remove, [PartName::new(PartKind::Keys, "c")]);
    }

    #[test]
    fn a_first_delta_replaces_everything_and_one_in_step_is_empty() {
        let new = published(&[("a", 1)]);
        let first = delta(&BTreeMap::new(), &new);
        assert_eq!((first.base, first.upsert.len()), (Hash::NONE, 1));
        let none = delta(&new.hashes, &new);
        assert!(none.upsert.is_empty() && none.remove.is_empty() && none.base == none.version);
    }
}
