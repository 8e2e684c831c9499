//! What the fleet means for each object: the members are looked at once for a configuration, however many objects ask.
//! Who is connected is `fleet`'s; writing it down is `report`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_crds::condition::{self, PROGRAMMED, Status, reason};
use sluice_wire::{Hash, ObjectRef, PartKind, PartName};

use crate::publish::fleet::{Known, Member};
use crate::publish::{Fleet, Published};
use crate::translate::{DesiredStatus, Served};

/// The members of a fleet as they are to a configuration.
#[derive(Clone, Debug, Default)]
pub struct Rollout {
    total: usize,
    groups: Vec<Group>,
    /// By members, in the order of their names; of equal ones of a group the first.
    complaints: Vec<Complaints>,
    /// Who refused this configuration, with the group: the first of each.
    refusals: Vec<(usize, String, String)>,
}

/// Members that serve the same.
#[derive(Clone, Debug)]
struct Group {
    version: Hash,
    /// Whether it is acknowledged, not only reported.
    acknowledged: bool,
    members: usize,
    /// The parts in which they differ from the configuration.
    differs: BTreeSet<PartName>,
    /// The kinds of parts that they do not support, and one of them.
    unsupported: Arc<[PartKind]>,
    example: String,
}

impl Group {
    fn has(&self, wanted: &DesiredStatus) -> bool {
        self.differs.is_empty() || !wanted.parts.iter().any(|part| self.differs.contains(part))
    }

    /// A kind of the object's parts that the members do not support.
    fn lacks(&self, wanted: &DesiredStatus) -> Option<PartKind> {
        self.unsupported.iter().copied().find(|kind| wanted.parts.iter().any(|part| part.kind == *kind))
    }

    fn serves(&self, wanted: &DesiredStatus) -> bool {
        self.acknowledged && self.has(wanted) && self.lacks(wanted).is_none()
    }
}

#[derive(Clone, Debug)]
struct Complaints {
    group: usize,
    proxy: String,
    found: Arc<BTreeMap<ObjectRef, String>>,
}

impl Rollout {
    /// Looks at the fleet.
    #[must_use]
    pub fn of(fleet: &Fleet, current: &Published) -> Self {
        let mut rollout = Self::default();
        for (name, member) in fleet.members() {
            rollout.count(name, &member, current);
        }
        rollout
    }

    fn count(&mut self, name: String, member: &Member, current: &Published) {
        self.total += 1;
        let (version, acknowledged) = (member.known.version(), member.version.is_some());
        let found = self.groups.iter().position(|group| {
            (group.version, group.acknowledged) == (version, acknowledged) && group.unsupported == member.unsupported
        });
        let at = found.unwrap_or_else(|| {
            let differs = differs(&member.known, current);
            let (unsupported, example) = (member.unsupported.clone(), name.clone());
            self.groups.push(Group { version, acknowledged, members: 0, differs, unsupported, example });
            self.groups.len() - 1
        });
        if let Some(group) = self.groups.get_mut(at) {
            group.members += 1;
        }
        let same = |other: &Complaints| {
            other.group == at && (Arc::ptr_eq(&other.found, &member.diagnostics) || other.found == member.diagnostics)
        };
        if !member.diagnostics.is_empty() && !self.complaints.iter().any(same) {
            self.complaints.push(Complaints { group: at, proxy: name.clone(), found: member.diagnostics.clone() });
        }
        if let Some((version, why)) = &member.refused
            && *version == current.version
            && !self.refusals.iter().any(|(group, _, _)| *group == at)
        {
            self.refusals.push((at, name, why.clone()));
        }
    }

    /// How many are connected.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Whether the same can be said of every object that is in neither rollout's `special`.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let acknowledged = |rollout: &Self| -> usize {
            rollout.groups.iter().filter(|group| group.acknowledged).map(|group| group.members).sum()
        };
        self.total == other.total
            && acknowledged(self) == acknowledged(other)
            && self.refusals.is_empty()
            && other.refusals.is_empty()
    }

    /// Whether of an object something special is to be said: members differ about it, or complain.
    pub(crate) fn is_special(&self, object: &ObjectRef, wanted: &DesiredStatus) -> bool {
        self.groups.iter().any(|group| !group.has(wanted) || group.lacks(wanted).is_some())
            || self.complaints.iter().any(|complaints| complaints.found.contains_key(object))
    }

    /// Whether nothing special is to be said of any object.
    pub(crate) fn is_plain(&self) -> bool {
        self.complaints.is_empty()
            && self.groups.iter().all(|group| group.differs.is_empty() && group.unsupported.is_empty())
    }

    fn group_serves(&self, group: usize, wanted: &DesiredStatus) -> bool {
        self.groups.get(group).is_some_and(|group| group.serves(wanted))
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

/// What is to be said about one object and the fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Programmed {
    /// The condition.
    pub condition: condition::Wanted,
    /// How many proxies serve this generation.
    pub serving: usize,
    /// How many are connected.
    pub total: usize,
    /// Whether any of them serves something else, by its own words or by what it acknowledged.
    pub contradicted: bool,
}

/// Judges whether the fleet runs an object as the rollout's configuration has it.
#[must_use]
pub fn programmed(object: &ObjectRef, wanted: &DesiredStatus, rollout: &Rollout) -> Programmed {
    let total = rollout.total;
    let serving: usize = rollout.groups.iter().filter(|group| group.serves(wanted)).map(|group| group.members).sum();
    let contradicted = rollout.groups.iter().any(|group| !group.has(wanted));
    let complaint = rollout.complaints.iter().filter(|complaints| rollout.group_serves(complaints.group, wanted));
    let complaint = complaint
        .into_iter()
        .find_map(|complaints| complaints.found.get(object).map(|why| (complaints.proxy.as_str(), why.as_str())));
    let refusal = rollout.refusals.iter().find(|(group, _, _)| !rollout.group_serves(*group, wanted));
    let unsupported = rollout.groups.iter().find_map(|group| group.lacks(wanted).map(|kind| (&group.example, kind)));
    let of = format!("{serving} of {total} proxies");
    let (status, reason, message) = if wanted.served == Served::Nothing {
        let message = "This object is not served: see Accepted and ResolvedRefs.".to_owned();
        (Status::False, reason::REJECTED, message)
    } else if total == 0 {
        (Status::False, reason::NO_PROXIES, "No proxy is connected.".to_owned())
    } else if let Some((proxy, why)) = complaint {
        (Status::False, reason::REJECTED, format!("Proxy {proxy} cannot serve the object as written: {why}"))
    } else if let Some((_, proxy, why)) = refusal {
        (Status::False, reason::REJECTED, format!("{of}. Proxy {proxy} rejected the configuration: {why}"))
    } else if let Some((proxy, kind)) = unsupported {
        let kind = kind.text();
        let message = format!("{of}. Proxy {proxy} does not support configuration of kind {kind}: update the proxy.");
        (Status::False, reason::REJECTED, message)
    } else if serving == total {
        (Status::True, reason::PROGRAMMED, of)
    } else {
        (Status::False, reason::PENDING, of)
    };
    let condition =
        condition::Wanted { type_: PROGRAMMED, status, reason, message, observed_generation: wanted.generation };
    Programmed { condition, serving, total, contradicted }
}

#[cfg(test)]
mod tests {
    use sluice_wire::{Diagnostic, Hello, KeysPart, Part, PartBody, PartKind, Parts};

    use super::*;
    use crate::metrics::Metrics;
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

    fn wanted(parts: &[&str]) -> DesiredStatus {
        DesiredStatus {
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
        let verdict = programmed(&object, &wanted(parts), &Rollout::of(fleet, current));
        (verdict.condition.reason.to_owned(), verdict.condition.message)
    }

    #[test]
    fn programmed_is_true_only_when_every_proxy_serves_the_parts() {
        let (fleet, current) = (fleet(), published("a"));
        assert_eq!(judge(&fleet, &current, &["route/shop/orders"]).0, "NoProxies");
        let one = fleet.join(&Hello::new("one", "test"), Parts::new());
        let two = fleet.join(&Hello::new("two", "test"), Parts::new());
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
    fn diagnostics_and_rejections_are_reported_with_the_name_of_the_proxy() {
        let (fleet, current) = (fleet(), published("a"));
        let one = fleet.join(&Hello::new("one", "test"), Parts::new());
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        one.applied(&current, vec![Diagnostic { object, message: "no".into() }]);
        let (reason, message) = judge(&fleet, &current, &["route/shop/orders"]);
        assert!(reason == "Rejected" && message.contains("one"), "{message}");
        let next = published("b");
        one.refused(next.version, "too long".into());
        assert_eq!(judge(&fleet, &next, &["keys/b"]).0, "Rejected");
    }

    #[test]
    fn a_proxy_that_reports_the_parts_without_an_acknowledgement_is_not_counted() {
        let (fleet, current) = (fleet(), published("a"));
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        let reported =
            |published: &Published| published.parts.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
        let judge = |fleet: &Fleet| {
            let verdict = programmed(&object, &wanted(&["route/shop/orders", "keys/a"]), &Rollout::of(fleet, &current));
            (verdict.serving, verdict.contradicted)
        };
        let one = fleet.join(&Hello::new("one", "test"), reported(&current));
        assert_eq!(judge(&fleet), (0, false));
        let two = fleet.join(&Hello::new("two", "test"), reported(&published("b")));
        assert_eq!(judge(&fleet), (0, true));
        one.applied(&current, Vec::new());
        two.applied(&current, Vec::new());
        assert_eq!(judge(&fleet), (2, false));
    }
}
