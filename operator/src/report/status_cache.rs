//! The objects in the cluster with their observed statuses, and which of them changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_wire::ObjectRef;
use tokio::sync::watch;

use crate::cluster_state::ClusterState;
use crate::objects::{Kind, Object, ObjectKey};

/// The objects in the cluster.
#[derive(Clone, Debug, Default)]
pub struct StatusCache {
    objects: Arc<Mutex<Objects>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Objects {
    all: BTreeMap<ObjectRef, Object>,
    /// Changed objects that are not processed yet.
    changed: BTreeSet<ObjectRef>,
    /// Why keys cannot be generated.
    failed_keys: BTreeMap<ObjectRef, String>,
}

impl StatusCache {
    fn lock(&self) -> MutexGuard<'_, Objects> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Stores the changes of the cluster state.
    pub fn update(&self, state: &ClusterState, changed: &BTreeSet<(Kind, ObjectKey)>) {
        let mut own = changed.iter().filter(|(kind, _)| kind.is_own()).peekable();
        if own.peek().is_none() {
            return;
        }
        {
            let mut objects = self.lock();
            for (kind, key) in own {
                let found = state.object(*kind, key);
                let object = kind.object(key);
                match found {
                    Some(found) => drop(objects.all.insert(object.clone(), found)),
                    None => drop(objects.all.remove(&object)),
                }
                objects.changed.insert(object);
            }
        }
        self.notify();
    }

    /// Stores or removes the reason why a key cannot be generated.
    pub(crate) fn key_failed(&self, object: &ObjectRef, why: Option<String>) {
        {
            let mut objects = self.lock();
            if objects.failed_keys.get(object) == why.as_ref() {
                return;
            }
            match why {
                Some(why) => drop(objects.failed_keys.insert(object.clone(), why)),
                None => drop(objects.failed_keys.remove(object)),
            }
            objects.changed.insert(object.clone());
        }
        self.notify();
    }

    /// Why the key of an ApiKey cannot be generated.
    pub(crate) fn key_failure(&self, object: &ObjectRef) -> Option<String> {
        self.lock().failed_keys.get(object).cloned()
    }

    /// One object.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<Object> {
        self.lock().all.get(object).cloned()
    }

    /// The number of objects.
    pub(crate) fn len(&self) -> usize {
        self.lock().all.len()
    }

    /// The changes since the last call.
    pub(crate) fn take_changed(&self) -> BTreeSet<ObjectRef> {
        let mut objects = self.lock();
        let Objects { all, changed, failed_keys } = &mut *objects;
        failed_keys.retain(|object, _| all.contains_key(object));
        std::mem::take(changed)
    }

    /// Resolves after a change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_of_other_kinds_wake_no_task() {
        let live = StatusCache::default();
        let mut changes = live.changes();
        changes.mark_unchanged();
        let key = ObjectKey::new("shop", "orders");
        live.update(&ClusterState::default(), &BTreeSet::from([(Kind::EndpointSlice, key.clone())]));
        assert!(!changes.has_changed().unwrap());
        live.update(&ClusterState::default(), &BTreeSet::from([(Kind::ApiRoute, key)]));
        assert!(changes.has_changed().unwrap());
        assert_eq!(live.take_changed().len(), 1);
        assert!(live.take_changed().is_empty());
    }
}
