//! The desired statuses of all objects. Copies share all buckets, as those of `sluice_wire::Parts` do, so that keeping and
//! comparing a copy for each change costs what the change costs.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash as _, Hasher as _};
use std::ops::Index;
use std::sync::Arc;

use sluice_wire::ObjectRef;

use crate::translate::desired::DesiredStatus;

const BUCKETS: usize = 256;

type Bucket = HashMap<ObjectRef, Arc<DesiredStatus>>;

/// The desired status of each object. Cheap to clone.
#[derive(Clone)]
pub struct Statuses {
    buckets: Arc<[Arc<Bucket>]>,
    /// The number of problems by kind of object and reason.
    problems: BTreeMap<(Arc<str>, &'static str), i64>,
}

impl Default for Statuses {
    fn default() -> Self {
        Self { buckets: std::iter::repeat_n(Arc::default(), BUCKETS).collect(), problems: BTreeMap::new() }
    }
}

/// An object whose status differs between two translations: before and now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StatusChange<'a> {
    /// The object.
    pub object: &'a ObjectRef,
    /// Its status before.
    pub before: Option<&'a Arc<DesiredStatus>>,
    /// Its status now.
    pub now: Option<&'a Arc<DesiredStatus>>,
}

impl Statuses {
    /// The status of one object.
    #[must_use]
    pub fn get(&self, object: &ObjectRef) -> Option<&Arc<DesiredStatus>> {
        self.buckets.get(bucket_of(object))?.get(object)
    }

    /// All statuses, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<DesiredStatus>)> {
        self.buckets.iter().flat_map(|bucket| bucket.iter())
    }

    /// All statuses by object.
    #[must_use]
    pub fn sorted(&self) -> BTreeMap<ObjectRef, Arc<DesiredStatus>> {
        self.iter().map(|(object, desired)| (object.clone(), desired.clone())).collect()
    }

    /// The objects whose statuses are not those of an older copy.
    pub fn since<'a>(&'a self, old: &'a Self) -> impl Iterator<Item = StatusChange<'a>> {
        let buckets = self.buckets.iter().zip(old.buckets.iter()).filter(|(new, old)| !Arc::ptr_eq(new, old));
        buckets.flat_map(|(new, old)| {
            let changed = new.iter().filter_map(|(object, now)| {
                let before = old.get(object);
                let same = before.is_some_and(|before| Arc::ptr_eq(before, now));
                (!same).then_some(StatusChange { object, before, now: Some(now) })
            });
            let removed = old.iter().filter(|(object, _)| !new.contains_key(*object));
            changed.chain(removed.map(|(object, before)| StatusChange { object, before: Some(before), now: None }))
        })
    }

    /// The number of problems by kind of object and reason.
    pub(crate) fn problems(&self) -> impl Iterator<Item = (&str, &str, i64)> {
        self.problems.iter().map(|((kind, reason), count)| (&**kind, *reason, *count))
    }

    /// Whether no object has a problem.
    pub(crate) fn are_clean(&self) -> bool {
        self.problems.is_empty()
    }

    pub(crate) fn insert(&mut self, object: ObjectRef, desired: Arc<DesiredStatus>) {
        for reason in &desired.problems {
            *self.problems.entry((object.kind.clone(), *reason)).or_default() += 1;
        }
        if let Some(before) = self.bucket(&object).insert(object.clone(), desired) {
            self.uncount(&object, &before);
        }
    }

    pub(crate) fn remove(&mut self, object: &ObjectRef) {
        if self.get(object).is_none() {
            return;
        }
        if let Some(before) = self.bucket(object).remove(object) {
            self.uncount(object, &before);
        }
    }

    fn uncount(&mut self, object: &ObjectRef, before: &DesiredStatus) {
        for reason in &before.problems {
            let key = (object.kind.clone(), *reason);
            if let Some(count) = self.problems.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.problems.remove(&key);
                }
            }
        }
    }

    fn bucket(&mut self, object: &ObjectRef) -> &mut Bucket {
        let buckets = Arc::make_mut(&mut self.buckets);
        Arc::make_mut(&mut buckets[bucket_of(object)])
    }

    /// The number of statuses that [`Statuses::since`] looks at: a test compares it with the number of changes.
    #[cfg(test)]
    pub(crate) fn compared(&self, old: &Self) -> usize {
        let buckets = self.buckets.iter().zip(old.buckets.iter()).filter(|(new, old)| !Arc::ptr_eq(new, old));
        buckets.map(|(new, old)| new.len() + old.len()).sum()
    }
}

impl PartialEq for Statuses {
    fn eq(&self, other: &Self) -> bool {
        self.buckets.iter().zip(other.buckets.iter()).all(|(a, b)| Arc::ptr_eq(a, b) || a == b)
    }
}

impl std::fmt::Debug for Statuses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}

impl Index<&ObjectRef> for Statuses {
    type Output = Arc<DesiredStatus>;

    fn index(&self, object: &ObjectRef) -> &Self::Output {
        self.get(object).expect("the object has a status")
    }
}

fn bucket_of(object: &ObjectRef) -> usize {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    usize::from(hasher.finish().to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::translate::desired::{Detail, Served};

    fn status(generation: i64, problems: &[&'static str]) -> Arc<DesiredStatus> {
        Arc::new(DesiredStatus {
            conditions: Vec::new(),
            generation: Some(generation),
            parts: BTreeSet::new(),
            fleets: BTreeSet::new(),
            served: Served::Yes,
            detail: Detail::None,
            warnings: Vec::new(),
            problems: problems.to_vec(),
            stages: Vec::new(),
        })
    }

    fn route(n: usize) -> ObjectRef {
        ObjectRef::new("ApiRoute", "shop", format!("r{n}"))
    }

    fn some(count: usize) -> Statuses {
        let mut all = Statuses::default();
        (0..count).for_each(|n| all.insert(route(n), status(1, &[])));
        all
    }

    #[test]
    fn a_difference_has_what_is_new_changed_and_gone() {
        let old = some(500);
        let mut new = old.clone();
        assert_eq!(new.since(&old).count(), 0);
        new.insert(route(7), status(2, &[]));
        new.insert(route(500), status(1, &[]));
        new.remove(&route(9));
        new.remove(&route(1000));
        let mut seen: Vec<_> = new.since(&old).map(|change| (change.object.clone(), change.now.is_some())).collect();
        seen.sort();
        assert_eq!(seen, [(route(500), true), (route(7), true), (route(9), false)]);
        assert_eq!((old.iter().count(), new.iter().count(), new[&route(7)].generation), (500, 500, Some(2)));
        assert_ne!(old, new);
        assert_eq!(some(3), some(3));
    }

    #[test]
    fn a_change_compares_a_small_part_of_all_statuses() {
        let old = some(10_000);
        let mut new = old.clone();
        new.insert(route(7), status(2, &[]));
        assert!(new.compared(&old) < 200, "{}", new.compared(&old));
    }

    fn counts(all: &Statuses) -> Vec<(&str, i64)> {
        all.problems().map(|(_, reason, count)| (reason, count)).collect()
    }

    #[test]
    fn problems_are_counted_as_statuses_come_change_and_go() {
        let mut all = some(3);
        assert!(all.are_clean());
        all.insert(route(0), status(1, &["Invalid", "Conflicted"]));
        all.insert(route(1), status(1, &["Invalid"]));
        assert_eq!(counts(&all), [("Conflicted", 1), ("Invalid", 2)]);
        all.insert(route(0), status(2, &["Invalid"]));
        all.remove(&route(1));
        assert_eq!(counts(&all), [("Invalid", 1)]);
        all.remove(&route(0));
        assert!(all.are_clean());
    }
}
