//! Conflicts between objects: a host, an operation or a key that several objects claim belongs to the one that claims it for the
//! longest time, as far as statuses record that; then to the oldest object, and of objects of the same age to the first by
//! name. Host names belong to a namespace: that of the first claimant of the name, or of a wildcard above it. The module of
//! each kind defines what its objects claim, and which times are recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use sluice_wire::{FleetName, Hash, HostPattern};

use crate::objects::{Kind, ObjectKey};

/// Something that only one object can have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// A host name, with any base path: decides which namespace owns it.
    Name(HostName),
    /// A host and the base path below it, in one fleet.
    Host { fleet: FleetName, host: HostName, base_path: String },
    /// An operation of a stage.
    Operation(Box<Operation>),
    /// The digest of an API key.
    Key(Hash),
    /// The id of an access key.
    AccessKey(String),
}

/// A host name with its labels in reverse order, as `example.shop.api` or `example.shop.*`, so that everything below a
/// wildcard is one range. `*` means the hosts that no object names; it covers only itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HostName(String);

impl HostName {
    /// The hosts that no object names.
    pub(crate) fn any() -> Self {
        Self("*".to_owned())
    }

    /// The wildcards above the name, itself included when it is one.
    fn wildcards(&self) -> impl Iterator<Item = Self> {
        self.0.match_indices('.').filter_map(|(at, _)| Some(Self(format!("{}*", self.0.get(..=at)?))))
    }

    /// What every name below this wildcard begins with.
    fn prefix(&self) -> Option<&str> {
        self.0.strip_suffix('*').filter(|prefix| !prefix.is_empty())
    }
}

impl From<&HostPattern> for HostName {
    fn from(host: &HostPattern) -> Self {
        let mut labels: Vec<&str> = host.name().rsplit('.').collect();
        labels.extend(host.is_wildcard().then_some("*"));
        Self(labels.join("."))
    }
}

/// Requests that a rule matches, up to the names of path parameters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Operation {
    pub(crate) stage: ObjectKey,
    pub(crate) version: Option<String>,
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) matches: Vec<String>,
}

/// Since when an object claims something. What its status does not record counts from now: after everything that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Since {
    At(Timestamp),
    Unrecorded,
}

/// An object that claims something. Sorted by precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claimant {
    since: Since,
    /// Seconds and nanoseconds of its creation; objects of files have none and are equally old.
    created: Option<(i64, i32)>,
    /// Its key.
    pub(crate) key: ObjectKey,
    /// Its kind.
    pub(crate) kind: Kind,
}

impl Claimant {
    pub(crate) fn new(kind: Kind, key: &ObjectKey, created: Option<&Time>) -> Self {
        Self { since: Since::Unrecorded, created: created.map(age), key: key.clone(), kind }
    }

    fn with(&self, since: Since) -> Self {
        Self { since, ..self.clone() }
    }
}

/// Seconds and nanoseconds of an object's creation.
pub(crate) fn age(time: &Time) -> (i64, i32) {
    (time.0.as_second(), time.0.subsec_nanosecond())
}

/// What an object claims, and since when.
pub(crate) type Standing = (Claimant, BTreeMap<Claim, Since>);

/// All claims and who makes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    claimants: HashMap<Claim, BTreeSet<Claimant>>,
    /// The host names that have claimants, in the order of their labels.
    names: BTreeSet<HostName>,
    by_object: HashMap<(Kind, ObjectKey), Standing>,
}

impl Claims {
    /// The object that has what is claimed.
    pub(crate) fn winner(&self, claim: &Claim) -> Option<&Claimant> {
        self.claimants.get(claim).and_then(BTreeSet::first)
    }

    /// The object that has what is claimed at a Stage: the first of the Stage's namespace, or else the first. So no guest
    /// takes anything from the owner of the Stage.
    pub(crate) fn winner_at(&self, claim: &Claim, stage: &ObjectKey) -> Option<&Claimant> {
        self.winner_in(claim, &stage.namespace).or_else(|| self.winner(claim))
    }

    /// The winner, when it is another object than this one.
    pub(crate) fn lost_to(&self, claim: &Claim, kind: Kind, key: &ObjectKey) -> Option<&Claimant> {
        self.winner(claim).filter(|winner| winner.kind != kind || winner.key != *key)
    }

    /// The first claimant of a host name or of a wildcard above it: the name belongs to its namespace.
    pub(crate) fn owner(&self, host: &HostName) -> Option<&Claimant> {
        let names = std::iter::once(host.clone()).chain(host.wildcards());
        names.filter_map(|name| self.winner(&Claim::Name(name))).min()
    }

    /// The first claimant of a claim in one namespace.
    pub(crate) fn winner_in(&self, claim: &Claim, namespace: &str) -> Option<&Claimant> {
        self.claimants(claim).find(|claimant| claimant.key.namespace == namespace)
    }

    /// All claimants in their order.
    pub(crate) fn claimants(&self, claim: &Claim) -> impl Iterator<Item = &Claimant> {
        self.claimants.get(claim).into_iter().flatten()
    }

    /// Whether the time of a claim may be recorded now: every claim that meets it and comes before it is recorded. Otherwise the
    /// recorded one would come before the other.
    pub(crate) fn may_record(&self, claim: &Claim, kind: Kind, key: &ObjectKey) -> bool {
        let own = self.by_object.get(&(kind, key.clone()));
        let Some((own, since)) = own.and_then(|(own, claims)| Some((own, *claims.get(claim)?))) else { return false };
        let own = own.with(since);
        // Unrecorded claims are last, so the one before decides.
        let waits = |claimants: &BTreeSet<Claimant>| {
            let before = claimants.range(..own.clone()).rev().find(|other| other.key != own.key);
            before.is_some_and(|other| other.since == Since::Unrecorded)
        };
        let waits_for = |claim: &Claim| self.claimants.get(claim).is_some_and(waits);
        let Claim::Name(host) = claim else { return !waits_for(claim) };
        !waits_for(claim)
            && !host.wildcards().any(|above| waits_for(&Claim::Name(above)))
            && !self.below(host).any(waits)
    }

    /// The claims of every name below a wildcard.
    fn below(&self, host: &HostName) -> impl Iterator<Item = &BTreeSet<Claimant>> {
        let prefix = host.prefix().map(str::to_owned);
        prefix.into_iter().flat_map(|prefix| {
            let below = self.names.range(HostName(prefix.clone())..);
            let below = below.take_while(move |name| name.0.starts_with(&prefix));
            below.filter_map(|name| self.claimants.get(&Claim::Name(name.clone())))
        })
    }

    /// The claimants that a change of this claim concerns: its own, for a wildcard those of every name below it, and those of
    /// the wildcards above it whose times are not recorded (see [`Self::may_record`]).
    fn concerned(&self, claim: &Claim, touched: &mut BTreeSet<(Kind, ObjectKey)>) {
        let mut add = |claimants: &BTreeSet<Claimant>| {
            touched.extend(claimants.iter().map(|other| (other.kind, other.key.clone())));
        };
        self.claimants.get(claim).into_iter().for_each(&mut add);
        let Claim::Name(host) = claim else { return };
        self.below(host).for_each(&mut add);
        let above = host.wildcards().filter_map(|above| self.claimants.get(&Claim::Name(above)));
        let waiting = above.flatten().filter(|other| other.since == Since::Unrecorded);
        touched.extend(waiting.map(|other| (other.kind, other.key.clone())));
    }

    /// Replaces an object's claims and returns the objects whose standing may have changed.
    pub(crate) fn replace(&mut self, object: &(Kind, ObjectKey), now: Option<Standing>) -> BTreeSet<(Kind, ObjectKey)> {
        let before = self.by_object.remove(object);
        let mut touched = BTreeSet::new();
        for (claimant, claim, since) in differing(before.as_ref(), now.as_ref()) {
            let Some(claimants) = self.claimants.get_mut(claim) else { continue };
            claimants.remove(&claimant.with(since));
            if claimants.is_empty() {
                self.claimants.remove(claim);
                if let Claim::Name(name) = claim {
                    self.names.remove(name);
                }
            }
            self.concerned(claim, &mut touched);
        }
        for (claimant, claim, since) in differing(now.as_ref(), before.as_ref()) {
            self.concerned(claim, &mut touched);
            self.claimants.entry(claim.clone()).or_default().insert(claimant.with(since));
            if let Claim::Name(name) = claim {
                self.names.insert(name.clone());
            }
        }
        if let Some(now) = now.filter(|(_, claims)| !claims.is_empty()) {
            self.by_object.insert(object.clone(), now);
        }
        touched.remove(object);
        touched
    }
}

/// The claims of `one` that `other` does not have, or not since the same time.
fn differing<'a>(
    one: Option<&'a Standing>,
    other: Option<&'a Standing>,
) -> impl Iterator<Item = (&'a Claimant, &'a Claim, Since)> {
    let other = other.filter(|(claimant, _)| one.is_some_and(|(own, _)| own == claimant));
    one.into_iter().flat_map(move |(claimant, claims)| {
        let differs = move |(claim, since): &(&Claim, &Since)| other.and_then(|(_, of)| of.get(*claim)) != Some(*since);
        claims.iter().filter(differs).map(move |(claim, since)| (claimant, claim, *since))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> HostName {
        HostName::from(&host.parse::<HostPattern>().unwrap())
    }

    fn claimant(namespace: &str, age: i64) -> Claimant {
        let since = Since::Unrecorded;
        Claimant { since, created: Some((age, 0)), key: ObjectKey::new(namespace, "s"), kind: Kind::Stage }
    }

    fn unrecorded(host: &str) -> BTreeMap<Claim, Since> {
        BTreeMap::from([(Claim::Name(name(host)), Since::Unrecorded)])
    }

    #[test]
    fn a_name_belongs_to_the_oldest_claimant_of_it_or_of_a_wildcard_above_it() {
        // Claims in the order of their age, the host name, and the namespace that owns it.
        for (claims, host, owner) in [
            (&[("a", "*.x.example"), ("b", "api.x.example")][..], "api.x.example", Some("a")),
            (&[("b", "api.x.example"), ("a", "*.x.example")], "api.x.example", Some("b")),
            (&[("b", "api.x.example"), ("a", "*.x.example")], "*.x.example", Some("a")),
            (&[("a", "*.example"), ("b", "*.x.example"), ("c", "v1.api.x.example")], "v1.api.x.example", Some("a")),
            (&[("a", "*.x.example"), ("b", "x.example")], "x.example", Some("b")),
            (&[("a", "*.x.example"), ("b", "y.example")], "y.example", Some("b")),
            (&[("a", "x.example")], "api.x.example", None),
            (&[("a", "ax.example"), ("b", "x.example")], "x.example", Some("b")),
        ] {
            let mut all = Claims::default();
            for (age, (namespace, host)) in (0..).zip(claims) {
                let claimant = claimant(namespace, age);
                let object = (Kind::Stage, claimant.key.clone());
                all.replace(&object, Some((claimant, unrecorded(host))));
            }
            let found = all.owner(&name(host)).map(|owner| owner.key.namespace.as_ref());
            assert_eq!(found, owner, "{host} among {claims:?}");
        }
    }

    #[test]
    fn a_changed_wildcard_concerns_the_claimants_of_every_name_below_it_and_no_others() {
        let mut all = Claims::default();
        for (namespace, host) in
            [("b", "api.x.example"), ("c", "*.v1.x.example"), ("d", "x.example"), ("e", "y.example")]
        {
            let claimant = claimant(namespace, 1);
            let object = (Kind::Stage, claimant.key.clone());
            all.replace(&object, Some((claimant, unrecorded(host))));
        }
        let wildcard = claimant("a", 0);
        let object = (Kind::Stage, wildcard.key.clone());
        let spaces = |touched: BTreeSet<(Kind, ObjectKey)>| {
            touched.into_iter().map(|(_, key)| key.namespace.to_string()).collect::<Vec<_>>()
        };
        let claims = Some((wildcard, unrecorded("*.x.example")));
        assert_eq!(spaces(all.replace(&object, claims)), ["b", "c"]);
        assert_eq!(spaces(all.replace(&object, None)), ["b", "c"], "when it goes as well");
    }

    /// Claims of the namespaces, in the order of the ages of their Stages, with the second since when they are recorded.
    fn recorded(claims: &[(&str, &str, Option<i64>)]) -> Claims {
        let mut all = Claims::default();
        for (age, (namespace, host, since)) in (0..).zip(claims) {
            let claimant = claimant(namespace, age);
            let at = |second| Since::At(Timestamp::from_second(second).unwrap());
            let since = since.map_or(Since::Unrecorded, at);
            let object = (Kind::Stage, claimant.key.clone());
            all.replace(&object, Some((claimant, BTreeMap::from([(Claim::Name(name(host)), since)]))));
        }
        all
    }

    #[test]
    fn the_longest_recorded_claim_has_a_name_and_one_that_is_not_recorded_comes_after_all_others() {
        for (claims, asked, owner) in [
            (&[("a", "x.example", Some(9)), ("b", "x.example", Some(5))][..], "x.example", "b"),
            (&[("a", "x.example", None), ("b", "x.example", Some(5))], "x.example", "b"),
            (&[("a", "*.example", None), ("b", "x.example", Some(5))], "x.example", "b"),
            (&[("a", "x.example", None), ("b", "*.example", Some(5))], "x.example", "b"),
            (&[("a", "*.example", Some(9)), ("b", "x.example", Some(5))], "y.example", "a"),
            (&[("a", "x.example", Some(5)), ("b", "x.example", Some(5))], "x.example", "a"),
            (&[("a", "x.example", None), ("b", "x.example", None)], "x.example", "a"),
        ] {
            let claims_of = recorded(claims);
            let found = claims_of.owner(&name(asked)).map(|owner| owner.key.namespace.as_str());
            assert_eq!(found, Some(owner), "{asked} among {claims:?}");
        }
    }

    #[test]
    fn a_time_is_recorded_after_those_of_all_claims_that_meet_it_and_come_before_it() {
        // The question is about the last claim.
        for (claims, may) in [
            (&[("a", "x.example", None)][..], true),
            (&[("a", "x.example", None), ("b", "x.example", None)], false),
            (&[("a", "x.example", Some(1)), ("b", "x.example", None)], true),
            (&[("a", "*.example", None), ("b", "x.example", None)], false),
            (&[("a", "v1.x.example", None), ("b", "*.x.example", None)], false),
            (&[("a", "v1.x.example", Some(1)), ("b", "*.x.example", None)], true),
            (&[("a", "y.example", None), ("b", "x.example", None)], true),
            (&[("a", "x.example", None), ("b", "*.x.example", None)], true),
        ] {
            let (namespace, host, _) = claims.last().unwrap();
            let key = ObjectKey::new(*namespace, "s");
            let found = recorded(claims).may_record(&Claim::Name(name(host)), Kind::Stage, &key);
            assert_eq!(found, may, "{claims:?}");
        }
    }

    #[test]
    fn a_wildcard_that_waits_for_a_name_below_it_is_concerned_by_its_change_and_a_recorded_one_is_not() {
        for (since, concerned) in [(None, true), (Some(1), false)] {
            let mut all = recorded(&[("a", "x.example", None), ("b", "*.example", since)]);
            let below = claimant("a", 0);
            let object = (Kind::Stage, below.key.clone());
            let now = Since::At(Timestamp::from_second(1).unwrap());
            let touched = all.replace(&object, Some((below, BTreeMap::from([(Claim::Name(name("x.example")), now)]))));
            assert_eq!(touched.iter().any(|(_, key)| key.namespace == "b"), concerned, "{since:?}");
        }
    }
}
