//! The connected proxies and the configuration that each of them serves. `rollout` derives from it whether an object is
//! programmed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_wire::{Diagnostic, Hash, Hello, ObjectRef, Part, PartKind, Parts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::publish::Published;

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
    pub refused: Option<(Hash, String)>,
    /// The kinds of parts that it does not support.
    pub unsupported: Arc<[PartKind]>,
    /// Whether it is late with an acknowledgement.
    pub lagging: bool,
}

/// The connected proxies.
#[derive(Clone, Debug)]
pub struct Fleet {
    members: Arc<Mutex<BTreeMap<String, Seat>>>,
    changed: watch::Sender<u64>,
    metrics: Metrics,
}

#[derive(Debug)]
struct Seat {
    member: Member,
    replaced: CancellationToken,
    id: u64,
}

/// A proxy's membership of the fleet, which ends when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it makes the proxy leave the fleet"]
pub(crate) struct Membership {
    fleet: Fleet,
    name: String,
    id: u64,
    /// Cancelled when a newer connection of the same proxy replaces this one.
    pub(crate) replaced: CancellationToken,
}

impl Fleet {
    /// A fleet without proxies.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { members: Arc::default(), changed: watch::Sender::new(0), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seat>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connected proxies, by name.
    #[must_use]
    pub fn members(&self) -> BTreeMap<String, Member> {
        self.lock().iter().map(|(name, seat)| (name.clone(), seat.member.clone())).collect()
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
        let name = hello.proxy.as_str();
        let replaced = CancellationToken::new();
        let id = {
            let mut members = self.lock();
            let before = members.remove(name);
            let id = before.as_ref().map_or(0, |seat| seat.id + 1);
            if let Some(before) = before {
                tracing::info!(proxy.name = name, "proxy reconnected; ending its older connection");
                before.replaced.cancel();
            }
            let member = Member {
                version: None,
                known: Known::Reported(reported),
                diagnostics: Arc::default(),
                refused: None,
                unsupported: PartKind::known().filter(|kind| !hello.capabilities.has_part(*kind)).collect(),
                lagging: false,
            };
            let seat = Seat { member, replaced: replaced.clone(), id };
            members.insert(name.to_owned(), seat);
            id
        };
        self.notify();
        Membership { fleet: self.clone(), name: name.to_owned(), id, replaced }
    }

    fn notify(&self) {
        let (mut current, mut behind) = (0, 0);
        for seat in self.lock().values() {
            let fine = seat.member.version.is_some() && !seat.member.lagging && seat.member.refused.is_none();
            *(if fine { &mut current } else { &mut behind }) += 1;
        }
        self.metrics.proxies.with_label_values(&["current"]).set(current);
        self.metrics.proxies.with_label_values(&["behind"]).set(behind);
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }
}

impl Membership {
    fn update(&self, change: impl FnOnce(&mut Member)) {
        {
            let mut members = self.fleet.lock();
            match members.get_mut(&self.name) {
                Some(seat) if seat.id == self.id => change(&mut seat.member),
                _ => return,
            }
        }
        self.fleet.notify();
    }

    /// The proxy applied a configuration.
    pub(crate) fn applied(&self, published: &Published, diagnostics: Vec<Diagnostic>) {
        let diagnostics = diagnostics.into_iter().map(|found| (found.object, found.message)).collect();
        self.fleet.metrics.acks.with_label_values(&["applied"]).inc();
        self.update(|member| {
            member.version = Some(published.version);
            member.known = Known::Acknowledged(published.parts.clone());
            member.diagnostics = Arc::new(diagnostics);
            member.refused = None;
            member.lagging = false;
        });
    }

    /// The proxy rejected a configuration and serves the one before.
    pub(crate) fn refused(&self, version: Hash, why: String) {
        self.fleet.metrics.acks.with_label_values(&["rejected"]).inc();
        self.update(|member| {
            member.refused = Some((version, why));
            member.lagging = false;
        });
    }

    /// The proxy has not acknowledged in time.
    pub(crate) fn lagging(&self) {
        self.fleet.metrics.acks.with_label_values(&["timeout"]).inc();
        self.update(|member| member.lagging = true);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        {
            let mut members = self.fleet.lock();
            if members.get(&self.name).is_some_and(|seat| seat.id == self.id) {
                members.remove(&self.name);
            }
        }
        self.fleet.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_connection_of_a_proxy_replaces_the_first() {
        let fleet = Fleet::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let first = fleet.join(&Hello::new("one", "test"), Parts::new());
        let second = fleet.join(&Hello::new("one", "test"), Parts::new());
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(fleet.len(), 1);
        drop(second);
        assert!(fleet.is_empty());
    }
}
