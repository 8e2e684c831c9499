//! Namespace and name of an object: its identity within its kind.

use std::fmt;

use kube::ResourceExt as _;

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
