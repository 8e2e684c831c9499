//! Decides when the cluster state is complete enough to be translated: which lists it waits for, and for how long.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::objects::{Kind, ObjectKey};
use crate::watch::event::Failure;

/// How long changes are held back for a Secret or ConfigMap that an object has begun to name.
pub(super) const NAMED_OBJECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After this many error responses in a row the object is no longer waited for.
const MAX_ERROR_RESPONSES: u32 = 5;

/// What is waited for. The first time everything must be known: without a Secret, proxies would lose what they serve. Later
/// named objects are waited for, up to [`NAMED_OBJECT_TIMEOUT`]: an author who names new objects must not delay the others.
pub(super) struct SyncBarrier {
    kinds: BTreeSet<Kind>,
    /// Whether the cluster's issuer was read, or cannot be read.
    issuer: bool,
    /// With the number of error responses.
    named: BTreeMap<(Kind, ObjectKey), u32>,
    shown: bool,
    /// When the first change that is not translated yet arrived.
    unshown: Option<Instant>,
}

impl SyncBarrier {
    /// Nothing was translated yet.
    pub(super) fn new(kinds: impl IntoIterator<Item = Kind>) -> Self {
        Self { kinds: kinds.into_iter().collect(), issuer: false, named: BTreeMap::new(), shown: false, unshown: None }
    }

    /// All objects of a kind are known. True: for the first time.
    pub(super) fn listed(&mut self, kind: Kind) -> bool {
        self.kinds.remove(&kind)
    }

    /// It is known whether the cluster has an issuer.
    pub(super) fn issuer_read(&mut self) {
        self.issuer = true;
    }

    /// An object is named.
    pub(super) fn begin(&mut self, named: (Kind, ObjectKey)) {
        self.named.insert(named, 0);
    }

    /// The object is known, or no longer named.
    pub(super) fn end(&mut self, named: &(Kind, ObjectKey)) {
        self.named.remove(named);
    }

    /// A list of the object failed.
    pub(super) fn failed(&mut self, named: &(Kind, ObjectKey), failure: Failure) {
        let Some(bad) = self.named.get_mut(named) else { return };
        *bad += u32::from(failure == Failure::ErrorResponse);
        if failure == Failure::Denied || *bad >= MAX_ERROR_RESPONSES {
            self.named.remove(named);
        }
    }

    /// Something changed.
    pub(super) fn changed(&mut self) {
        self.unshown.get_or_insert_with(Instant::now);
    }

    /// Whether to show the changes now. The result changes at `until` at the latest.
    pub(super) fn is_over(&self) -> bool {
        let known = self.kinds.is_empty() && self.issuer && self.named.is_empty();
        self.unshown.is_some() && (known || self.until().is_some_and(|until| Instant::now() >= until))
    }

    /// When barrier for named objects ends.
    pub(super) fn until(&self) -> Option<Instant> {
        self.unshown.filter(|_| self.shown).map(|since| since + NAMED_OBJECT_TIMEOUT)
    }

    /// The changes were passed to translation. A watch that did not respond in time is not waited for again.
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
        let mut barrier = SyncBarrier::new([Kind::Stage]);
        barrier.issuer_read();
        barrier.begin(named("tls"));
        barrier.changed();
        barrier
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_state_waits_for_every_named_object_however_long_that_takes() {
        let mut barrier = begun();
        assert!(barrier.listed(Kind::Stage));
        tokio::time::advance(Duration::from_secs(3600)).await;
        (0..1000).for_each(|_| barrier.failed(&named("tls"), Failure::NoResponse));
        assert!(!barrier.is_over());
        barrier.end(&named("tls"));
        assert!(barrier.is_over());
    }

    #[test]
    fn the_first_state_waits_for_the_issuer_of_the_cluster() {
        let mut barrier = SyncBarrier::new([Kind::Stage]);
        assert!(barrier.listed(Kind::Stage));
        barrier.changed();
        assert!(!barrier.is_over());
        barrier.issuer_read();
        assert!(barrier.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_api_server_does_not_hand_out_is_given_up() {
        let mut barrier = begun();
        barrier.failed(&named("tls"), Failure::Denied);
        assert!(!barrier.is_over(), "the Stages are not there");
        assert!(barrier.listed(Kind::Stage));
        assert!(barrier.is_over());
        let mut barrier = begun();
        assert!(barrier.listed(Kind::Stage));
        (0..MAX_ERROR_RESPONSES).for_each(|_| barrier.failed(&named("tls"), Failure::ErrorResponse));
        assert!(barrier.is_over());
    }

    #[tokio::test(start_paused = true)]
    async fn a_constant_stream_of_new_references_delays_others_only_briefly() {
        let mut barrier = begun();
        assert!(barrier.listed(Kind::Stage));
        barrier.end(&named("tls"));
        barrier.shown();
        let started = Instant::now();
        let mut name = 0;
        while !barrier.is_over() {
            name += 1;
            barrier.begin(named(&name.to_string()));
            barrier.changed();
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(started.elapsed(), NAMED_OBJECT_TIMEOUT);
        barrier.shown();
        barrier.changed();
        assert!(barrier.is_over(), "a watch that never responds delays a change only once");
    }
}
