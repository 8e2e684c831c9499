//! Which proxies are connected and what each of them serves, truthfully. How they were told is the sessions'; what that
//! means for an object is `census`'.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_wire::{Diagnostic, Hash, ObjectRef, Part, Parts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::publish::Published;

/// What a proxy serves.
#[derive(Clone, Debug)]
pub enum Known {
    /// By its own words.
    Told(Parts<Hash>),
    /// What it has acknowledged.
    Served(Parts<Arc<Part>>),
}

impl Known {
    /// The version of what it serves.
    #[must_use]
    pub fn version(&self) -> Hash {
        match self {
            Self::Told(parts) => parts.version(),
            Self::Served(parts) => parts.version(),
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
    /// What it cannot serve as written.
    pub diagnostics: Arc<BTreeMap<ObjectRef, String>>,
    /// The version it refused, and why.
    pub refused: Option<(Hash, String)>,
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

/// A proxy's place in the fleet: it leaves when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it makes the proxy leave the fleet"]
pub(crate) struct Membership {
    fleet: Fleet,
    name: String,
    id: u64,
    /// Cancelled when a newer connection of the same proxy takes the place.
    pub(crate) replaced: CancellationToken,
}

impl Fleet {
    /// Nobody is connected.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { members: Arc::default(), changed: watch::Sender::new(0), metrics }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seat>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who is connected, by name.
    #[must_use]
    pub fn members(&self) -> BTreeMap<String, Member> {
        self.lock().iter().map(|(name, seat)| (name.clone(), seat.member.clone())).collect()
    }

    /// How many are connected.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody is connected.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Resolves when anything changed: who is connected, or what anybody serves.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Counts the changes: as long as it stays the same, so do the members.
    pub(crate) fn count(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Seats a proxy that says that it serves `told`; an older connection of that name has to go.
    pub(crate) fn join(&self, name: &str, told: Parts<Hash>) -> Membership {
        let replaced = CancellationToken::new();
        let id = {
            let mut members = self.lock();
            let before = members.remove(name);
            let id = before.as_ref().map_or(0, |seat| seat.id + 1);
            if let Some(before) = before {
                tracing::info!(proxy.name = name, "proxy connected again, the older connection ends");
                before.replaced.cancel();
            }
            let member = Member {
                version: None,
                known: Known::Told(told),
                diagnostics: Arc::default(),
                refused: None,
                lagging: false,
            };
            let seat = Seat { member, replaced: replaced.clone(), id };
            members.insert(name.to_owned(), seat);
            id
        };
        self.tell();
        Membership { fleet: self.clone(), name: name.to_owned(), id, replaced }
    }

    fn tell(&self) {
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
        self.fleet.tell();
    }

    /// The proxy serves a configuration.
    pub(crate) fn applied(&self, published: &Published, diagnostics: Vec<Diagnostic>) {
        let diagnostics = diagnostics.into_iter().map(|found| (found.object, found.message)).collect();
        self.fleet.metrics.acks.with_label_values(&["applied"]).inc();
        self.update(|member| {
            *member = Member {
                version: Some(published.version),
                known: Known::Served(published.parts.clone()),
                diagnostics: Arc::new(diagnostics),
                refused: None,
                lagging: false,
            };
        });
    }

    /// The proxy refused a configuration and serves the one before.
    pub(crate) fn refused(&self, version: Hash, why: String) {
        self.fleet.metrics.acks.with_label_values(&["rejected"]).inc();
        self.update(|member| {
            member.refused = Some((version, why));
            member.lagging = false;
        });
    }

    /// The proxy is late.
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
        self.fleet.tell();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_connection_of_a_proxy_replaces_the_first() {
        let fleet = Fleet::new(Metrics::new(&prometheus::Registry::new()).unwrap());
        let first = fleet.join("one", Parts::new());
        let second = fleet.join("one", Parts::new());
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(fleet.len(), 1);
        drop(second);
        assert!(fleet.is_empty());
    }
}
