//! Resolves references from one object to another. Every reference of every kind is resolved by [`resolve`], so that what a
//! reference may refer to is decided in one place; `sluice_crds::reference::FIELDS` lists the fields.

use std::sync::Arc;

use crate::cluster_state::Stored;
use crate::objects::{ObjectKey, Target};
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

/// The object that the object being translated refers to.
pub(crate) fn resolve<'a, K: Stored + Target>(view: &View<'a>, target: &ObjectKey) -> Result<&'a Arc<K>, Unresolved> {
    let found = view.get::<K>(target);
    found.ok_or_else(|| Unresolved { reason: K::NOT_FOUND, why: view.absence(K::KIND, target) })
}
