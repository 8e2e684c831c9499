//! Looking things up in the cluster state while writing down what was looked at, so that a change of it, and only that, leads to
//! another translation. What a missing thing means is said by the kinds' own rooms.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sluice_crds::{ApiRoute, Authorizer, Stage, UsagePlan};

use crate::cluster_state::ClusterState;
use crate::objects::{Kind, ObjectKey};
use crate::translate::conflicts::Claims;

/// Something that was looked at. Of Services `EndpointSlice` means all slices of the Service with that key.
pub(crate) type Source = (Kind, ObjectKey);

/// The cluster state as one translation sees it.
pub(crate) struct View<'a> {
    state: &'a ClusterState,
    /// Who claimed what first.
    pub(crate) claims: &'a Claims,
    reads: RefCell<BTreeSet<Source>>,
}

impl<'a> View<'a> {
    pub(crate) fn new(state: &'a ClusterState, claims: &'a Claims) -> Self {
        Self { state, claims, reads: RefCell::default() }
    }

    /// Everything that was looked at.
    pub(crate) fn into_reads(self) -> BTreeSet<Source> {
        self.reads.into_inner()
    }

    fn look<K>(&self, kind: Kind, map: &'a BTreeMap<ObjectKey, K>, key: &ObjectKey) -> Option<&'a K> {
        self.reads.borrow_mut().insert((kind, key.clone()));
        map.get(key)
    }

    /// How to speak of an object that is not there: it does not exist, or it cannot be read.
    pub(crate) fn absence(&self, kind: Kind, key: &ObjectKey) -> String {
        let id = (kind, key.clone());
        if self.state.unparsable.contains_key(&id) {
            format!("{kind} {key} cannot be read; correct it first")
        } else if self.state.unknown.contains(&id) {
            format!(
                "the API server has not said yet whether there is a {kind} {key}, or does not let the operator read it"
            )
        } else {
            format!("there is no {kind} {key}; create it or correct the name")
        }
    }

    /// Whether nobody has said yet that the object exists, or that it does not. It must have been looked up.
    pub(crate) fn is_unknown(&self, kind: Kind, key: &ObjectKey) -> bool {
        self.state.unknown.contains(&(kind, key.clone()))
    }

    pub(crate) fn stage(&self, key: &ObjectKey) -> Option<&'a Arc<Stage>> {
        self.look(Kind::Stage, &self.state.stages, key)
    }

    pub(crate) fn api_route(&self, key: &ObjectKey) -> Option<&'a Arc<ApiRoute>> {
        self.look(Kind::ApiRoute, &self.state.api_routes, key)
    }

    pub(crate) fn authorizer(&self, key: &ObjectKey) -> Option<&'a Arc<Authorizer>> {
        self.look(Kind::Authorizer, &self.state.authorizers, key)
    }

    pub(crate) fn usage_plan(&self, key: &ObjectKey) -> Option<&'a Arc<UsagePlan>> {
        self.look(Kind::UsagePlan, &self.state.usage_plans, key)
    }

    pub(crate) fn service(&self, key: &ObjectKey) -> Option<&'a Arc<Service>> {
        self.look(Kind::Service, &self.state.services, key)
    }

    pub(crate) fn secret(&self, key: &ObjectKey) -> Option<&'a Arc<Secret>> {
        self.look(Kind::Secret, &self.state.secrets, key)
    }

    pub(crate) fn config_map(&self, key: &ObjectKey) -> Option<&'a Arc<ConfigMap>> {
        self.look(Kind::ConfigMap, &self.state.config_maps, key)
    }

    pub(crate) fn slices(&self, service: &ObjectKey) -> impl Iterator<Item = &'a Arc<EndpointSlice>> + use<'a> {
        self.look(Kind::EndpointSlice, &self.state.endpoint_slices, service).into_iter().flat_map(BTreeMap::values)
    }
}
