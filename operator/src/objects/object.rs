//! The kinds of objects that the operator works with, and one object of any kind. Where objects are stored is not known
//! here.

use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt as _;
use sluice_crds::{ApiKey, ApiRoute, Authorizer, Stage, UsagePlan, authorizer::JwksSourceType};
use sluice_wire::ObjectRef;

use crate::objects::key::ObjectKey;

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
