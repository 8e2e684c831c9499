//! Which objects are watched by name: each one as long as an object names it that may refer to it. What permits a reference to
//! another namespace is decided by the caller; the watches themselves are started and stopped by `manager`.

use std::collections::{BTreeMap, BTreeSet};

use crate::objects::{Kind, ObjectKey};

/// An object.
type Id = (Kind, ObjectKey);

/// The objects that others name, and those of them that are watched.
#[derive(Debug, Default)]
pub(super) struct NamedObjects {
    /// By the object that names them, whether it may refer to them or not.
    names: BTreeMap<Id, BTreeSet<Id>>,
    /// The objects that name objects of another namespace, by that namespace.
    foreign: BTreeMap<String, BTreeSet<Id>>,
    /// The watched objects, each with the objects that name it and may refer to it.
    watched: BTreeMap<Id, BTreeSet<Id>>,
}

/// How the watches have to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WatchChanges {
    pub(super) begin: BTreeSet<Id>,
    pub(super) end: BTreeSet<Id>,
}

impl NamedObjects {
    /// Replaces the objects that `owner` names. `permits(owner, named)` decides about those of other namespaces.
    pub(super) fn replace(
        &mut self,
        owner: &Id,
        now: BTreeSet<Id>,
        permits: impl Fn(&Id, &Id) -> bool,
    ) -> WatchChanges {
        let before = self.names.remove(owner).unwrap_or_default();
        for namespace in before.iter().map(|(_, key)| &key.namespace).filter(|name| **name != owner.1.namespace) {
            if let Some(owners) = self.foreign.get_mut(namespace) {
                owners.remove(owner);
                if owners.is_empty() {
                    self.foreign.remove(namespace);
                }
            }
        }
        for (_, key) in now.iter().filter(|(_, key)| key.namespace != owner.1.namespace) {
            self.foreign.entry(key.namespace.clone()).or_default().insert(owner.clone());
        }
        let mut changes = WatchChanges::default();
        for named in before.union(&now) {
            let may = now.contains(named) && may_refer(owner, named, &permits);
            self.set(owner, named, may, &mut changes);
        }
        if !now.is_empty() {
            self.names.insert(owner.clone(), now);
        }
        changes
    }

    /// Decides again about the references to a namespace, whose permissions have changed.
    pub(super) fn recheck(&mut self, namespace: &str, permits: impl Fn(&Id, &Id) -> bool) -> WatchChanges {
        let owners = self.foreign.get(namespace).cloned().unwrap_or_default();
        let mut changes = WatchChanges::default();
        for owner in &owners {
            let names = self.names.get(owner).into_iter().flatten();
            for named in names.filter(|(_, key)| key.namespace == namespace).cloned().collect::<Vec<_>>() {
                self.set(owner, &named, may_refer(owner, &named, &permits), &mut changes);
            }
        }
        changes
    }

    /// Records whether `owner` has `named` watched.
    fn set(&mut self, owner: &Id, named: &Id, may: bool, changes: &mut WatchChanges) {
        if may {
            let owners = self.watched.entry(named.clone()).or_default();
            if owners.is_empty() && !changes.end.remove(named) {
                changes.begin.insert(named.clone());
            }
            owners.insert(owner.clone());
            return;
        }
        let Some(owners) = self.watched.get_mut(named) else { return };
        owners.remove(owner);
        if owners.is_empty() {
            self.watched.remove(named);
            if !changes.begin.remove(named) {
                changes.end.insert(named.clone());
            }
        }
    }
}

/// An object may refer to each object of the same namespace without a grant.
fn may_refer(owner: &Id, named: &Id, permits: &impl Fn(&Id, &Id) -> bool) -> bool {
    owner.1.namespace == named.1.namespace || permits(owner, named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(namespace: &str, name: &str) -> Id {
        (Kind::Stage, ObjectKey::new(namespace, name))
    }

    fn secret(namespace: &str, name: &str) -> Id {
        (Kind::Secret, ObjectKey::new(namespace, name))
    }

    fn changes(begin: &[&Id], end: &[&Id]) -> WatchChanges {
        let all = |ids: &[&Id]| ids.iter().map(|id| (*id).clone()).collect();
        WatchChanges { begin: all(begin), end: all(end) }
    }

    fn none(_: &Id, _: &Id) -> bool {
        false
    }

    fn all(_: &Id, _: &Id) -> bool {
        true
    }

    #[test]
    fn an_object_of_another_namespace_is_watched_while_a_reference_to_it_is_permitted() {
        let mut named = NamedObjects::default();
        let (own, other) = (secret("shop", "tls"), secret("shared", "tls"));
        let names = BTreeSet::from([own.clone(), other.clone()]);
        let owner = stage("shop", "prod");
        assert_eq!(named.replace(&owner, names.clone(), none), changes(&[&own], &[]));
        assert_eq!(named.recheck("third", all), changes(&[], &[]));
        assert_eq!(named.recheck("shared", all), changes(&[&other], &[]));
        assert_eq!(named.recheck("shared", all), changes(&[], &[]));
        assert_eq!(named.replace(&owner, names.clone(), none), changes(&[], &[&other]));
        assert_eq!(named.replace(&owner, names, all), changes(&[&other], &[]));
        assert_eq!(named.recheck("shared", none), changes(&[], &[&other]));
        assert_eq!(named.replace(&owner, BTreeSet::new(), all), changes(&[], &[&own]));
        assert!(named.names.is_empty() && named.foreign.is_empty() && named.watched.is_empty());
    }

    #[test]
    fn a_watch_lasts_as_long_as_one_of_several_objects_may_refer_to_its_object() {
        let mut named = NamedObjects::default();
        let tls = secret("shared", "tls");
        let names = BTreeSet::from([tls.clone()]);
        let (own, first, second) = (stage("shared", "own"), stage("shop", "a"), stage("shop", "b"));
        let of_second = |owner: &Id, _: &Id| owner.1.name == "b";
        assert_eq!(named.replace(&first, names.clone(), none), changes(&[], &[]));
        assert_eq!(named.replace(&second, names.clone(), none), changes(&[], &[]));
        assert_eq!(named.recheck("shared", of_second), changes(&[&tls], &[]));
        assert_eq!(named.replace(&own, names, none), changes(&[], &[]));
        assert_eq!(named.recheck("shared", none), changes(&[], &[]), "the namespace itself names it");
        assert_eq!(named.replace(&own, BTreeSet::new(), none), changes(&[], &[&tls]));
        assert_eq!(named.recheck("shared", all), changes(&[&tls], &[]));
        assert_eq!(named.replace(&first, BTreeSet::new(), all), changes(&[], &[]));
        assert_eq!(named.replace(&second, BTreeSet::new(), all), changes(&[], &[&tls]));
    }
}
