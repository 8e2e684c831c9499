//! The connected proxies and the configuration that each of them serves. `rollout` derives from it whether an object is
//! programmed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_wire::{Diagnostic, FleetName, Hash, Hello, ObjectRef, Part, PartKind, Parts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::publish::configuration::Published;

/// The configuration that a proxy serves.
#[derive(Clone, Debug)]
pub enum Known {
    /// The hashes that it reported when it connected.
    Reported(Parts<Hash>),
    /// The configuration that it acknowledged last.
    Acknowledged(Parts<Arc<Part>>),
}

impl Known {
    /// The version of what it serves.
    #[must_use]
    pub fn version(&self) -> Hash {
        match self {
            Self::Reported(parts) => parts.version(),
            Self::Acknowledged(parts) => parts.version(),
        }
    }
}

/// A proxy's fleet and its name there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProxyId {
    /// The fleet.
    pub fleet: FleetName,
    /// The name, usually its pod's.
    pub name: String,
}

/// One connected proxy.
#[derive(Clone, Debug)]
pub struct Member {
    /// The version it acknowledged last; none before the first.
    pub version: Option<Hash>,
    /// The parts it serves.
    pub known: Known,
    /// The objects that it cannot serve as written.
    pub diagnostics: Arc<BTreeMap<ObjectRef, String>>,
    /// The version it rejected, and why.
    pub rejected: Option<(Hash, String)>,
    /// The kinds of parts that it does not support.
    pub unsupported: Arc<[PartKind]>,
    /// Whether it is late with an acknowledgement.
    pub lagging: bool,
}

/// The connected proxies of all fleets.
#[derive(Clone, Debug)]
pub struct Proxies {
    members: Arc<Mutex<BTreeMap<ProxyId, Connected>>>,
    changed: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Connected {
    member: Member,
    replaced: CancellationToken,
    /// Which connection of the proxy it is.
    connection: u64,
}

/// A proxy's membership of its fleet, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it makes the proxy leave the fleet"]
pub(crate) struct Membership {
    proxies: Proxies,
    id: ProxyId,
    connection: u64,
    /// Cancelled when a newer connection of the same proxy replaces this one.
    pub(crate) replaced: CancellationToken,
}

impl Proxies {
    /// No proxy is connected.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { members: Arc::default(), changed: watch::Sender::new(0), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ProxyId, Connected>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connected proxies.
    #[must_use]
    pub fn members(&self) -> BTreeMap<ProxyId, Member> {
        self.lock().iter().map(|(id, connected)| (id.clone(), connected.member.clone())).collect()
    }

    /// One connected proxy.
    #[must_use]
    pub fn member(&self, fleet: &FleetName, name: &str) -> Option<Member> {
        let id = ProxyId { fleet: fleet.clone(), name: name.to_owned() };
        self.lock().get(&id).map(|connected| connected.member.clone())
    }

    /// The number of connected proxies of one fleet: they share each limit.
    #[must_use]
    pub fn size_of(&self, fleet: &FleetName) -> usize {
        self.lock().keys().filter(|id| id.fleet == *fleet).count()
    }

    /// The number of connected proxies.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether no proxy is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when a proxy connects, disconnects or acknowledges a configuration.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The number of changes so far: while it stays the same, so do the members.
    pub(crate) fn count(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Adds a proxy that reports to serve `reported`. An older connection of the same name is ended.
    pub(crate) fn join(&self, hello: &Hello, reported: Parts<Hash>) -> Membership {
        let id = ProxyId { fleet: hello.fleet.clone(), name: hello.proxy.clone() };
        let replaced = CancellationToken::new();
        let connection = {
            let mut members = self.lock();
            let before = members.remove(&id);
            let connection = before.as_ref().map_or(0, |connected| connected.connection + 1);
            if let Some(before) = before {
                tracing::info!(proxy.name = id.name, fleet.name = %id.fleet, "proxy reconnected; ending its older connection");
                before.replaced.cancel();
            }
            let member = Member {
                version: None,
                known: Known::Reported(reported),
                diagnostics: Arc::default(),
                rejected: None,
                unsupported: PartKind::known().filter(|kind| !hello.capabilities.has_part(*kind)).collect(),
                lagging: false,
            };
            let connected = Connected { member, replaced: replaced.clone(), connection };
            members.insert(id.clone(), connected);
            connection
        };
        self.notify();
        Membership { proxies: self.clone(), id, connection, replaced }
    }

    fn notify(&self) {
        let mut states: BTreeMap<FleetName, [i64; 2]> = BTreeMap::new();
        for (id, connected) in self.lock().iter() {
            let current =
                connected.member.version.is_some() && !connected.member.lagging && connected.member.rejected.is_none();
            let [current_count, behind_count] = states.entry(id.fleet.clone()).or_default();
            *(if current { current_count } else { behind_count }) += 1;
        }
        self.metrics.connected(&states);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Membership {
    /// The name of the proxy.
    pub(crate) fn name(&self) -> &str {
        &self.id.name
    }

    fn update(&self, change: impl FnOnce(&mut Member)) {
        {
            let mut members = self.proxies.lock();
            match members.get_mut(&self.id) {
                Some(connected) if connected.connection == self.connection => change(&mut connected.member),
                _ => return,
            }
        }
        self.proxies.notify();
    }

    /// The proxy applied a configuration.
    pub(crate) fn applied(&self, published: &Published, diagnostics: Vec<Diagnostic>) {
        let diagnostics = diagnostics.into_iter().map(|found| (found.object, found.message)).collect();
        self.proxies.metrics.acknowledged(&self.id.fleet, "applied");
        self.update(|member| {
            member.version = Some(published.version);
            member.known = Known::Acknowledged(published.parts.clone());
            member.diagnostics = Arc::new(diagnostics);
            member.rejected = None;
            member.lagging = false;
        });
    }

    /// The proxy rejected a configuration and serves the one before.
    pub(crate) fn rejected(&self, version: Hash, why: String) {
        self.proxies.metrics.acknowledged(&self.id.fleet, "rejected");
        self.update(|member| {
            member.rejected = Some((version, why));
            member.lagging = false;
        });
    }

    /// The proxy has not acknowledged in time.
    pub(crate) fn lagging(&self) {
        self.proxies.metrics.acknowledged(&self.id.fleet, "timeout");
        self.update(|member| member.lagging = true);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        {
            let mut members = self.proxies.lock();
            if members.get(&self.id).is_some_and(|connected| connected.connection == self.connection) {
                members.remove(&self.id);
            }
        }
        self.proxies.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_connection_of_a_proxy_replaces_the_first() {
        let proxies = Proxies::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let first = proxies.join(&Hello::new("one", "test"), Parts::new());
        let second = proxies.join(&Hello::new("one", "test"), Parts::new());
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(proxies.len(), 1);
        drop(second);
        assert!(proxies.is_empty());
    }
}
