//! Whether the proxies serve what is published: they are compared once for all objects, grouped by what they serve. `proxies`
//! holds the connected proxies; `report` writes the result to statuses.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_crds::condition::{self, PROGRAMMED, Status, reason};
use sluice_wire::{FleetName, Hash, ObjectRef, PartKind, PartName};

use crate::publish::configuration::{Current, Published};
use crate::publish::proxies::{Known, Member, Proxies, ProxyId};
use crate::translate::{DesiredStatus, Served};

/// The connected proxies, compared with the configurations of their fleets.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    total: usize,
    groups: Vec<Group>,
    /// In the order of fleets and names; of equal ones in a group the first.
    reports: Vec<DiagnosticReport>,
    /// The first proxy of each group that rejected its configuration, with the reason.
    rejections: Vec<(usize, String)>,
}

/// Proxies of a fleet that serve the same.
#[derive(Clone, Debug)]
struct Group {
    fleet: FleetName,
    version: Hash,
    /// Whether it is acknowledged, not only reported.
    acknowledged: bool,
    members: usize,
    /// The parts in which they differ from the configuration of their fleet.
    differs: BTreeSet<PartName>,
    /// The kinds of parts that they do not support, and one of them.
    unsupported: Arc<[PartKind]>,
    example: String,
}

impl Group {
    fn has(&self, desired: &DesiredStatus) -> bool {
        self.differs.is_empty() || !desired.parts.iter().any(|part| self.differs.contains(part))
    }

    /// A kind of the object's parts that the members do not support.
    fn lacks(&self, desired: &DesiredStatus) -> Option<PartKind> {
        self.unsupported.iter().copied().find(|kind| desired.parts.iter().any(|part| part.kind == *kind))
    }

    /// Whether they count for the object: their fleet serves it, or they still have to drop it. An object that no fleet needs
    /// is compared with all proxies, none of which may have it.
    fn counts(&self, desired: &DesiredStatus) -> bool {
        desired.fleets.is_empty() || desired.fleets.contains(&self.fleet) || !self.has(desired)
    }

    fn serves(&self, desired: &DesiredStatus) -> bool {
        self.acknowledged && self.has(desired) && self.lacks(desired).is_none()
    }
}

#[derive(Clone, Debug)]
struct DiagnosticReport {
    group: usize,
    proxy: String,
    found: Arc<BTreeMap<ObjectRef, String>>,
}

impl Rollout {
    /// Compares the connected proxies with what is published.
    #[must_use]
    pub fn of(proxies: &Proxies, current: &Current) -> Self {
        let mut rollout = Self::default();
        for (id, member) in proxies.members() {
            let published = current.of(&id.fleet);
            rollout.count(id, &member, published);
        }
        rollout
    }

    fn count(&mut self, ProxyId { fleet, name }: ProxyId, member: &Member, current: &Published) {
        self.total += 1;
        let (version, acknowledged) = (member.known.version(), member.version.is_some());
        let found = self.groups.iter().position(|group| {
            (&group.fleet, group.version, group.acknowledged) == (&fleet, version, acknowledged)
                && group.unsupported == member.unsupported
        });
        let at = found.unwrap_or_else(|| {
            let differs = differs(&member.known, current);
            let (unsupported, example) = (member.unsupported.clone(), name.clone());
            self.groups.push(Group { fleet, version, acknowledged, members: 0, differs, unsupported, example });
            self.groups.len() - 1
        });
        if let Some(group) = self.groups.get_mut(at) {
            group.members += 1;
        }
        let same = |other: &DiagnosticReport| {
            other.group == at && (Arc::ptr_eq(&other.found, &member.diagnostics) || other.found == member.diagnostics)
        };
        if !member.diagnostics.is_empty() && !self.reports.iter().any(same) {
            self.reports.push(DiagnosticReport { group: at, proxy: name.clone(), found: member.diagnostics.clone() });
        }
        if let Some((version, _)) = &member.rejected
            && *version == current.version
            && !self.rejections.iter().any(|(group, _)| *group == at)
        {
            self.rejections.push((at, name));
        }
    }

    /// The number of connected proxies.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Whether both rollouts result in the same condition for each object that is special in neither.
    pub(crate) fn equal_for_others(&self, other: &Self) -> bool {
        self.counts() == other.counts() && self.rejections.is_empty() && other.rejections.is_empty()
    }

    /// By fleet: the number of connected proxies, and of those that acknowledged a configuration.
    fn counts(&self) -> BTreeMap<&FleetName, (usize, usize)> {
        let mut counts: BTreeMap<&FleetName, (usize, usize)> = BTreeMap::new();
        for group in &self.groups {
            let (all, acknowledged) = counts.entry(&group.fleet).or_default();
            *all += group.members;
            *acknowledged += if group.acknowledged { group.members } else { 0 };
        }
        counts
    }

    /// The parts in which proxies differ from what is published. The conditions of their objects need their own comparison.
    pub(crate) fn special_parts(&self) -> impl Iterator<Item = &PartName> {
        self.groups.iter().flat_map(|group| &group.differs)
    }

    /// The kinds of parts that some proxies do not support; the same holds for them.
    pub(crate) fn unsupported_kinds(&self) -> BTreeSet<PartKind> {
        self.groups.iter().flat_map(|group| group.unsupported.iter().copied()).collect()
    }

    /// The objects that proxies report a diagnostic about; the same holds for them.
    pub(crate) fn special_objects(&self) -> impl Iterator<Item = &ObjectRef> {
        self.reports.iter().flat_map(|report| report.found.keys())
    }

    fn group_serves(&self, group: usize, desired: &DesiredStatus) -> bool {
        self.groups.get(group).is_some_and(|group| group.counts(desired) && group.serves(desired))
    }
}

fn differs(known: &Known, current: &Published) -> BTreeSet<PartName> {
    let (changed, removed): (Vec<&PartName>, Vec<&PartName>) = match known {
        Known::Reported(parts) => {
            let difference = current.parts.since(parts);
            (difference.changed.into_keys().collect(), difference.removed)
        }
        Known::Acknowledged(parts) => {
            let difference = current.parts.since(parts);
            (difference.changed.into_keys().collect(), difference.removed)
        }
    };
    changed.into_iter().chain(removed).cloned().collect()
}

/// The number of proxies that serve an object, and the condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Programmed {
    /// The condition.
    pub condition: condition::DesiredCondition,
    /// How many proxies serve this generation of it.
    pub serving: usize,
    /// How many have to serve it.
    pub total: usize,
    /// Whether any of them reported or acknowledged another generation of it.
    pub contradicted: bool,
}

impl Programmed {
    /// The same if there are `expected` proxies, some of which may not have reconnected to a restarted operator.
    #[must_use]
    pub(crate) fn among(mut self, expected: usize) -> Self {
        let missing = self.total < expected;
        let waits = [reason::PROGRAMMED, reason::PENDING, reason::NO_PROXIES].contains(&self.condition.reason);
        if missing && waits {
            self.total = expected;
            self.condition.status = Status::False;
            self.condition.reason = reason::PENDING;
            self.condition.message = format!("{} of {expected} proxies", self.serving);
        }
        self
    }
}

/// The `Programmed` condition of an object: whether every proxy that has to serves it as it is published.
#[must_use]
pub fn programmed(object: &ObjectRef, desired: &DesiredStatus, rollout: &Rollout) -> Programmed {
    let groups: Vec<&Group> = rollout.groups.iter().filter(|group| group.counts(desired)).collect();
    let total = groups.iter().map(|group| group.members).sum();
    let serving: usize = groups.iter().filter(|group| group.serves(desired)).map(|group| group.members).sum();
    let contradicted = groups.iter().any(|group| !group.has(desired));
    let alone: Vec<&str> = desired
        .fleets
        .iter()
        .filter(|fleet| !groups.iter().any(|group| group.fleet == **fleet))
        .map(FleetName::as_str)
        .collect();
    let diagnostic = rollout.reports.iter().filter(|report| rollout.group_serves(report.group, desired));
    let diagnostic = diagnostic
        .into_iter()
        .find_map(|report| report.found.get(object).map(|why| (report.proxy.as_str(), why.as_str())));
    let rejection = rollout.rejections.iter().find(|(group, _)| {
        rollout.groups.get(*group).is_some_and(|group| group.counts(desired) && !group.serves(desired))
    });
    let unsupported = groups.iter().find_map(|group| group.lacks(desired).map(|kind| (&group.example, kind)));
    let of = format!("{serving} of {total} proxies");
    let (status, reason, message) = if desired.served == Served::Nothing {
        let message = "This object is not served: see Accepted and ResolvedRefs.".to_owned();
        (Status::False, reason::REJECTED, message)
    } else if !alone.is_empty() {
        let fleets = alone.join(", ");
        let others = if total > 0 { format!(" ({of} of other fleets)") } else { String::new() };
        (Status::False, reason::NO_PROXIES, format!("No proxy of the fleet {fleets} is connected{others}."))
    } else if total == 0 {
        (Status::False, reason::NO_PROXIES, "No proxy is connected.".to_owned())
    } else if let Some((proxy, why)) = diagnostic {
        (Status::False, reason::REJECTED, format!("Proxy {proxy} cannot serve the object as written: {why}"))
    } else if let Some((_, proxy)) = rejection {
        // Why is in the operator's log: it may name an object of another namespace.
        let message =
            format!("{of}. Proxy {proxy} rejected the whole configuration; the operator's log has the reason.");
        (Status::False, reason::REJECTED, message)
    } else if let Some((proxy, kind)) = unsupported {
        let kind = kind.text();
        let message = format!("{of}. Proxy {proxy} does not support configuration of kind {kind}: update the proxy.");
        (Status::False, reason::REJECTED, message)
    } else if serving == total {
        (Status::True, reason::PROGRAMMED, of)
    } else {
        (Status::False, reason::PENDING, of)
    };
    let condition = condition::DesiredCondition {
        type_: PROGRAMMED,
        status,
        reason,
        message,
        observed_generation: desired.generation,
    };
    Programmed { condition, serving, total, contradicted }
}

#[cfg(test)]
mod tests {
    use sluice_wire::{Diagnostic, Hello, KeysPart, Part, PartBody, PartKind, Parts};

    use super::*;
    use crate::metrics::Metrics;
    use crate::translate::{Detail, Statuses};

    fn proxies() -> Proxies {
        Proxies::new(Metrics::new(&prometheus::Registry::new()).unwrap())
    }

    fn published(shard: &str) -> Published {
        let name = PartName::new(PartKind::Route, "shop/orders");
        let part = Arc::new(Part::new(name.clone(), &PartBody::Keys(KeysPart { keys: Vec::new() })));
        let other = PartName::new(PartKind::Keys, shard);
        let other_part = Arc::new(Part::new(other.clone(), &PartBody::Keys(KeysPart { keys: Vec::new() })));
        Published::new([(name, part), (other, other_part)].into_iter().collect())
    }

    fn of_default(published: &Published) -> Current {
        Current { fleets: [(FleetName::default(), published.clone())].into(), statuses: Statuses::default() }
    }

    fn desired(parts: &[&str]) -> DesiredStatus {
        DesiredStatus {
            stages: Vec::new(),
            conditions: Vec::new(),
            generation: Some(4),
            fleets: [FleetName::default()].into(),
            parts: parts.iter().map(|name| name.parse().unwrap()).collect(),
            served: Served::Yes,
            detail: Detail::None,
            warnings: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn check(fleet: &Proxies, current: &Published, parts: &[&str]) -> (String, String) {
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        let result = programmed(&object, &desired(parts), &Rollout::of(fleet, &of_default(current)));
        (result.condition.reason.to_owned(), result.condition.message)
    }

    #[test]
    fn programmed_is_true_only_when_every_proxy_serves_the_parts() {
        let (fleet, current) = (proxies(), published("a"));
        assert_eq!(check(&fleet, &current, &["route/shop/orders"]).0, "NoProxies");
        let one = fleet.join(&Hello::new("one", "test"), Parts::new());
        let two = fleet.join(&Hello::new("two", "test"), Parts::new());
        one.applied(&current, Vec::new());
        assert_eq!(check(&fleet, &current, &["route/shop/orders"]), ("Pending".into(), "1 of 2 proxies".into()));
        two.applied(&current, Vec::new());
        assert_eq!(check(&fleet, &current, &["route/shop/orders"]), ("Programmed".into(), "2 of 2 proxies".into()));
        // Another version that has the same part makes no difference to the object; one that lacks a part does.
        assert_eq!(check(&fleet, &published("b"), &["route/shop/orders"]).0, "Programmed");
        assert_eq!(check(&fleet, &published("b"), &["keys/a"]).0, "Pending");
        drop(two);
        assert_eq!(check(&fleet, &current, &["route/shop/orders"]).1, "1 of 1 proxies");
    }

    #[test]
    fn an_object_is_not_programmed_among_more_proxies_than_are_connected() {
        let (fleet, current) = (proxies(), published("a"));
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        let among = |parts: &[&str], expected: usize| {
            let found = programmed(&object, &desired(parts), &Rollout::of(&fleet, &of_default(&current)));
            let found = found.among(expected);
            (found.condition.reason, found.condition.message, found.total)
        };
        let route = ["route/shop/orders"];
        assert_eq!(among(&route, 0).0, "NoProxies");
        assert_eq!(among(&route, 2), ("Pending", "0 of 2 proxies".into(), 2));
        let one = fleet.join(&Hello::new("one", "test"), Parts::new());
        one.applied(&current, Vec::new());
        assert_eq!(among(&route, 2), ("Pending", "1 of 2 proxies".into(), 2));
        assert_eq!(among(&route, 1), ("Programmed", "1 of 1 proxies".into(), 1));
        let two = fleet.join(&Hello::new("two", "test"), Parts::new());
        assert_eq!(among(&route, 2), ("Pending", "1 of 2 proxies".into(), 2));
        two.applied(&current, Vec::new());
        assert_eq!(among(&route, 2), ("Programmed", "2 of 2 proxies".into(), 2));
        // What is certain is reported at once.
        two.applied(&current, vec![Diagnostic { object: object.clone(), message: "no".into() }]);
        assert_eq!(among(&route, 3).0, "Rejected");
    }

    #[test]
    fn diagnostics_and_rejections_are_reported_with_the_name_of_the_proxy() {
        let (fleet, current) = (proxies(), published("a"));
        let one = fleet.join(&Hello::new("one", "test"), Parts::new());
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        one.applied(&current, vec![Diagnostic { object, message: "no".into() }]);
        let (reason, message) = check(&fleet, &current, &["route/shop/orders"]);
        assert!(reason == "Rejected" && message.contains("one"), "{message}");
        let next = published("b");
        one.rejected(next.version, "part certificate/bank/tls is too long".into());
        let (reason, message) = check(&fleet, &next, &["keys/b"]);
        assert!(reason == "Rejected" && message.contains("one") && !message.contains("bank"), "{message}");
    }

    #[test]
    fn a_proxy_that_reports_the_parts_without_an_acknowledgement_is_not_counted() {
        let (fleet, current) = (proxies(), published("a"));
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        let reported =
            |published: &Published| published.parts.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
        let check = |fleet: &Proxies| {
            let result = programmed(
                &object,
                &desired(&["route/shop/orders", "keys/a"]),
                &Rollout::of(fleet, &of_default(&current)),
            );
            (result.serving, result.contradicted)
        };
        let one = fleet.join(&Hello::new("one", "test"), reported(&current));
        assert_eq!(check(&fleet), (0, false));
        let two = fleet.join(&Hello::new("two", "test"), reported(&published("b")));
        assert_eq!(check(&fleet), (0, true));
        one.applied(&current, Vec::new());
        two.applied(&current, Vec::new());
        assert_eq!(check(&fleet), (2, false));
    }

    #[test]
    fn each_fleet_counts_for_the_objects_that_it_serves_and_until_it_has_dropped_others() {
        let (proxies, object) = (proxies(), ObjectRef::new("ApiRoute", "shop", "orders"));
        let edge: FleetName = "edge".parse().unwrap();
        let (own, others) = (published("a"), published("b"));
        let current = |edge_has: &Published| Current {
            fleets: [(FleetName::default(), own.clone()), (edge.clone(), edge_has.clone())].into(),
            statuses: Statuses::default(),
        };
        let check = |fleets: &[&FleetName], current: &Current| {
            let desired = DesiredStatus { fleets: fleets.iter().copied().cloned().collect(), ..desired(&["keys/a"]) };
            let result = programmed(&object, &desired, &Rollout::of(&proxies, current));
            (result.condition.reason, result.condition.message)
        };
        let both = current(&own);
        let one = proxies.join(&Hello::new("one", "test"), Parts::new());
        one.applied(&own, Vec::new());
        assert_eq!(check(&[&FleetName::default()], &both), ("Programmed", "1 of 1 proxies".into()));
        assert_eq!(check(&[&edge], &both), ("NoProxies", "No proxy of the fleet edge is connected.".into()));
        let alone = "No proxy of the fleet edge is connected (1 of 1 proxies of other fleets).";
        assert_eq!(check(&[&edge, &FleetName::default()], &both), ("NoProxies", alone.into()));
        let two = proxies.join(&Hello { fleet: edge.clone(), ..Hello::new("one", "test") }, Parts::new());
        assert_eq!((proxies.size_of(&edge), proxies.len()), (1, 2));
        assert_eq!(check(&[&edge, &FleetName::default()], &both), ("Pending", "1 of 2 proxies".into()));
        two.applied(&own, Vec::new());
        assert_eq!(check(&[&edge], &both), ("Programmed", "1 of 1 proxies".into()));
        // The object moves: the fleet that served it counts until it has dropped it.
        let moved = current(&others);
        assert_eq!(check(&[&FleetName::default()], &moved), ("Pending", "1 of 2 proxies".into()));
        two.applied(&others, Vec::new());
        assert_eq!(check(&[&FleetName::default()], &moved), ("Programmed", "1 of 1 proxies".into()));
        // No fleet needs it: no proxy may have it.
        assert_eq!(check(&[], &moved), ("Programmed", "2 of 2 proxies".into()));
    }
}
