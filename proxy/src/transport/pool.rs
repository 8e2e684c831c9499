//! The endpoints of one server or Service port, and the choice of one for a request.
//! Endpoints can change at any time, without a new configuration of the routes.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::body::SendBody;
use super::dial::{Dialer, ServerAddress, Transport};
use super::endpoint::Endpoint;
use super::in_flight::InFlight;
use super::settings::Context;
use crate::id::random;

/// A set of endpoints that serve the same requests.
pub(crate) struct Pool<B: SendBody> {
    endpoints: ArcSwap<Vec<Arc<Endpoint<B>>>>,
    context: Context,
    in_flight: InFlight,
}

impl<B: SendBody> Pool<B> {
    /// Without endpoints.
    pub(crate) fn new(context: Context) -> Self {
        let in_flight = InFlight::new(context.limits.requests);
        Self { endpoints: ArcSwap::from_pointee(Vec::new()), context, in_flight }
    }

    /// The requests in flight to it. A request is counted by the code that forwards it, for as long as its response or tunnel lasts.
    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// With one endpoint.
    pub(crate) fn single(place: ServerAddress, transport: Transport, context: Context) -> Self {
        let pool = Self::new(context);
        pool.update(vec![place], &transport);
        pool
    }

    /// Replaces the endpoints; those that stay keep their connections.
    pub(crate) fn update(&self, places: Vec<ServerAddress>, transport: &Transport) {
        let old = self.endpoints.load();
        let endpoint = |place: ServerAddress| {
            let same = |dialer: &Dialer| dialer.place == place && dialer.transport == *transport;
            let kept = old.iter().find(|endpoint| same(&endpoint.dialer));
            kept.cloned().unwrap_or_else(|| Arc::new(Endpoint::new(place, transport.clone(), self.context.clone())))
        };
        self.endpoints.store(Arc::new(places.into_iter().map(endpoint).collect()));
    }

    /// The less loaded of two endpoints chosen at random, without those in `tried`; ejected ones come last.
    pub(super) fn pick(&self, tried: &[Arc<Endpoint<B>>]) -> Option<Arc<Endpoint<B>>> {
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
            if !best.is_ejected() {
                return Some(best.clone());
            }
        }
        let left = || endpoints.iter().filter(|endpoint| !tried.iter().any(|other| Arc::ptr_eq(endpoint, other)));
        let healthy = left().filter(|endpoint| !endpoint.is_ejected()).min_by_key(|endpoint| endpoint.load());
        healthy.or_else(|| left().min_by_key(|endpoint| endpoint.load())).cloned()
    }
}
