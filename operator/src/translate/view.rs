//! The cluster state as one translation sees it. It records what the translation read, so that a change of that, and only of
//! that, causes another translation.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use crate::cluster_issuer::ClusterIssuer;
use crate::cluster_state::{CLUSTER_ISSUER, ClusterState, Stored};
use crate::objects::{Kind, ObjectKey};
use crate::translate::conflicts::Claims;
use crate::translate::days::SigningDays;

/// An object, or a group of objects, that a translation read.
pub(crate) type Source = (Kind, ObjectKey);

/// What a translation read that depends on the current day. No object has this key.
pub(crate) fn days_source() -> Source {
    (Kind::Principal, ObjectKey::new("", ""))
}

/// The cluster state, with a record of what was read.
pub(crate) struct View<'a> {
    state: &'a ClusterState,
    /// All claims.
    pub(crate) claims: &'a Claims,
    days: SigningDays,
    reads: RefCell<BTreeSet<Source>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(state: &'a ClusterState, claims: &'a Claims, days: SigningDays) -> Self {
        Self { state, claims, days, reads: RefCell::default() }
    }

    /// The days for which signing keys are derived.
    pub(crate) fn days(&self) -> SigningDays {
        self.reads.borrow_mut().insert(days_source());
        self.days
    }

    /// Everything that was read.
    pub(crate) fn into_reads(self) -> BTreeSet<Source> {
        self.reads.into_inner()
    }

    fn read(&self, kind: Kind, key: &ObjectKey) {
        self.reads.borrow_mut().insert((kind, key.clone()));
    }

    /// One object.
    pub(crate) fn get<K: Stored>(&self, key: &ObjectKey) -> Option<&'a Arc<K>> {
        self.read(K::KIND, key);
        self.state.store::<K>().get(key)
    }

    /// The objects of a group: see `Watched::group`.
    pub(crate) fn group<K: Stored>(&self, group: &ObjectKey) -> impl Iterator<Item = &'a Arc<K>> + use<'a, K> {
        self.read(K::KIND, group);
        self.state.store::<K>().group(group).map(|(_, object)| object)
    }

    /// The cluster's issuer of tokens for ServiceAccounts, or why there is none.
    pub(crate) fn issuer(&self) -> Result<&'a ClusterIssuer, &'a str> {
        self.read(CLUSTER_ISSUER.0, &CLUSTER_ISSUER.1);
        self.state.issuer.as_deref().map_err(String::as_str)
    }

    /// The message about an object that is absent: it does not exist, cannot be parsed, or is not known yet.
    pub(crate) fn absence(&self, kind: Kind, key: &ObjectKey) -> String {
        let id = (kind, key.clone());
        if self.state.unparsable.contains_key(&id) {
            format!("{kind} {key} is invalid; correct it first")
        } else if self.state.unknown.contains(&id) {
            format!("{kind} {key} is not loaded yet, or the operator has no permission to read it")
        } else {
            format!("{kind} {key} does not exist; create it or correct the name")
        }
    }

    /// Whether it is not known yet that the object exists, or that it does not. It must have been read before.
    pub(crate) fn is_unknown(&self, kind: Kind, key: &ObjectKey) -> bool {
        self.state.unknown.contains(&(kind, key.clone()))
    }
}
