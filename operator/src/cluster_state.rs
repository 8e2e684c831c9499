//! The objects that configuration is made of, in their current state. `watch` and `manifests` fill it; it does not know
//! what the objects are translated to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sluice_crds::{ApiKey, ApiRoute, Authorizer, Stage, UsagePlan};

use crate::objects::{Kind, Object, ObjectKey, Unparsable};

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Everything, as it is right now.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names are the kinds")]
pub struct ClusterState {
    pub stages: BTreeMap<ObjectKey, Arc<Stage>>,
    pub api_routes: BTreeMap<ObjectKey, Arc<ApiRoute>>,
    pub authorizers: BTreeMap<ObjectKey, Arc<Authorizer>>,
    pub api_keys: BTreeMap<ObjectKey, Arc<ApiKey>>,
    pub usage_plans: BTreeMap<ObjectKey, Arc<UsagePlan>>,
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    pub secrets: BTreeMap<ObjectKey, Arc<Secret>>,
    pub config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    /// EndpointSlices by the Service they belong to, then by their own key.
    pub endpoint_slices: BTreeMap<ObjectKey, BTreeMap<ObjectKey, Arc<EndpointSlice>>>,
    /// Objects that cannot be read.
    pub unparsable: BTreeMap<(Kind, ObjectKey), Unparsable>,
    /// Objects of which nobody has said yet whether they exist: not the same as not existing.
    pub unknown: BTreeSet<(Kind, ObjectKey)>,
    slice_service: BTreeMap<ObjectKey, ObjectKey>,
}

impl ClusterState {
    /// A cluster state of these objects; of two with the same identity the later one counts.
    pub fn from_objects(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut state = Self::default();
        for object in objects {
            state.apply(object);
        }
        state
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
        match object {
            Object::Stage(object) => drop(self.stages.insert(key, object)),
            Object::ApiRoute(object) => drop(self.api_routes.insert(key, object)),
            Object::Authorizer(object) => drop(self.authorizers.insert(key, object)),
            Object::ApiKey(object) => drop(self.api_keys.insert(key, object)),
            Object::UsagePlan(object) => drop(self.usage_plans.insert(key, object)),
            Object::Service(object) => drop(self.services.insert(key, object)),
            Object::Secret(object) => drop(self.secrets.insert(key, object)),
            Object::ConfigMap(object) => drop(self.config_maps.insert(key, object)),
            Object::EndpointSlice(object) => self.apply_slice(key, object),
            Object::Unparsable(kind, key, unparsable) => {
                // An invalid update never leaves the old version running.
                self.remove(kind, &key);
                self.unparsable.insert((kind, key), unparsable);
            }
        }
    }

    /// Takes an object away, if it is there.
    pub fn remove(&mut self, kind: Kind, key: &ObjectKey) {
        let id = (kind, key.clone());
        self.unparsable.remove(&id);
        self.unknown.remove(&id);
        match kind {
            Kind::Stage => drop(self.stages.remove(key)),
            Kind::ApiRoute => drop(self.api_routes.remove(key)),
            Kind::Authorizer => drop(self.authorizers.remove(key)),
            Kind::ApiKey => drop(self.api_keys.remove(key)),
            Kind::UsagePlan => drop(self.usage_plans.remove(key)),
            Kind::Service => drop(self.services.remove(key)),
            Kind::Secret => drop(self.secrets.remove(key)),
            Kind::ConfigMap => drop(self.config_maps.remove(key)),
            Kind::EndpointSlice => self.remove_slice(key),
        }
    }

    /// The keys of the objects of a kind that can be read, or cannot.
    #[must_use]
    pub fn keys(&self, kind: Kind) -> Vec<ObjectKey> {
        let mut keys: Vec<ObjectKey> = match kind {
            Kind::Stage => self.stages.keys().cloned().collect(),
            Kind::ApiRoute => self.api_routes.keys().cloned().collect(),
            Kind::Authorizer => self.authorizers.keys().cloned().collect(),
            Kind::ApiKey => self.api_keys.keys().cloned().collect(),
            Kind::UsagePlan => self.usage_plans.keys().cloned().collect(),
            Kind::Service => self.services.keys().cloned().collect(),
            Kind::Secret => self.secrets.keys().cloned().collect(),
            Kind::ConfigMap => self.config_maps.keys().cloned().collect(),
            Kind::EndpointSlice => self.slice_service.keys().cloned().collect(),
        };
        keys.extend(self.unparsable.keys().filter(|(other, _)| *other == kind).map(|(_, key)| key.clone()));
        keys
    }

    /// An EndpointSlice with the Service it belongs to.
    pub(crate) fn slice(&self, key: &ObjectKey) -> Option<(&ObjectKey, &Arc<EndpointSlice>)> {
        let service = self.slice_service.get(key)?;
        Some((service, self.endpoint_slices.get(service)?.get(key)?))
    }

    fn apply_slice(&mut self, key: ObjectKey, slice: Arc<EndpointSlice>) {
        let service = slice.metadata.labels.as_ref().and_then(|labels| labels.get(SERVICE_NAME)).cloned();
        let service = service.map(|name| ObjectKey::new(key.namespace.clone(), name));
        if self.slice_service.get(&key) != service.as_ref() {
            self.remove_slice(&key);
        }
        if let Some(service) = service {
            self.slice_service.insert(key.clone(), service.clone());
            self.endpoint_slices.entry(service).or_default().insert(key, slice);
        }
    }

    fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(service) = self.slice_service.remove(key) else { return };
        if let Some(slices) = self.endpoint_slices.get_mut(&service) {
            slices.remove(key);
            if slices.is_empty() {
                self.endpoint_slices.remove(&service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(state.endpoint_slices[&ObjectKey::new("shop", "orders")].len(), 2);
        state.apply(slice("a", "stock"));
        assert_eq!(state.endpoint_slices[&ObjectKey::new("shop", "orders")].len(), 1);
        state.remove(Kind::EndpointSlice, &ObjectKey::new("shop", "a"));
        state.remove(Kind::EndpointSlice, &ObjectKey::new("shop", "b"));
        assert!(state.endpoint_slices.is_empty());
    }

    #[test]
    fn an_unparsable_update_takes_the_old_object_away_and_a_good_one_brings_it_back() {
        let stage: Stage = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "prod", "namespace": "shop"}, "spec": {},
        }))
        .unwrap();
        let key = ObjectKey::new("shop", "prod");
        let mut state = ClusterState::from_objects([stage.clone().into()]);
        let bad = Unparsable { generation: Some(2), uid: None, why: "no".into() };
        state.apply(Object::Unparsable(Kind::Stage, key.clone(), bad));
        assert!(state.stages.is_empty() && state.keys(Kind::Stage) == [key]);
        state.apply(stage.into());
        assert!(state.unparsable.is_empty() && state.stages.len() == 1);
    }
}
