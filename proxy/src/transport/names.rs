//! The addresses of a name, for as long as they are valid. One look-up serves all requests; it is repeated while there are
//! requests, and its last result is used for longer while the name servers fail. `resolver` does the look-ups.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::Notify;

use super::resolver::{NameError, Resolved, Resolver, Tenant};

/// A result is used for its TTL, within these bounds: names move, and name servers have limits.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);
/// While the name servers fail or do not respond, the last result is used for this long.
const STALE: Duration = Duration::from_secs(300);
/// A look-up is waited for this long where there is an older result.
const LOOKUP_WAIT: Duration = Duration::from_millis(500);
/// After a failure, the next look-up waits for this long; twice as long after each further one, up to a bound.
const FAILED: Duration = Duration::from_secs(1);
const LONGEST_FAILED: Duration = Duration::from_secs(30);
/// The bound where the name does not exist: it may be created.
const LONGEST_NOT_FOUND: Duration = Duration::from_secs(4);

/// The time for which an address as text is its own result.
const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// Addresses with a port. Those of the family that this machine prefers come first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) all: Box<[SocketAddr]>,
    /// How many are of the preferred family.
    pub(super) preferred: usize,
}

/// A host and port, and its addresses as far as they are known.
pub(crate) struct Name {
    host: Box<str>,
    port: u16,
    resolver: Resolver,
    tenant: Tenant,
    state: Mutex<LookupState>,
    changed: Notify,
}

struct Known {
    addresses: Arc<Addresses>,
    since: Instant,
    ttl: Duration,
}

#[derive(Default)]
struct LookupState {
    known: Option<Known>,
    /// The last look-up failed; the next one is not before that.
    failed: Option<(NameError, Instant)>,
    failures: u32,
    /// Since when a look-up runs: one at a time.
    running: Option<Instant>,
}

impl Name {
    /// A name that `tenant` (a namespace, or a part of this program) uses.
    pub(crate) fn new(host: &str, port: u16, resolver: &Resolver, tenant: &str) -> Arc<Self> {
        let host: Box<str> = host.trim_start_matches('[').trim_end_matches(']').into();
        let mut state = LookupState::default();
        if let Ok(address) = host.parse::<IpAddr>() {
            let addresses = Arc::new(Addresses { all: [SocketAddr::new(address, port)].into(), preferred: 1 });
            state.known = Some(Known { addresses, since: Instant::now(), ttl: FOREVER });
        }
        let (resolver, tenant) = (resolver.clone(), resolver.tenant(tenant));
        Arc::new(Self { host, port, resolver, tenant, state: Mutex::new(state), changed: Notify::new() })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is this name, used by the same namespace.
    pub(super) fn is(&self, host: &str, port: u16, resolver: &Resolver, tenant: &str) -> bool {
        *self.host == *host && self.port == port && resolver.tenant(tenant) == self.tenant
    }

    fn state(&self) -> MutexGuard<'_, LookupState> {
        // Poison would mean a panic between two statements that cannot panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current addresses. The same result is the same `Arc`.
    pub(super) async fn addresses(self: &Arc<Self>) -> Result<Arc<Addresses>, NameError> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // No change is missed after this.
            changed.as_mut().enable();
            if let Some(known) = self.known(Instant::now()) {
                return known;
            }
            if tokio::time::timeout(LOOKUP_WAIT, changed).await.is_err()
                && let Some(stale) = self.state().stale(Instant::now())
            {
                return Ok(stale);
            }
        }
    }

    /// The result that is known; none: a look-up is running now.
    fn known(self: &Arc<Self>, now: Instant) -> Option<Result<Arc<Addresses>, NameError>> {
        let mut state = self.state();
        if let Some(Known { addresses, since, ttl }) = &state.known {
            let (addresses, age, ttl) = (addresses.clone(), now.duration_since(*since), *ttl);
            // Near the end of its time, so that requests do not wait for it.
            if age >= ttl * 4 / 5 {
                self.begin(&mut state, now);
            }
            if age < ttl {
                return Some(Ok(addresses));
            }
        }
        if let Some((error, until)) = state.failed
            && now < until
        {
            return Some(state.stale(now).ok_or(error));
        }
        self.begin(&mut state, now);
        // It was waited for already.
        let slow = state.running.is_some_and(|since| now.duration_since(since) >= LOOKUP_WAIT);
        if slow { state.stale(now).map(Ok) } else { None }
    }

    fn begin(self: &Arc<Self>, state: &mut LookupState, now: Instant) {
        if state.running.is_some() || state.failed.is_some_and(|(_, until)| now < until) {
            return;
        }
        state.running = Some(now);
        let running = LookUp(self.clone());
        self.resolver.spawn(async move { look_up(&running).await });
    }
}

impl LookupState {
    fn stale(&self, now: Instant) -> Option<Arc<Addresses>> {
        let known = self.known.as_ref().filter(|known| now.duration_since(known.since) < STALE);
        known.map(|known| known.addresses.clone())
    }

    fn fails(&mut self, error: NameError, now: Instant) {
        let longest = if error == NameError::NotFound { LONGEST_NOT_FOUND } else { LONGEST_FAILED };
        let pause = FAILED.saturating_mul(1 << self.failures.min(10)).min(longest);
        self.failures = self.failures.saturating_add(1);
        self.failed = Some((error, now + pause));
        // That is a response: the addresses are no longer those of the name.
        if error == NameError::NotFound {
            self.known = None;
        }
    }

    fn succeeds(&mut self, found: Addresses, ttl: Duration, now: Instant) {
        let same = self.known.take().map(|known| known.addresses).filter(|known| **known == found);
        let addresses = same.unwrap_or_else(|| Arc::new(found));
        self.known = Some(Known { addresses, since: now, ttl: ttl.clamp(SHORTEST, LONGEST) });
        (self.failed, self.failures) = (None, 0);
    }
}

/// A look-up in progress. Its drop allows the next one, however it ended.
struct LookUp(Arc<Name>);

impl Drop for LookUp {
    fn drop(&mut self) {
        self.0.state().running = None;
        self.0.changed.notify_waiters();
    }
}

async fn look_up(LookUp(name): &LookUp) {
    match name.resolver.look_up(&name.host, &name.tenant).await {
        Ok(Resolved { addresses, ttl }) => {
            let found = preferred_first(&addresses, name.port).await;
            name.state().succeeds(found, ttl, Instant::now());
        }
        Err(error) => {
            tracing::debug!(host = %name.host, %error, "cannot resolve a name");
            name.state().fails(error, Instant::now());
        }
    }
}

/// IPv4 is preferred where there are addresses of both families, unless only IPv6 has a route.
async fn preferred_first(addresses: &[IpAddr], port: u16) -> Addresses {
    let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().copied().partition(IpAddr::is_ipv4);
    let v4_first = match (v4.first(), v6.first()) {
        (Some(v4), Some(_)) => has_route(*v4).await,
        (v4, _) => v4.is_some(),
    };
    let (first, second) = if v4_first { (v4, v6) } else { (v6, v4) };
    let preferred = first.len();
    Addresses { all: first.into_iter().chain(second).map(|ip| SocketAddr::new(ip, port)).collect(), preferred }
}

/// Whether the machine has a route to an address. Nothing is sent.
async fn has_route(to: IpAddr) -> bool {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    match UdpSocket::bind((any, 0)).await {
        Ok(socket) => socket.connect((to, 9)).await.is_ok(),
        Err(_) => false,
    }
}
