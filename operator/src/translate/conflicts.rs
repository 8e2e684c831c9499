//! Who was first: hosts, operations and keys that several objects claim belong to the oldest, then to the first by name.
//! What each kind claims is said by the kinds' own rooms.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_wire::Hash;

use crate::objects::{Kind, ObjectKey};

/// Something that only one object can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claim {
    /// A host (`*`: every other host) and the base path below it.
    Host { host: String, base_path: String },
    /// An operation of a stage.
    Operation(Box<Operation>),
    /// The digest of an API key.
    Key(Hash),
}

/// Requests that a rule matches, up to the names of path parameters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Operation {
    pub(crate) stage: ObjectKey,
    pub(crate) version: Option<String>,
    pub(crate) path: String,
    pub(crate) method: &'static str,
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
    pub(crate) fn new(kind: Kind, key: &ObjectKey, meta: &ObjectMeta) -> Self {
        Self { created: created(meta), key: key.clone(), kind }
    }
}

/// Seconds and nanoseconds of an object's creation.
pub(crate) fn created(meta: &ObjectMeta) -> Option<(i64, i32)> {
    meta.creation_timestamp.as_ref().map(|time| (time.0.as_second(), time.0.subsec_nanosecond()))
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

    /// The winner, when it is another object than this one.
    pub(crate) fn lost_to(&self, claim: &Claim, kind: Kind, key: &ObjectKey) -> Option<&Claimant> {
        self.winner(claim).filter(|winner| winner.kind != kind || winner.key != *key)
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
                touched.extend(claimants.iter().map(|other| (other.kind, other.key.clone())));
                if claimants.is_empty() {
                    self.claimants.remove(&claim);
                }
            }
        }
        if let Some((claimant, claims)) = now {
            for claim in &claims {
                let claimants = self.claimants.entry(claim.clone()).or_default();
                touched.extend(claimants.iter().map(|other| (other.kind, other.key.clone())));
                claimants.insert(claimant.clone());
            }
            if !claims.is_empty() {
                self.by_object.insert(object.clone(), (claimant, claims));
            }
        }
        touched.remove(object);
        touched
    }
}
