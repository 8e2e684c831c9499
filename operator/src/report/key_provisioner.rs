//! Generates the keys that ApiKeys and Principals without a Secret need. It runs apart from status writing, so that a failure delays no
//! status. `keys` generates one key.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::Client;
use sluice_wire::ObjectRef;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::publish::Current;
use crate::report::keys;
use crate::report::status_cache::StatusCache;
use crate::translate::Statuses;

/// Maximum number of keys that are generated at the same time.
const CONCURRENT: usize = 8;
/// Time until a key is tried again if its Secret has not appeared.
const RETRY: [Duration; 5] = [
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(15),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// Generates keys.
pub(crate) struct KeyProvisioner {
    client: Client,
    current: watch::Receiver<Option<Arc<Current>>>,
    cache: StatusCache,
}

/// Attempts, and when each may be repeated.
#[derive(Default)]
struct Attempts(BTreeMap<ObjectRef, (usize, Instant)>);

impl Attempts {
    /// The missing keys that may be generated now. Keys that are no longer missing are removed.
    fn due(&mut self, missing: &BTreeSet<ObjectRef>) -> Vec<ObjectRef> {
        self.0.retain(|object, _| missing.contains(object));
        let now = Instant::now();
        let due = missing.iter().filter(|object| self.0.get(*object).is_none_or(|(_, next)| *next <= now));
        due.cloned().collect()
    }

    fn tried(&mut self, object: ObjectRef) {
        let (count, next) = self.0.entry(object).or_insert_with(|| (0, Instant::now()));
        *next = Instant::now() + RETRY.get(*count).or(RETRY.last()).copied().unwrap_or_default();
        *count += 1;
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().map(|(_, next)| *next).min()
    }
}

impl KeyProvisioner {
    pub(crate) fn new(client: Client, current: watch::Receiver<Option<Arc<Current>>>, cache: StatusCache) -> Self {
        Self { client, current, cache }
    }

    /// Generates keys until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut attempts = Attempts::default();
        let (mut seen, mut missing) = (Statuses::default(), BTreeSet::new());
        loop {
            if let Some(current) = self.current.borrow_and_update().clone() {
                follow(&mut missing, &seen, &current.statuses);
                seen = current.statuses.clone();
            }
            let due = attempts.due(&missing);
            tokio::select! {
                () = self.make_all(due, &mut attempts) => {}
                () = stop.cancelled() => return,
            }
            let next = attempts.next();
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.current.changed() => if changed.is_err() { return },
                () = tokio::time::sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
    }

    async fn make_all(&self, due: Vec<ObjectRef>, attempts: &mut Attempts) {
        let made = futures::stream::iter(due).map(async |object| {
            let outcome = self.make(&object).await;
            (object, outcome)
        });
        let mut made = std::pin::pin!(made.buffer_unordered(CONCURRENT));
        while let Some((object, why)) = made.next().await {
            attempts.tried(object.clone());
            self.cache.key_failed(&object, why);
        }
    }

    /// Generates one key. Returns the error, if any.
    async fn make(&self, object: &ObjectRef) -> Option<String> {
        let error = keys::make(&self.client, &self.cache.get(object)?).await.err()?;
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        tracing::warn!(%object, %error, cause, "cannot generate a key; retrying");
        Some(cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}")))
    }
}

/// Updates the objects that need a key.
fn follow(missing: &mut BTreeSet<ObjectRef>, before: &Statuses, now: &Statuses) {
    for change in now.since(before) {
        if change.now.is_some_and(|desired| desired.detail.must_generate()) {
            missing.insert(change.object.clone());
        } else {
            missing.remove(change.object);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failing_key_is_retried_with_backoff_and_delays_no_other_key() {
        let key = |name: &str| ObjectRef::new("ApiKey", "shop", name);
        let mut attempts = Attempts::default();
        let bad = BTreeSet::from([key("bad")]);
        let mut tries = 0;
        for _ in 0..600 {
            for object in attempts.due(&bad) {
                tries += 1;
                attempts.tried(object);
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert!((5..=8).contains(&tries), "{tries} in ten minutes");
        let both = BTreeSet::from([key("bad"), key("good")]);
        assert_eq!(attempts.due(&both), [key("good")]);
        assert_eq!(attempts.due(&BTreeSet::from([key("good")])), [key("good")]);
        assert_eq!(attempts.due(&bad), [key("bad")], "a key that is missing again is made at once");
    }
}
