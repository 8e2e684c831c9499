//! Every object that configuration is made of, as it is right now. Where objects come from is `cluster`'s and `files`';
//! what they lead to is `translate`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use sluice_crds::{ApiKey, ApiRoute, Authorizer, Stage, UsagePlan, authorizer::JwksSourceType};
use sluice_wire::ObjectRef;

pub mod cluster;
pub mod files;

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name: an object's identity among those of its kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// A key from its two words.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object; objects without a namespace (files) are in `default`.
    pub fn of<K: kube::Resource>(object: &K) -> Self {
        let namespace = object.meta().namespace.clone().unwrap_or_else(|| "default".to_owned());
        Self { namespace, name: object.name_any() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The kinds of objects that are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the kinds")]
pub enum Kind {
    Stage,
    ApiRoute,
    Authorizer,
    ApiKey,
    UsagePlan,
    Service,
    EndpointSlice,
    Secret,
    ConfigMap,
}

impl Kind {
    /// The kinds that users of Sluice write and whose status is reported.
    pub const OURS: [Self; 5] = [Self::Stage, Self::ApiRoute, Self::Authorizer, Self::ApiKey, Self::UsagePlan];

    /// As manifests write it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stage => "Stage",
            Self::ApiRoute => "ApiRoute",
            Self::Authorizer => "Authorizer",
            Self::ApiKey => "ApiKey",
            Self::UsagePlan => "UsagePlan",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::ConfigMap => "ConfigMap",
        }
    }

    /// The reference to an object of this kind.
    #[must_use]
    pub fn object(self, key: &ObjectKey) -> ObjectRef {
        ObjectRef::new(self.as_str(), key.namespace.clone(), key.name.clone())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One object of any kind.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "the names are the kinds")]
pub enum Object {
    Stage(Arc<Stage>),
    ApiRoute(Arc<ApiRoute>),
    Authorizer(Arc<Authorizer>),
    ApiKey(Arc<ApiKey>),
    UsagePlan(Arc<UsagePlan>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
    /// An object that cannot be read as its kind.
    Unparsable(Kind, ObjectKey, Unparsable),
}

macro_rules! from_objects {
    ($($kind:ident),*) => {$(
        impl From<$kind> for Object {
            fn from(object: $kind) -> Self {
                Self::$kind(Arc::new(object))
            }
        }
    )*};
}
from_objects!(Stage, ApiRoute, Authorizer, ApiKey, UsagePlan, Service, EndpointSlice, Secret, ConfigMap);

/// What is known of an object that cannot be read as its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsable {
    /// Its generation, so that the status can say which one was judged.
    pub generation: Option<i64>,
    /// Which object it is, among those that have had its name.
    pub uid: Option<String>,
    /// What is wrong, for the object's author.
    pub why: String,
}

/// Everything, as it is right now.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs, reason = "the names are the kinds")]
pub struct World {
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

impl World {
    /// A world of these objects; of two with the same identity the later one counts.
    pub fn from_objects(objects: impl IntoIterator<Item = Object>) -> Self {
        let mut world = Self::default();
        for object in objects {
            world.apply(object);
        }
        world
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

impl Object {
    /// Its kind and key.
    #[must_use]
    pub fn identity(&self) -> (Kind, ObjectKey) {
        match self {
            Self::Stage(object) => (Kind::Stage, ObjectKey::of(&**object)),
            Self::ApiRoute(object) => (Kind::ApiRoute, ObjectKey::of(&**object)),
            Self::Authorizer(object) => (Kind::Authorizer, ObjectKey::of(&**object)),
            Self::ApiKey(object) => (Kind::ApiKey, ObjectKey::of(&**object)),
            Self::UsagePlan(object) => (Kind::UsagePlan, ObjectKey::of(&**object)),
            Self::Service(object) => (Kind::Service, ObjectKey::of(&**object)),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, ObjectKey::of(&**object)),
            Self::Secret(object) => (Kind::Secret, ObjectKey::of(&**object)),
            Self::ConfigMap(object) => (Kind::ConfigMap, ObjectKey::of(&**object)),
            Self::Unparsable(kind, key, _) => (*kind, key.clone()),
        }
    }

    /// The Secrets and ConfigMaps that it names.
    #[must_use]
    pub fn names(&self) -> Vec<(Kind, ObjectKey)> {
        let (_, key) = self.identity();
        let beside = |kind, name: &str| (kind, ObjectKey::new(key.namespace.clone(), name));
        match self {
            Self::Stage(stage) => stage.spec.tls.iter().map(|tls| beside(Kind::Secret, &tls.secret_name)).collect(),
            Self::ApiKey(api_key) => vec![beside(Kind::Secret, &secret_of(api_key))],
            Self::Authorizer(authorizer) => {
                let issuers = authorizer.spec.jwt.iter().flat_map(|jwt| &jwt.issuers);
                let sources = issuers.filter_map(|issuer| issuer.jwks.as_ref());
                let named = sources.filter_map(|source| match source.type_ {
                    JwksSourceType::ConfigMap => source.config_map.as_ref().map(|r| beside(Kind::ConfigMap, &r.name)),
                    JwksSourceType::Secret => source.secret.as_ref().map(|r| beside(Kind::Secret, &r.name)),
                });
                named.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// The name of the Secret that holds an ApiKey's key: the named one, or the one that the operator makes.
#[must_use]
pub fn secret_of(api_key: &ApiKey) -> String {
    let made = || format!("{}{}", api_key.name_any(), sluice_crds::api_key::SECRET_NAME_SUFFIX);
    api_key.spec.secret.as_ref().map_or_else(made, |secret| secret.name.clone())
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
        let mut world = World::from_objects([slice("a", "orders"), slice("b", "orders")]);
        assert_eq!(world.endpoint_slices[&ObjectKey::new("shop", "orders")].len(), 2);
        world.apply(slice("a", "stock"));
        assert_eq!(world.endpoint_slices[&ObjectKey::new("shop", "orders")].len(), 1);
        world.remove(Kind::EndpointSlice, &ObjectKey::new("shop", "a"));
        world.remove(Kind::EndpointSlice, &ObjectKey::new("shop", "b"));
        assert!(world.endpoint_slices.is_empty());
    }

    #[test]
    fn an_unparsable_update_takes_the_old_object_away_and_a_good_one_brings_it_back() {
        let stage: Stage = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "prod", "namespace": "shop"}, "spec": {},
        }))
        .unwrap();
        let key = ObjectKey::new("shop", "prod");
        let mut world = World::from_objects([stage.clone().into()]);
        let bad = Unparsable { generation: Some(2), uid: None, why: "no".into() };
        world.apply(Object::Unparsable(Kind::Stage, key.clone(), bad));
        assert!(world.stages.is_empty() && world.keys(Kind::Stage) == [key]);
        world.apply(stage.into());
        assert!(world.unparsable.is_empty() && world.stages.len() == 1);
    }
}
