//! What has to be known before the cluster state is shown, and how long that may take. What is known is `cluster`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::objects::{Kind, ObjectKey};

/// How long changes are held back for the sake of a Secret or ConfigMap that somebody has just begun to name.
pub(super) const NAMED_OBJECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After so many bad answers in a row the object counts as one that cannot be had.
const BAD_ANSWERS: u32 = 5;

/// How a watch failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The API server said that the object cannot be had: it may not be read, or its kind does not exist.
    Denied,
    /// The API server said something else that is no list.
    BadAnswer,
    /// Nobody answered.
    Unanswered,
}

/// What is waited for. The first time everything must be known: going on without a Secret would take away what proxies
/// serve. Later a named object is waited for, but only a little: whoever names new ones must not hold everybody up.
pub(super) struct SyncBarrier {
    kinds: BTreeSet<Kind>,
    /// With the number of bad answers.
    named: BTreeMap<(Kind, ObjectKey), u32>,
    shown: bool,
    /// Since when there is something to show.
    unshown: Option<Instant>,
}

impl SyncBarrier {
    /// Nothing was shown yet.
    pub(super) fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self { kinds: kinds.into_iter().collect(), named: BTreeMap::new(), shown: false, unshown: None }
    }

    /// All objects of a kind are known.
    pub(super) fn listed(&mut self, kind: Kind) {
        self.kinds.remove(&kind);
    }

    /// Somebody names an object.
    pub(super) fn begin(&mut self, named: (Kind, ObjectKey)) {
        self.named.insert(named, 0);
    }

    /// The object is known, or nobody names it any longer.
    pub(super) fn end(&mut self, named: &(Kind, ObjectKey)) {
        self.named.remove(named);
    }

    /// There was no list of the object.
    pub(super) fn failed(&mut self, named: &(Kind, ObjectKey), failure: Failure) {
        let Some(bad) = self.named.get_mut(named) else { return };
        *bad += u32::from(failure == Failure::BadAnswer);
        if failure == Failure::Denied || *bad >= BAD_ANSWERS {
            self.named.remove(named);
        }
    }

    /// Something changed.
    pub(super) fn changed(&mut self) {
        self.unshown.get_or_insert_with(Instant::now);
    }

    /// Whether it is time to show what changed. Being asked again is useful at `until`.
    pub(super) fn is_over(&self) -> bool {
        let known = self.kinds.is_empty() && self.named.is_empty();
        self.unshown.is_some() && (known || self.until().is_some_and(|until| Instant::now() >= until))
    }

    /// When waiting for named objects ends.
    pub(super) fn until(&self) -> Option<Instant> {
        self.unshown.filter(|_| self.shown).map(|since| since + NAMED_OBJECT_TIMEOUT)
    }

    /// It was shown; what was waited for in vain is not waited for a second time.
    pub(super) fn shown(&mut self) {
        self.shown = true;
        self.unshown = None;
        self.named.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> (Kind, ObjectKey) {
        (Kind::Secret, ObjectKey::new("shop", name))
    }

    fn begun() -> SyncBarrier {
        let mut waiting = SyncBarrier::new([Kind::Stage]);
        waiting.begin(named("tls"));
        waiting.changed();
        waiting
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_world_waits_for_every_named_object_however_long_that_takes() {
        let mut waiting = begun();
        waiting.listed(Kind::Stage);
        tokio::time::advance(Duration::from_secs(3600)).await;
        (0..1000).for_each(|_| waiting.failed(&named("tls"), Failure::Unanswered));
        assert!(!waiting.is_over());
        waiting.end(&named("tls"));
        assert!(waiting.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_server_does_not_hand_out_is_given_up() {
        let mut waiting = begun();
        waiting.failed(&named("tls"), Failure::Denied);
        assert!(!waiting.is_over(), "the Stages are not there");
        waiting.listed(Kind::Stage);
        assert!(waiting.is_over());
        let mut waiting = begun();
        waiting.listed(Kind::Stage);
        (0..BAD_ANSWERS).for_each(|_| waiting.failed(&named("tls"), Failure::BadAnswer));
        assert!(waiting.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_names_new_objects_all_the_time_holds_nobody_up_for_longer_than_a_moment() {
        let mut waiting = begun();
        waiting.listed(Kind::Stage);
        waiting.end(&named("tls"));
        waiting.shown();
        let started = Instant::now();
        let mut name = 0;
        while !waiting.is_over() {
            name += 1;
            waiting.begin(named(&name.to_string()));
            waiting.changed();
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(started.elapsed(), NAMED_OBJECT_TIMEOUT);
        waiting.shown();
        waiting.changed();
        assert!(waiting.is_over(), "a watch that never answers delays a change only once");
    }
}
