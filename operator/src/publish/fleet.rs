//! Which proxies are connected and what each of them serves, truthfully. How they were told is the sessions'.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluice_crds::condition::{self, PROGRAMMED, Status, reason};
use sluice_wire::{Diagnostic, Hash, ObjectRef, Part, PartName, Parts};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::publish::Published;
use crate::translate::{Served, Wanted};

/// One connected proxy.
#[derive(Clone, Debug, Default)]
pub struct Member {
    /// The version it acknowledged last; none before the first.
    pub version: Option<Hash>,
    /// The parts it serves.
    pub parts: Parts<Arc<Part>>,
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

    /// Seats a proxy; an older connection of that name has to go.
    pub(crate) fn join(&self, name: &str) -> Membership {
        let replaced = CancellationToken::new();
        let id = {
            let mut members = self.lock();
            let before = members.remove(name);
            let id = before.as_ref().map_or(0, |seat| seat.id + 1);
            if let Some(before) = before {
                tracing::info!(proxy.name = name, "proxy connected again, the older connection ends");
                before.replaced.cancel();
            }
            let seat = Seat { member: Member::default(), replaced: replaced.clone(), id };
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
                parts: published.parts.clone(),
                diagnostics: Arc::new(diagnostics),
                refused: None,
                lagging: false,
            };
        });
    }

    /// The proxy refused a configuration and serves the one before.
    pub(crate) fn refused(&self, version: Hash, why: String) {
        self.fleet.metrics.acks.with_label_values(&["refused"]).inc();
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

/// What is to be said about one object and the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Programmed {
    /// The condition.
    pub condition: condition::Wanted,
    /// How many proxies serve this generation.
    pub serving: usize,
    /// How many are connected.
    pub total: usize,
}

/// Judges whether the fleet runs an object as the current configuration has it.
#[must_use]
pub fn programmed(
    object: &ObjectRef,
    wanted: &Wanted,
    current: &Published,
    members: &BTreeMap<String, Member>,
) -> Programmed {
    let total = members.len();
    let serves = |member: &Member| {
        let hash = |parts: &Parts<Arc<Part>>, name: &PartName| parts.get(name).map(|part| part.hash);
        let same = |name| hash(&current.parts, name) == hash(&member.parts, name);
        member.version.is_some() && wanted.parts.iter().all(same)
    };
    let serving = members.values().filter(|member| serves(member)).count();
    let complaint = members.iter().find_map(|(name, member)| {
        member.diagnostics.get(object).filter(|_| serves(member)).map(|why| (name, why.as_str()))
    });
    let refusal = members.iter().find_map(|(name, member)| match &member.refused {
        Some((version, why)) if *version == current.version && !serves(member) => Some((name, why.as_str())),
        _ => None,
    });
    let of = format!("{serving} of {total} proxies");
    let (status, reason, message) = if wanted.served == Served::Nothing {
        let message = "Nothing of this object is served: see Accepted and ResolvedRefs.".to_owned();
        (Status::False, reason::REJECTED, message)
    } else if total == 0 {
        (Status::False, reason::NO_PROXIES, "No proxy is connected.".to_owned())
    } else if let Some((proxy, why)) = complaint {
        (Status::False, reason::REJECTED, format!("Proxy {proxy} cannot serve the object as written: {why}"))
    } else if let Some((proxy, why)) = refusal {
        (Status::False, reason::REJECTED, format!("{of}. Proxy {proxy} refused the configuration: {why}"))
    } else if serving == total {
        (Status::True, reason::PROGRAMMED, of)
    } else {
        (Status::False, reason::PENDING, of)
    };
    let condition =
        condition::Wanted { type_: PROGRAMMED, status, reason, message, observed_generation: wanted.generation };
    Programmed { condition, serving, total }
}

#[cfg(test)]
mod tests {
    use sluice_wire::{KeysPart, PartBody, PartKind};

    use super::*;
    use crate::translate::Detail;

    fn fleet() -> Fleet {
        Fleet::new(Metrics::new(&prometheus::Registry::new()).unwrap())
    }

    fn published(word: &str) -> Published {
        let name = PartName::new(PartKind::Route, "shop/orders");
        let part = Arc::new(Part::new(name.clone(), &PartBody::Keys(KeysPart { keys: Vec::new() })));
        let other = PartName::new(PartKind::Keys, word);
        let other_part = Arc::new(Part::new(other.clone(), &PartBody::Keys(KeysPart { keys: Vec::new() })));
        Published::new([(name, part), (other, other_part)].into_iter().collect())
    }

    fn wanted(parts: &[&str]) -> Wanted {
        Wanted {
            conditions: Vec::new(),
            generation: Some(4),
            parts: parts.iter().map(|name| name.parse().unwrap()).collect(),
            served: Served::Yes,
            detail: Detail::None,
            problems: Vec::new(),
        }
    }

    fn judge(fleet: &Fleet, current: &Published, parts: &[&str]) -> (String, String) {
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        let verdict = programmed(&object, &wanted(parts), current, &fleet.members());
        (verdict.condition.reason.to_owned(), verdict.condition.message)
    }

    #[test]
    fn programmed_is_true_only_when_every_proxy_serves_the_parts() {
        let (fleet, current) = (fleet(), published("a"));
        assert_eq!(judge(&fleet, &current, &["route/shop/orders"]).0, "NoProxies");
        let one = fleet.join("one");
        let two = fleet.join("two");
        one.applied(&current, Vec::new());
        assert_eq!(judge(&fleet, &current, &["route/shop/orders"]), ("Pending".into(), "1 of 2 proxies".into()));
        two.applied(&current, Vec::new());
        assert_eq!(judge(&fleet, &current, &["route/shop/orders"]), ("Programmed".into(), "2 of 2 proxies".into()));
        // Another version that has the same part makes no difference to the object; one that lacks a part does.
        assert_eq!(judge(&fleet, &published("b"), &["route/shop/orders"]).0, "Programmed");
        assert_eq!(judge(&fleet, &published("b"), &["keys/a"]).0, "Pending");
        drop(two);
        assert_eq!(judge(&fleet, &current, &["route/shop/orders"]).1, "1 of 1 proxies");
    }

    #[test]
    fn diagnostics_and_refusals_are_said_with_the_name_of_the_proxy() {
        let (fleet, current) = (fleet(), published("a"));
        let one = fleet.join("one");
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        one.applied(&current, vec![Diagnostic { object, message: "no".into() }]);
        let (reason, message) = judge(&fleet, &current, &["route/shop/orders"]);
        assert!(reason == "Rejected" && message.contains("one"), "{message}");
        let next = published("b");
        one.refused(next.version, "too long".into());
        assert_eq!(judge(&fleet, &next, &["keys/b"]).0, "Rejected");
    }

    #[test]
    fn a_second_connection_of_a_proxy_replaces_the_first() {
        let fleet = fleet();
        let first = fleet.join("one");
        let second = fleet.join("one");
        assert!(first.replaced.is_cancelled() && !second.replaced.is_cancelled());
        drop(first);
        assert_eq!(fleet.len(), 1);
        drop(second);
        assert!(fleet.is_empty());
    }
}
