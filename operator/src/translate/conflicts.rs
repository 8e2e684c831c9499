//! Conflicts between objects: a host, an operation or a key that several objects claim belongs to the oldest of them, and of
//! objects of the same age to the first by name. Host names belong to a namespace: that of the oldest object that claims the name, or a wildcard
//! above it. The module of each kind defines what its objects claim.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sluice_wire::{FleetName, Hash, HostPattern};

use crate::objects::{Kind, ObjectKey};

/// Something that only one object can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// A host name, with any base path: decides which namespace owns it.
    Name(HostName),
    /// A host and the base path below it, in one fleet.
    Host { fleet: FleetName, host: HostName, base_path: String },
    /// An operation of a stage.
    Operation(Box<Operation>),
    /// The digest of an API key.
    Key(Hash),
}

/// A host name with its labels in reverse order, as `example.shop.api` or `example.shop.*`, so that everything below a
/// wildcard is one range. `*` means the hosts that no object names; it covers only itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    pub(crate) stage: ObjectKey,
    pub(crate) version: Option<String>,
    pub(crate) path: String,
    pub(crate) method: String,
    pub(crate) matches: Vec<String>,
}

/// An object that claims something. Sorted by precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claimant {
    /// Seconds and nanoseconds of its creation; objects of files have none and are equally old.
    created: Option<(i64, i32)>,
    /// Its key.
    pub(crate) key: ObjectKey,
    /// Its kind.
    pub(crate) kind: Kind,
}

impl Claimant {
    pub(crate) fn new(kind: Kind, key: &ObjectKey, created: Option<&Time>) -> Self {
        Self { created: created.map(age), key: key.clone(), kind }
    }
}

/// Seconds and nanoseconds of an object's creation.
pub(crate) fn age(time: &Time) -> (i64, i32) {
    (time.0.as_second(), time.0.subsec_nanosecond())
}

/// All claims and who makes them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    claimants: BTreeMap<Claim, BTreeSet<Claimant>>,
    by_object: BTreeMap<(Kind, ObjectKey), (Claimant, BTreeSet<Claim>)>,
}

impl Claims {
    /// The object that has what is claimed.
    pub(crate) fn winner(&self, claim: &Claim) -> Option<&Claimant> {
        self.claimants.get(claim).and_then(BTreeSet::first)
    }

    /// The object that has what is claimed at a Stage: the oldest of the Stage's namespace, or else the oldest. So no guest
    /// takes anything from the owner of the Stage.
    pub(crate) fn winner_at(&self, claim: &Claim, stage: &ObjectKey) -> Option<&Claimant> {
        self.winner_in(claim, &stage.namespace).or_else(|| self.winner(claim))
    }

    /// The winner, when it is another object than this one.
    pub(crate) fn lost_to(&self, claim: &Claim, kind: Kind, key: &ObjectKey) -> Option<&Claimant> {
        self.winner(claim).filter(|winner| winner.kind != kind || winner.key != *key)
    }

    /// The oldest claimant of a host name or of a wildcard above it: the name belongs to its namespace.
    pub(crate) fn owner(&self, host: &HostName) -> Option<&Claimant> {
        let names = std::iter::once(host.clone()).chain(host.wildcards());
        names.filter_map(|name| self.winner(&Claim::Name(name))).min()
    }

    /// The oldest claimant of a claim in one namespace.
    pub(crate) fn winner_in(&self, claim: &Claim, namespace: &str) -> Option<&Claimant> {
        self.claimants(claim).find(|claimant| claimant.key.namespace == namespace)
    }

    /// All claimants, the oldest first.
    pub(crate) fn claimants(&self, claim: &Claim) -> impl Iterator<Item = &Claimant> {
        self.claimants.get(claim).into_iter().flatten()
    }

    /// The claimants that a change of this claim concerns: its own, and for a wildcard those of every name below it.
    fn concerned(&self, claim: &Claim, touched: &mut BTreeSet<(Kind, ObjectKey)>) {
        let mut add = |claimants: &BTreeSet<Claimant>| {
            touched.extend(claimants.iter().map(|other| (other.kind, other.key.clone())));
        };
        self.claimants.get(claim).into_iter().for_each(&mut add);
        let Claim::Name(host) = claim else { return };
        let Some(prefix) = host.prefix() else { return };
        let below = self.claimants.range(Claim::Name(HostName(prefix.to_owned()))..);
        below
            .take_while(|(claim, _)| matches!(claim, Claim::Name(name) if name.0.starts_with(prefix)))
            .for_each(|(_, claimants)| add(claimants));
    }

    /// Replaces an object's claims and returns the objects whose standing may have changed.
    pub(crate) fn replace(
        &mut self,
        object: &(Kind, ObjectKey),
        now: Option<(Claimant, BTreeSet<Claim>)>,
    ) -> BTreeSet<(Kind, ObjectKey)> {
        let before = self.by_object.remove(object);
        let mut touched = BTreeSet::new();
        if before == now {
            if let Some(now) = now {
                self.by_object.insert(object.clone(), now);
            }
            return touched;
        }
        if let Some((claimant, claims)) = before {
            for claim in claims {
                let Some(claimants) = self.claimants.get_mut(&claim) else { continue };
                claimants.remove(&claimant);
                if claimants.is_empty() {
                    self.claimants.remove(&claim);
                }
                self.concerned(&claim, &mut touched);
            }
        }
        if let Some((claimant, claims)) = now {
            for claim in &claims {
                self.concerned(claim, &mut touched);
                self.claimants.entry(claim.clone()).or_default().insert(claimant.clone());
            }
            if !claims.is_empty() {
                self.by_object.insert(object.clone(), (claimant, claims));
            }
        }
        touched.remove(object);
        touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(host: &str) -> HostName {
        HostName::from(&host.parse::<HostPattern>().unwrap())
    }

    fn claimant(namespace: &str, age: i64) -> Claimant {
        Claimant { created: Some((age, 0)), key: ObjectKey::new(namespace, "s"), kind: Kind::Stage }
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
                all.replace(&object, Some((claimant, [Claim::Name(name(host))].into())));
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
            all.replace(&object, Some((claimant, [Claim::Name(name(host))].into())));
        }
        let wildcard = claimant("a", 0);
        let object = (Kind::Stage, wildcard.key.clone());
        let spaces = |touched: BTreeSet<(Kind, ObjectKey)>| {
            touched.into_iter().map(|(_, key)| key.namespace.to_string()).collect::<Vec<_>>()
        };
        let claims = Some((wildcard, [Claim::Name(name("*.x.example"))].into()));
        assert_eq!(spaces(all.replace(&object, claims)), ["b", "c"]);
        assert_eq!(spaces(all.replace(&object, None)), ["b", "c"], "when it goes as well");
    }
}
