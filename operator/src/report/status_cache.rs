//! The objects in the cluster with their observed statuses, and which of them changed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use sluice_wire::{FleetName, ObjectRef};
use tokio::sync::watch;

use crate::cluster_state::ClusterState;
use crate::objects::{Kind, Object, ObjectKey};
use crate::publish::AccessKeyOf;
use crate::report::last_uses::{LastUses, Times};

/// The objects in the cluster.
#[derive(Clone, Debug, Default)]
pub struct StatusCache {
    objects: Arc<Mutex<Objects>>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Objects {
    all: HashMap<ObjectRef, Object>,
    /// Changed objects that are not processed yet.
    changed: BTreeSet<ObjectRef>,
    /// Why keys cannot be generated.
    failed_keys: BTreeMap<ObjectRef, String>,
    last_uses: LastUses,
    /// The latest time of a claim in any status.
    last_claim: Option<Timestamp>,
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
                objects.last_claim = objects.last_claim.max(found.as_ref().and_then(last_claim));
                match found {
                    Some(found) => {
                        objects.last_uses.arrived(&object, found.recorded_access_keys());
                        objects.all.insert(object.clone(), found);
                    }
                    None => {
                        objects.last_uses.remove(&object);
                        objects.all.remove(&object);
                    }
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

    /// Why the key of an object cannot be generated.
    pub(crate) fn key_failure(&self, object: &ObjectRef) -> Option<String> {
        self.lock().failed_keys.get(object).cloned()
    }

    /// Stores uses of access keys. Statuses are written for some of them.
    pub(crate) fn used(&self, uses: impl IntoIterator<Item = (AccessKeyOf, Timestamp)>) {
        let mut is_written = false;
        {
            let mut objects = self.lock();
            let Objects { all, changed, last_uses, .. } = &mut *objects;
            for ((object, id), at) in uses {
                let Some(found) = all.get(&object) else { continue };
                if last_uses.used(&object, &id, at, found.recorded_access_keys()) {
                    is_written = true;
                    changed.insert(object);
                }
            }
        }
        if is_written {
            self.notify();
        }
    }

    /// When the access keys of a Principal were last used, as its status should have it.
    pub(super) fn last_uses(&self, object: &ObjectRef) -> Times {
        let objects = self.lock();
        let recorded = objects.all.get(object).map(Object::recorded_access_keys).unwrap_or_default();
        objects.last_uses.of(object, recorded)
    }

    /// The time of a claim that is new `now`: later than those of all recorded claims, so that it comes after them.
    pub(crate) fn next_claim(&self, now: Timestamp) -> Timestamp {
        let after = |last: Timestamp| last.checked_add(SignedDuration::from_micros(1)).unwrap_or(last);
        self.lock().last_claim.map_or(now, |last| now.max(after(last)))
    }

    /// One object.
    pub(crate) fn get(&self, object: &ObjectRef) -> Option<Object> {
        self.lock().all.get(object).cloned()
    }

    /// The fleet of each Stage, with the number of proxies in its status.
    pub(crate) fn reported_fleets(&self) -> Vec<(FleetName, usize)> {
        let objects = self.lock();
        let stages = objects.all.values().filter_map(|object| match object {
            Object::Stage(stage) => Some(stage),
            _ => None,
        });
        let fleets = stages.filter_map(|stage| {
            let proxies = stage.status.as_ref()?.proxies.as_ref()?;
            let fleet = stage.spec.fleet.as_ref().map_or(Some(FleetName::default()), |fleet| fleet.name.parse().ok());
            Some((fleet?, usize::try_from(proxies.total).ok()?))
        });
        fleets.collect()
    }

    /// The number of objects.
    pub(crate) fn len(&self) -> usize {
        self.lock().all.len()
    }

    /// The changes since the last call.
    pub(crate) fn take_changed(&self) -> BTreeSet<ObjectRef> {
        let mut objects = self.lock();
        let Objects { all, changed, failed_keys, .. } = &mut *objects;
        failed_keys.retain(|object, _| all.contains_key(object));
        std::mem::take(changed)
    }

    /// Resolves after a change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}

/// The latest time of a claim in the status of an object.
fn last_claim(object: &Object) -> Option<Timestamp> {
    let Object::Stage(stage) = object else { return None };
    let status = stage.status.as_ref()?;
    let hostnames = status.hostnames.iter().map(|claimed| claimed.since.0);
    hostnames.chain(status.base_path.iter().map(|claimed| claimed.since.0)).max()
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

    #[test]
    fn a_new_claim_is_later_than_all_recorded_ones_even_if_their_clock_was_ahead() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let cache = StatusCache::default();
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(cache.next_claim(now), now);
        let stage = |path: &str| -> sluice_crds::Stage {
            serde_json::from_value(serde_json::json!({
                "metadata": {"name": "prod", "namespace": "shop"}, "spec": {}, "status": {
                    "hostnames": [{"name": "*", "since": "2026-01-01T00:00:05Z"}],
                    "basePath": {"path": "/", "fleet": "default", "since": path},
                },
            }))
            .unwrap()
        };
        let changed = BTreeSet::from([(Kind::Stage, ObjectKey::new("shop", "prod"))]);
        for (path, next) in [
            ("2025-01-01T00:00:00Z", "2026-01-01T00:00:05.000001Z"),
            ("2026-01-01T00:00:09.000001Z", "2026-01-01T00:00:09.000002Z"),
            ("2025-01-01T00:00:00Z", "2026-01-01T00:00:09.000002Z"),
        ] {
            cache.update(&ClusterState::from_objects([stage(path).into()]), &changed);
            assert_eq!(cache.next_claim(now), at(next), "{path}");
        }
        assert_eq!(cache.next_claim(at("2027-01-01T00:00:00Z")), at("2027-01-01T00:00:00Z"));
    }
}
