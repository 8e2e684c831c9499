//! Namespace and name of an object: its identity within its kind.

use std::fmt;

use kube::{Resource, ResourceExt as _};
use sluice_crds::reference::Reference;

use crate::objects::scope::KnownScope;

/// Namespace and name: an object's identity within its kind. The namespace of cluster-scoped objects is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of that namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of the object that a reference in this object names.
    #[must_use]
    pub fn target(&self, reference: &Reference) -> Self {
        let namespace = reference.namespace.as_ref().unwrap_or(&self.namespace);
        Self::new(namespace.clone(), reference.name.clone())
    }

    /// The key of an object. An object of a manifest that names no namespace is in `default`.
    pub fn of<K: Resource<Scope: KnownScope>>(object: &K) -> Self {
        let namespaced = <K as Resource>::Scope::NAMESPACED;
        let default = || if namespaced { "default".to_owned() } else { String::new() };
        Self { namespace: object.namespace().unwrap_or_else(default), name: object.name_any() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}
