//! The endpoints of one Service port, or one outside host, and which of them gets the next request.
//! Endpoint changes happen here, without a new configuration of the routes.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_wire::{Endpoints, UpstreamPart};

use super::pool::{Endpoint, Place, Speech};
use crate::dialling::Dialling;
use crate::id::random;

/// Somewhere requests can go; the endpoints behind it may change at any time.
pub(crate) struct Upstream {
    endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    dialling: Dialling,
    threads: usize,
}

impl Upstream {
    /// Nowhere yet.
    pub(crate) fn new(dialling: Dialling, threads: usize) -> Self {
        Self { endpoints: ArcSwap::from_pointee(Vec::new()), dialling, threads }
    }

    /// One outside host.
    pub(crate) fn single(place: Place, speech: Speech, dialling: Dialling, threads: usize) -> Self {
        let endpoint = Arc::new(Endpoint::new(place, speech, dialling.clone(), threads));
        Self { endpoints: ArcSwap::from_pointee(vec![endpoint]), dialling, threads }
    }

    /// Replaces the endpoints; those that stay keep their connections.
    pub(crate) fn update(&self, part: Option<&UpstreamPart>) {
        let Some(part) = part else {
            self.endpoints.store(Arc::default());
            return;
        };
        let places: Vec<Place> = match &part.endpoints {
            Endpoints::Addresses(list) => {
                let mut seen: HashSet<SocketAddr> = HashSet::new();
                list.iter().filter(|address| seen.insert(**address)).map(|address| Place::Address(*address)).collect()
            }
            Endpoints::Name { host, port } => vec![Place::Name(host.as_str().into(), *port)],
        };
        let old = self.endpoints.load();
        let endpoint = |place: Place| {
            let kept = old.iter().find(|endpoint| endpoint.place == place && endpoint.is_h2c() == part.h2c);
            kept.cloned().unwrap_or_else(|| {
                let speech = if part.h2c { Speech::H2c } else { Speech::Plain };
                Arc::new(Endpoint::new(place, speech, self.dialling.clone(), self.threads))
            })
        };
        self.endpoints.store(Arc::new(places.into_iter().map(endpoint).collect()));
    }

    /// The less busy of two chosen at random, without those in `tried`; such as could not be reached just now come last.
    pub(crate) fn pick(&self, tried: &[Arc<Endpoint>]) -> Option<Arc<Endpoint>> {
        let endpoints = self.endpoints.load();
        if let ([only], []) = (endpoints.as_slice(), tried) {
            return Some(only.clone());
        }
        let count = endpoints.len();
        if tried.is_empty() && count > 1 {
            let dice = random();
            let one = (dice as usize) % count;
            let two = (one + 1 + ((dice >> 32) as usize) % (count - 1)) % count;
            let (one, two) = (&endpoints[one], &endpoints[two]);
            let best = if two.load() < one.load() { two } else { one };
            if !best.shunned() {
                return Some(best.clone());
            }
        }
        let left = || endpoints.iter().filter(|endpoint| !tried.iter().any(|other| Arc::ptr_eq(endpoint, other)));
        let healthy = left().filter(|endpoint| !endpoint.shunned()).min_by_key(|endpoint| endpoint.load());
        healthy.or_else(|| left().min_by_key(|endpoint| endpoint.load())).cloned()
    }
}
