//! What differs between the cluster state as it was translated last and as it is now. Which nodes a difference makes stale is
//! `memo`'s to say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster_state::ClusterState;
use crate::objects::{Kind, Object, ObjectKey};
use crate::translate::view::Source;

/// Every kind of the cluster state.
const KINDS: [Kind; 9] = [
    Kind::Stage,
    Kind::ApiRoute,
    Kind::Authorizer,
    Kind::ApiKey,
    Kind::UsagePlan,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Secret,
    Kind::ConfigMap,
];

/// The cluster state as it was translated last.
#[derive(Default)]
pub(crate) struct ChangeTracker(ClusterState);

impl ChangeTracker {
    /// Finds out what leads to something else than before, among the objects that may have changed (none: all of them),
    /// and takes the new state over.
    pub(crate) fn catch_up(&mut self, now: &ClusterState, among: Option<&BTreeSet<Source>>) -> BTreeSet<Source> {
        let mut differs = BTreeSet::new();
        match among {
            Some(among) => among.iter().for_each(|(kind, key)| self.object(now, *kind, key, &mut differs)),
            None => {
                let unknown: BTreeSet<Source> = self.0.unknown.union(&now.unknown).cloned().collect();
                unknown.iter().for_each(|(kind, key)| self.object(now, *kind, key, &mut differs));
                for kind in KINDS {
                    let keys: BTreeSet<ObjectKey> = self.0.keys(kind).into_iter().chain(now.keys(kind)).collect();
                    keys.iter().for_each(|key| self.object(now, kind, key, &mut differs));
                }
            }
        }
        differs
    }

    fn object(&mut self, now: &ClusterState, kind: Kind, key: &ObjectKey, differs: &mut BTreeSet<Source>) {
        let seen = &mut self.0;
        // Statuses and bookkeeping change without leading to anything else.
        let changed = match kind {
            Kind::Stage => replace(&mut seen.stages, &now.stages, key, |a, b| {
                a.spec == b.spec && same_meta(&a.metadata, &b.metadata)
            }),
            Kind::ApiRoute => replace(&mut seen.api_routes, &now.api_routes, key, |a, b| {
                a.spec == b.spec && same_meta(&a.metadata, &b.metadata)
            }),
            Kind::Authorizer => replace(&mut seen.authorizers, &now.authorizers, key, |a, b| {
                a.spec == b.spec && same_meta(&a.metadata, &b.metadata)
            }),
            Kind::ApiKey => replace(&mut seen.api_keys, &now.api_keys, key, |a, b| {
                a.spec == b.spec && same_meta(&a.metadata, &b.metadata)
            }),
            Kind::UsagePlan => replace(&mut seen.usage_plans, &now.usage_plans, key, |a, b| {
                a.spec == b.spec && same_meta(&a.metadata, &b.metadata)
            }),
            Kind::Service => replace(&mut seen.services, &now.services, key, |a, b| a.spec == b.spec),
            Kind::Secret => replace(&mut seen.secrets, &now.secrets, key, |a, b| a.data == b.data),
            Kind::ConfigMap => replace(&mut seen.config_maps, &now.config_maps, key, |a, b| {
                a.data == b.data && a.binary_data == b.binary_data
            }),
            Kind::EndpointSlice => {
                slice(seen, now, key, differs);
                false
            }
        };
        let id = (kind, key.clone());
        if self.unreadable(now, &id) || changed {
            differs.insert(id);
        }
    }

    /// Whether it differs why an object cannot be read; takes that over too.
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
}

fn same_meta(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    a.uid == b.uid && a.generation == b.generation && a.creation_timestamp == b.creation_timestamp
}

fn replace<K>(
    seen: &mut BTreeMap<ObjectKey, Arc<K>>,
    now: &BTreeMap<ObjectKey, Arc<K>>,
    key: &ObjectKey,
    same: fn(&K, &K) -> bool,
) -> bool {
    match (seen.get_mut(key), now.get(key)) {
        (None, None) => false,
        (None, Some(new)) => {
            seen.insert(key.clone(), new.clone());
            true
        }
        (Some(_), None) => {
            seen.remove(key);
            true
        }
        (Some(old), Some(new)) => {
            let differs = !Arc::ptr_eq(old, new) && !same(old, new);
            *old = new.clone();
            differs
        }
    }
}

/// A slice counts for the Service it belongs to, and for the one it belonged to.
fn slice(seen: &mut ClusterState, now: &ClusterState, key: &ObjectKey, differs: &mut BTreeSet<Source>) {
    let same = |a: &Arc<EndpointSlice>, b: &Arc<EndpointSlice>| {
        Arc::ptr_eq(a, b) || (a.endpoints == b.endpoints && a.ports == b.ports && a.address_type == b.address_type)
    };
    let (before, after) = (seen.slice(key), now.slice(key));
    let calm = match (before, after) {
        (None, None) => true,
        (Some((owner, old)), Some((new_owner, new))) => owner == new_owner && same(old, new),
        _ => false,
    };
    if !calm {
        let owners = before.into_iter().chain(after).map(|(owner, _)| (Kind::EndpointSlice, owner.clone()));
        differs.extend(owners.collect::<Vec<_>>());
    }
    match after {
        Some((_, slice)) => seen.apply(Object::EndpointSlice(slice.clone())),
        None => seen.remove(Kind::EndpointSlice, key),
    }
}
