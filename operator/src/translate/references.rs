//! Resolves references from one object to another. Every reference of every kind is resolved by [`resolve`], so that what a
//! reference may refer to is decided in one place; `sluice_crds::reference::FIELDS` lists the fields.

use std::sync::Arc;

use sluice_crds::condition::reason;

use crate::cluster_state::Stored;
use crate::objects::{Kind, ObjectKey};
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
pub(crate) fn resolve<'a, K: Stored>(view: &View<'a>, target: &ObjectKey) -> Result<&'a Arc<K>, Unresolved> {
    let found = view.get::<K>(target);
    found.ok_or_else(|| Unresolved { reason: not_found(K::KIND), why: view.absence(K::KIND, target) })
}

const fn not_found(kind: Kind) -> &'static str {
    match kind {
        Kind::Stage => reason::STAGE_NOT_FOUND,
        Kind::ApiRoute => reason::ROUTE_NOT_FOUND,
        Kind::Authorizer => reason::AUTHORIZER_NOT_FOUND,
        Kind::UsagePlan => reason::PLAN_NOT_FOUND,
        Kind::Service | Kind::EndpointSlice => reason::BACKEND_NOT_FOUND,
        Kind::Secret | Kind::ApiKey => reason::SECRET_NOT_FOUND,
        Kind::ConfigMap => reason::CONFIG_MAP_NOT_FOUND,
    }
}
