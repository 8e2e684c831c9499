//! How objects of a kind are watched, and whether they are in namespaces.

/// How objects of a kind are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// All objects; nothing is translated before the first complete list.
    Always,
    /// All objects, of a kind whose CustomResourceDefinition may be absent: then there are no objects of it, start-up does
    /// not wait for it, and the watch begins when the API server serves it.
    WhenServed,
    /// Single objects, each as long as another object names it.
    ByName,
}

/// Whether objects of a kind are in namespaces.
pub trait KnownScope {
    /// False: the kind is cluster-scoped.
    const NAMESPACED: bool;
}

impl KnownScope for k8s_openapi::NamespaceResourceScope {
    const NAMESPACED: bool = true;
}

impl KnownScope for k8s_openapi::ClusterResourceScope {
    const NAMESPACED: bool = false;
}
