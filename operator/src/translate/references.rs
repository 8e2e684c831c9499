//! Resolves references from one object to another. Every reference of every kind is resolved by [`resolve`], so that what a
//! reference may refer to is decided in one place; `sluice_crds::reference::FIELDS` lists the fields.

use std::sync::Arc;

use sluice_crds::condition::reason;

use crate::cluster_state::Stored;
use crate::gateway_api::ReferenceGrant;
use crate::objects::{Kind, ObjectKey, Target};
use crate::problem::Problems;
use crate::translate::view::View;

/// Why a reference cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unresolved {
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) why: String,
}

impl Unresolved {
    /// Reports it as a problem of the field.
    pub(crate) fn report(&self, field: &str, problems: &mut Problems) {
        problems.unresolved(self.reason, field, &self.why);
    }
}

/// The kind and namespace of the object that refers: a ReferenceGrant names both.
#[derive(Clone, Copy)]
pub(crate) struct Referrer<'a> {
    kind: Kind,
    namespace: &'a str,
}

impl<'a> Referrer<'a> {
    /// The object with that key.
    pub(crate) fn new(kind: Kind, key: &'a ObjectKey) -> Self {
        Self { kind, namespace: &key.namespace }
    }

    pub(crate) fn namespace(self) -> &'a str {
        self.namespace
    }
}

/// The object that a reference names. An object of another namespace is looked up only when a ReferenceGrant permits the
/// reference, so a message never discloses whether it exists.
pub(crate) fn resolve<'a, K: Stored + Target>(
    view: &View<'a>,
    from: Referrer<'_>,
    target: &ObjectKey,
) -> Result<&'a Arc<K>, Unresolved> {
    if target.namespace != from.namespace && !is_permitted(view, from, (K::KIND, target)) {
        let why = format!(
            "no ReferenceGrant in namespace {} permits {}s of namespace {} to refer to {} {}",
            target.namespace,
            from.kind,
            from.namespace,
            K::KIND,
            target.name
        );
        return Err(Unresolved { reason: reason::REF_NOT_PERMITTED, why });
    }
    let found = view.get::<K>(target);
    found.ok_or_else(|| Unresolved { reason: K::NOT_FOUND, why: view.absence(K::KIND, target) })
}

/// Whether a ReferenceGrant in the namespace of the target permits the reference.
pub(crate) fn is_permitted(view: &View<'_>, from: Referrer<'_>, to: (Kind, &ObjectKey)) -> bool {
    let grants = view.group::<ReferenceGrant>(&ReferenceGrant::of_namespace(&to.1.namespace));
    ReferenceGrant::any_permits(grants.map(|grant| &**grant), (from.kind, from.namespace), to)
}
