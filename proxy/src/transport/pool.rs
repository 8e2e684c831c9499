//! The endpoints of one server or Service port, and the choice of one for a request. The addresses of a name are endpoints
//! as those of a Service are. Endpoints can change at any time, without a new configuration of the routes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::body::SendBody;
use super::dial::{Dialer, Reach, ServerAddress, Transport};
use super::endpoint::Endpoint;
use super::error::{ConnectError, Error};
use super::failures::Failures;
use super::in_flight::InFlight;
use super::names::{Addresses, Name};
use super::resolver::NameError;
use super::settings::Context;
use crate::deadline::lately;
use crate::id::random;

/// A name that requests use is asked for its addresses this often; whether they are looked up again then, its TTL decides.
const ASK: Duration = Duration::from_millis(200);
/// The endpoints are addresses.
const NEVER: u64 = u64::MAX;

/// A set of endpoints that serve the same requests.
pub(crate) struct Pool<B: SendBody> {
    endpoints: ArcSwap<Endpoints<B>>,
    /// When the name is asked next, in milliseconds since `born`.
    ask_at: AtomicU64,
    born: Instant,
    /// The endpoints are the addresses of this name; also held while they change.
    named: Mutex<Option<(Arc<Name>, Transport)>>,
    failures: Arc<Failures>,
    context: Context,
    in_flight: InFlight,
}

struct Endpoints<B: SendBody> {
    all: Vec<Arc<Endpoint<B>>>,
    /// The first ones get requests; the others only when none of those is healthy.
    preferred: usize,
    /// The addresses of a name that they are.
    of: Option<Arc<Addresses>>,
}

impl<B: SendBody> Default for Endpoints<B> {
    fn default() -> Self {
        Self { all: Vec::new(), preferred: 0, of: None }
    }
}

impl<B: SendBody> Pool<B> {
    /// Without endpoints.
    pub(crate) fn new(failures: Failures, context: Context) -> Self {
        Self {
            endpoints: ArcSwap::from_pointee(Endpoints::default()),
            ask_at: AtomicU64::new(NEVER),
            born: Instant::now(),
            named: Mutex::default(),
            failures: Arc::new(failures),
            in_flight: InFlight::new(context.limits.requests),
            context,
        }
    }

    /// The requests in flight to it. A request is counted by the code that forwards it, for as long as its response or tunnel lasts.
    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    fn named(&self) -> MutexGuard<'_, Option<(Arc<Name>, Transport)>> {
        self.named.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the endpoints; those that stay keep their connections.
    pub(crate) fn update(&self, addresses: &[SocketAddr], transport: &Transport) {
        let mut named = self.named();
        *named = None;
        self.ask_at.store(NEVER, Ordering::Relaxed);
        self.replace(addresses, addresses.len(), None, transport);
    }

    /// The endpoints are the addresses of a name from now on. `tenant` is the namespace that uses it.
    pub(crate) fn update_name(&self, host: &str, port: u16, tenant: &str, transport: &Transport) {
        let mut named = self.named();
        let resolver = &self.context.resolver;
        let known = named.as_ref().filter(|(name, _)| name.is(host, port, resolver, tenant));
        if known.is_some_and(|(_, known)| known == transport) {
            return;
        }
        let name = known.map(|(name, _)| name.clone());
        let name = name.unwrap_or_else(|| Name::new(host, port, resolver, tenant));
        *named = Some((name, transport.clone()));
        self.endpoints.store(Arc::default());
        self.ask_at.store(0, Ordering::Relaxed);
    }

    /// The caller holds `named`.
    fn replace(&self, addresses: &[SocketAddr], preferred: usize, of: Option<Arc<Addresses>>, transport: &Transport) {
        let old = self.endpoints.load();
        let same = old.all.iter().filter(|endpoint| endpoint.dialer.transport == *transport);
        let same: HashMap<SocketAddr, &Arc<Endpoint<B>>> =
            same.map(|endpoint| (endpoint.address(), endpoint)).collect();
        let endpoint = |address: &SocketAddr| {
            let make = || {
                let reach = Reach::Policy(self.context.egress.clone());
                let dialer = Dialer::new(ServerAddress::Address(*address), transport.clone(), reach);
                Arc::new(Endpoint::new(*address, dialer, self.failures.clone(), self.context.clone()))
            };
            same.get(address).map_or_else(make, |kept| Arc::clone(kept))
        };
        let all: Vec<_> = addresses.iter().map(endpoint).collect();
        self.failures.retain(addresses.iter());
        self.endpoints.store(Arc::new(Endpoints { all, preferred, of }));
    }

    /// Makes the current addresses of a name the endpoints, where they are those of a name and were not asked for lately.
    pub(super) async fn refresh(&self) -> Result<(), Error> {
        let at = self.ask_at.load(Ordering::Relaxed);
        if at == NEVER || self.millis(lately()) < at {
            return Ok(());
        }
        // Boxed, so that it costs endpoints that are addresses nothing.
        Box::pin(self.ask()).await
    }

    fn millis(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_millis()).unwrap_or(NEVER - 1)
    }

    async fn ask(&self) -> Result<(), Error> {
        let Some((name, transport)) = self.named().clone() else { return Ok(()) };
        let asked = tokio::time::timeout(self.context.timeouts.connect, name.addresses()).await;
        let found = asked.unwrap_or(Err(NameError::Timeout));
        let named = self.named();
        // It may have changed in the meantime; the request then uses the endpoints that there are.
        if !named.as_ref().is_some_and(|(current, _)| Arc::ptr_eq(current, &name)) {
            return Ok(());
        }
        match found {
            Ok(addresses) => {
                self.failures.recovered(name.host());
                self.ask_at.store(self.millis(lately() + ASK), Ordering::Relaxed);
                if self.endpoints.load().of.as_ref().is_none_or(|of| !Arc::ptr_eq(of, &addresses)) {
                    self.adopt(addresses, &transport);
                }
                Ok(())
            }
            Err(error) => {
                self.ask_at.store(0, Ordering::Relaxed);
                self.endpoints.store(Arc::default());
                drop(named);
                let error = Error::from(ConnectError::Name(error));
                if let Some(cause) = error.cause() {
                    self.failures.failed(name.host(), cause, &error);
                }
                Err(error)
            }
        }
    }

    /// Addresses that the egress policy denies are left out where there are others.
    fn adopt(&self, found: Arc<Addresses>, transport: &Transport) {
        let permitted = |address: &&SocketAddr| self.context.egress.permits(address.ip());
        let preferred = found.all.iter().take(found.preferred).filter(permitted).count();
        let list: Vec<SocketAddr> = found.all.iter().filter(permitted).copied().collect();
        match (list.len(), preferred) {
            (0, _) => self.replace(&found.all, found.preferred, Some(found.clone()), transport),
            (all, 0) => self.replace(&list, all, Some(found), transport),
            (_, preferred) => self.replace(&list, preferred, Some(found), transport),
        }
    }

    /// The less loaded of two endpoints chosen at random, without those in `tried`; ejected ones come last.
    pub(super) fn pick(&self, tried: &[Arc<Endpoint<B>>]) -> Option<Arc<Endpoint<B>>> {
        let endpoints = self.endpoints.load();
        let all = endpoints.all.as_slice();
        if let ([only], []) = (all, tried) {
            return Some(only.clone());
        }
        let count = endpoints.preferred;
        if tried.is_empty() && count > 1 {
            let dice = random();
            let one = (dice as usize) % count;
            let two = (one + 1 + ((dice >> 32) as usize) % (count - 1)) % count;
            let (one, two) = (&all[one], &all[two]);
            let best = if two.load() < one.load() { two } else { one };
            if !best.is_ejected() {
                return Some(best.clone());
            }
        }
        let left = || {
            let all = all.iter().enumerate();
            all.filter(|(_, endpoint)| !tried.iter().any(|other| Arc::ptr_eq(endpoint, other)))
        };
        let order = |(at, endpoint): &(usize, &Arc<Endpoint<B>>)| (*at >= count, endpoint.load());
        let healthy = left().filter(|(_, endpoint)| !endpoint.is_ejected()).min_by_key(order);
        healthy.or_else(|| left().min_by_key(order)).map(|(_, endpoint)| endpoint.clone())
    }
}
