//! Finds the objects that changed since the last translation. `incremental` decides which nodes are translated again.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cluster_state::{CLUSTER_ISSUER, ClusterState, Stored};
use crate::objects::{Kind, ObjectKey, for_kind};
use crate::translate::view::Source;

/// The cluster state of the last translation.
#[derive(Default)]
pub(crate) struct ChangeTracker(ClusterState);

impl ChangeTracker {
    /// Stores the new state and returns the objects whose translation may differ, among those that may have changed (None:
    /// all objects).
    pub(crate) fn catch_up(&mut self, now: &ClusterState, among: Option<&BTreeSet<Source>>) -> BTreeSet<Source> {
        let mut differs = BTreeSet::new();
        if self.0.issuer != now.issuer {
            self.0.issuer.clone_from(&now.issuer);
            differs.insert(CLUSTER_ISSUER.clone());
        }
        match among {
            Some(among) => among.iter().for_each(|(kind, key)| self.object(now, *kind, key, &mut differs)),
            None => {
                let unknown: BTreeSet<Source> = self.0.unknown.union(&now.unknown).cloned().collect();
                unknown.iter().for_each(|(kind, key)| self.object(now, *kind, key, &mut differs));
                for kind in Kind::ALL.iter().copied() {
                    let keys: BTreeSet<ObjectKey> = self.0.keys(kind).into_iter().chain(now.keys(kind)).collect();
                    keys.iter().for_each(|key| self.object(now, kind, key, &mut differs));
                }
            }
        }
        differs
    }

    fn object(&mut self, now: &ClusterState, kind: Kind, key: &ObjectKey, differs: &mut BTreeSet<Source>) {
        for_kind!(kind, K => self.replace::<K>(now, key, differs));
        let id = (kind, key.clone());
        if self.unreadable(now, &id) {
            differs.insert(id);
        }
    }

    /// Whether an object became parsable or known, or the opposite, or has another error. Stores that too.
    fn unreadable(&mut self, now: &ClusterState, id: &Source) -> bool {
        let seen = &mut self.0;
        let unparsable = seen.unparsable.get(id) != now.unparsable.get(id);
        if unparsable {
            match now.unparsable.get(id) {
                Some(why) => drop(seen.unparsable.insert(id.clone(), why.clone())),
                None => drop(seen.unparsable.remove(id)),
            }
        }
        let unknown = seen.unknown.contains(id) != now.unknown.contains(id);
        if unknown && !seen.unknown.remove(id) {
            seen.unknown.insert(id.clone());
        }
        unparsable || unknown
    }

    /// Stores one object. An object of a group changes the group that it is in now and the one that it was in before.
    fn replace<K: Stored>(&mut self, now: &ClusterState, key: &ObjectKey, differs: &mut BTreeSet<Source>) {
        let (before, after) = (self.0.store::<K>().get(key), now.store::<K>().get(key));
        let groups = [before, after].map(|object| object.and_then(|object| object.group()));
        let same = match (before, after) {
            (None, None) => true,
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || (old.same(new) && groups[0] == groups[1]),
            _ => false,
        };
        if !same {
            let groups = groups.into_iter().flatten().map(|group| (K::KIND, group));
            differs.extend(groups);
            differs.insert((K::KIND, key.clone()));
        }
        self.0.take_over::<K>(key, now);
    }
}
