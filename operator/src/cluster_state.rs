//! The objects that configuration is made of, in their current state. `watch` and `manifests` fill it; it does not know
//! what the objects are translated to.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};

use crate::cluster_issuer::ClusterIssuer;
use crate::objects::{Kind, Object, ObjectKey, Unparsable, Watched, for_kind, kinds};

/// What stands for the cluster's issuer among changed objects. No object has such a name.
pub(crate) static CLUSTER_ISSUER: LazyLock<(Kind, ObjectKey)> =
    LazyLock::new(|| (Kind::Namespace, ObjectKey::new("", "the issuer of the cluster")));

/// The objects of one kind, and their groups (see [`Watched::group`]).
#[derive(Clone, Debug)]
pub struct Store<K> {
    objects: HashMap<ObjectKey, Arc<K>>,
    groups: HashMap<ObjectKey, BTreeMap<ObjectKey, Arc<K>>>,
}

impl<K> Default for Store<K> {
    fn default() -> Self {
        Self { objects: HashMap::new(), groups: HashMap::new() }
    }
}

impl<'a, K> IntoIterator for &'a Store<K> {
    type Item = (&'a ObjectKey, &'a Arc<K>);
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        let mut all: Vec<Self::Item> = self.objects.iter().collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter()
    }
}

impl<K> Store<K> {
    /// One object.
    #[must_use]
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<K>> {
        self.objects.get(key)
    }

    /// Whether there is an object with this key.
    #[must_use]
    pub fn contains_key(&self, key: &ObjectKey) -> bool {
        self.objects.contains_key(key)
    }

    /// The number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there are no objects.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// All objects, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectKey, &Arc<K>)> {
        self.into_iter()
    }

    /// The keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &ObjectKey> {
        self.iter().map(|(key, _)| key)
    }

    /// The objects, sorted by key.
    pub fn values(&self) -> impl Iterator<Item = &Arc<K>> {
        self.iter().map(|(_, object)| object)
    }
}

impl<K: Watched> Store<K> {
    /// The objects of a group.
    pub fn group(&self, group: &ObjectKey) -> impl Iterator<Item = (&ObjectKey, &Arc<K>)> + use<'_, K> {
        self.groups.get(group).into_iter().flatten()
    }

    fn insert(&mut self, key: ObjectKey, object: Arc<K>) {
        self.remove(&key);
        if let Some(group) = object.group() {
            self.groups.entry(group).or_default().insert(key.clone(), object.clone());
        }
        self.objects.insert(key, object);
    }

    fn remove(&mut self, key: &ObjectKey) {
        let Some(group) = self.objects.remove(key).and_then(|object| object.group()) else { return };
        if let Some(members) = self.groups.get_mut(&group) {
            members.remove(key);
            if members.is_empty() {
                self.groups.remove(&group);
            }
        }
    }
}

/// A kind with a store.
pub trait Stored: Watched {
    /// Its store.
    fn store(state: &ClusterState) -> &Store<Self>;
    /// Its store, to change it.
    fn store_mut(state: &mut ClusterState) -> &mut Store<Self>;
}

macro_rules! define_state {
    (
        own { $($own:ident: $own_type:ty, $own_store:ident, $own_watch:ident;)* }
        others { $($other:ident: $other_type:ty, $other_store:ident, $other_watch:ident;)* }
    ) => {
        /// All objects, in their current state.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the names are the kinds")]
        pub struct ClusterState {
            $(pub $own_store: Store<$own_type>,)*
            $(pub $other_store: Store<$other_type>,)*
            /// Objects that cannot be parsed.
            pub unparsable: BTreeMap<(Kind, ObjectKey), Unparsable>,
            /// Objects of which it is not known yet whether they exist. This is not the same as not existing.
            pub unknown: BTreeSet<(Kind, ObjectKey)>,
            /// The cluster's issuer of tokens for ServiceAccounts, or why there is none.
            pub issuer: Result<Arc<ClusterIssuer>, String>,
        }

        impl Default for ClusterState {
            fn default() -> Self {
                Self {
                    $($own_store: Store::default(),)*
                    $($other_store: Store::default(),)*
                    unparsable: BTreeMap::new(),
                    unknown: BTreeSet::new(),
                    issuer: Err("there is no API server".to_owned()),
                }
            }
        }

        $(impl Stored for $own_type {
            fn store(state: &ClusterState) -> &Store<Self> {
                &state.$own_store
            }

            fn store_mut(state: &mut ClusterState) -> &mut Store<Self> {
                &mut state.$own_store
            }
        })*
        $(impl Stored for $other_type {
            fn store(state: &ClusterState) -> &Store<Self> {
                &state.$other_store
            }

            fn store_mut(state: &mut ClusterState) -> &mut Store<Self> {
                &mut state.$other_store
            }
        })*

        impl ClusterState {
            fn insert(&mut self, key: ObjectKey, object: Object) {
                match object {
                    $(Object::$own(object) => self.$own_store.insert(key, object),)*
                    $(Object::$other(object) => self.$other_store.insert(key, object),)*
                    Object::Unparsable(kind, key, unparsable) => {
                        // An invalid update never leaves the previous version in place.
                        self.remove(kind, &key);
                        self.unparsable.insert((kind, key), unparsable);
                    }
                }
            }
        }
    };
}
kinds!(define_state);

impl ClusterState {
    /// The state that these objects make; of two with the same identity the later one counts.
    pub fn from_objects(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut state = Self::default();
        for object in objects {
            state.apply(object);
        }
        state
    }

    /// The objects of a kind.
    #[must_use]
    pub fn store<K: Stored>(&self) -> &Store<K> {
        K::store(self)
    }

    /// Adds an object, or replaces the one with its identity.
    pub fn apply(&mut self, object: Object) {
        let (kind, key) = object.identity();
        if !self.unparsable.is_empty() {
            self.unparsable.remove(&(kind, key.clone()));
        }
        if !self.unknown.is_empty() {
            self.unknown.remove(&(kind, key.clone()));
        }
        self.insert(key, object);
    }

    /// Removes an object, if it is there.
    pub fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        let id = (kind, key.clone());
        self.unparsable.remove(&id);
        self.unknown.remove(&id);
        for_kind!(kind, K => K::store_mut(self).remove(key));
    }

    /// One object.
    #[must_use]
    pub fn object(&self, kind: Kind, key: &ObjectKey) -> Option<Object> {
        let found = for_kind!(kind, K => K::store(self).get(key).cloned().map(Object::from));
        let unparsable = || self.unparsable.get(&(kind, key.clone())).cloned();
        found.or_else(|| unparsable().map(|why| Object::Unparsable(kind, key.clone(), why)))
    }

    /// The keys of all objects of a kind, whether they can be parsed or not.
    #[must_use]
    pub fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        let mut keys: Vec<ObjectKey> = for_kind!(kind, K => K::store(self).keys().cloned().collect());
        keys.extend(self.unparsable.keys().filter(|(other, _)| *other == kind).map(|(_, key)| key.clone()));
        keys
    }

    /// Takes over one object, or its absence, from another state; without what is known of objects that cannot be parsed.
    pub(crate) fn take_over<K: Stored>(&mut self, key: &ObjectKey, from: &Self) {
        match K::store(from).get(key) {
            Some(object) => K::store_mut(self).insert(key.clone(), object.clone()),
            None => K::store_mut(self).remove(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use sluice_crds::Stage;

    use super::*;

    fn slice(name: &str, service: &str) -> Object {
        let value = serde_json::json!({
            "metadata": {"name": name, "namespace": "shop", "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": [],
        });
        serde_json::from_value::<EndpointSlice>(value).unwrap().into()
    }

    #[test]
    fn a_slice_follows_its_label_and_leaves_nothing_behind() {
        let mut state = ClusterState::from_objects([slice("a", "orders"), slice("b", "orders")]);
        let orders = ObjectKey::new("shop", "orders");
        assert_eq!(state.endpoint_slices.group(&orders).count(), 2);
        state.apply(slice("a", "stock"));
        assert_eq!(state.endpoint_slices.group(&orders).count(), 1);
        state.remove(Kind::EndpointSlice, &ObjectKey::new("shop", "a"));
        state.remove(Kind::EndpointSlice, &ObjectKey::new("shop", "b"));
        assert!(state.endpoint_slices.is_empty() && state.endpoint_slices.groups.is_empty());
    }

    #[test]
    fn an_unparsable_update_removes_the_object_and_a_valid_one_restores_it() {
        let stage: Stage = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "prod", "namespace": "shop"}, "spec": {},
        }))
        .unwrap();
        let key = ObjectKey::new("shop", "prod");
        let mut state = ClusterState::from_objects([stage.clone().into()]);
        let bad = Unparsable::read(Kind::Stage, &serde_json::json!({}), "no".into());
        state.apply(Object::Unparsable(Kind::Stage, key.clone(), bad));
        assert!(state.stages.is_empty() && state.keys(Kind::Stage) == [key]);
        state.apply(stage.into());
        assert!(state.unparsable.is_empty() && state.stages.len() == 1);
    }
}
