//! What is published: the configuration of each fleet, and the difference that a proxy is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use sluice_wire::{Content, Delta, FleetName, Hash, Part, Parts};

use crate::translate::{Statuses, Translation};

/// One configuration.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its version.
    pub version: Hash,
    /// Its parts.
    pub parts: Parts<Arc<Part>>,
}

impl Published {
    /// The configuration of these parts.
    #[must_use]
    pub fn new(parts: Parts<Arc<Part>>) -> Self {
        Self { version: parts.version(), parts }
    }

    /// How many bytes longer its parts are than those of `old`.
    pub(crate) fn growth(&self, old: &Parts<Arc<Part>>) -> i64 {
        let length =
            |part: Option<&Arc<Part>>| part.map_or(0, |part| i64::try_from(part.json.len()).unwrap_or(i64::MAX));
        let difference = self.parts.since(old);
        let grown: i64 =
            difference.changed.into_iter().map(|(name, part)| length(Some(part)) - length(old.get(name))).sum();
        grown - difference.removed.into_iter().map(|name| length(old.get(name))).sum::<i64>()
    }
}

/// The change from the configuration that a proxy has to another.
#[must_use]
pub fn delta<C: Content>(known: &Parts<C>, new: &Published) -> Delta {
    let difference = new.parts.since(known);
    Delta {
        base: if known.is_empty() { Hash::NONE } else { known.version() },
        version: new.version,
        upsert: difference.changed.into_values().map(|part| Part::clone(part)).collect(),
        remove: difference.removed.into_iter().cloned().collect(),
    }
}

/// The configuration of a fleet that serves no Stage.
static NOTHING: LazyLock<Published> = LazyLock::new(|| Published::new(Parts::new()));

/// The configurations of all fleets, and the statuses of the objects that they were translated from.
#[derive(Clone, Debug)]
pub struct Current {
    /// For the proxies, by fleet.
    pub fleets: BTreeMap<FleetName, Published>,
    /// For the users.
    pub statuses: Statuses,
}

impl From<Translation> for Current {
    fn from(translation: Translation) -> Self {
        let fleets = translation.fleets.into_iter().map(|(fleet, parts)| (fleet, Published::new(parts)));
        Self { fleets: fleets.collect(), statuses: translation.statuses }
    }
}

impl Current {
    /// The configuration of a fleet; one that serves no Stage has an empty configuration.
    #[must_use]
    pub fn of(&self, fleet: &FleetName) -> &Published {
        self.fleets.get(fleet).unwrap_or(&NOTHING)
    }
}

#[cfg(test)]
mod tests {
    use sluice_wire::{KeysPart, ObjectRef, PartBody, PartKind, PartName};

    use super::*;

    fn published(names: &[(&str, usize)]) -> Published {
        let part = |(name, count): &(&str, usize)| {
            let object = ObjectRef::new("ApiKey", "a", "b");
            let entry = sluice_wire::KeyEntry { object, customer: None, digest: Hash::NONE, plans: Vec::new() };
            let name = PartName::new(PartKind::Keys, *name);
            (name.clone(), Arc::new(Part::new(name, &PartBody::Keys(KeysPart { keys: vec![entry; *count] }))))
        };
        Published::new(names.iter().map(part).collect())
    }

    #[test]
    fn a_delta_holds_what_changed_and_names_what_is_gone() {
        let (old, new) = (published(&[("a", 1), ("b", 1), ("c", 1)]), published(&[("a", 1), ("b", 2), ("d", 1)]));
        let delta = delta(&old.parts, &new);
        assert_eq!((delta.base, delta.version), (old.version, new.version));
        let names: Vec<String> = delta.upsert.iter().map(|part| part.name.to_string()).collect();
        assert_eq!(names, ["keys/b", "keys/d"]);
        assert_eq!(delta.remove, [PartName::new(PartKind::Keys, "c")]);
    }

    #[test]
    fn a_first_delta_replaces_everything_and_one_in_step_is_empty() {
        let new = published(&[("a", 1)]);
        let first = delta(&Parts::<Hash>::new(), &new);
        assert_eq!((first.base, first.upsert.len()), (Hash::NONE, 1));
        let none = delta(&new.parts, &new);
        assert!(none.upsert.is_empty() && none.remove.is_empty() && none.base == none.version);
    }
}
