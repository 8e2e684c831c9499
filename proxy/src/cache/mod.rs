//! Answers kept for a while: one store per stage, bounded in bytes, with one request to the backend per missing answer.
//! What may be kept and what tells answers apart is in [`policy`]; buffering a body while it streams is `exchange`'s.

mod phase;
mod policy;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use quick_cache::{OptionsBuilder, UnitWeighter, Weighter};
use tokio::sync::watch;

pub(crate) use phase::{NotStored, Phase};
pub(crate) use policy::{Answer, CachePolicy, CallerKey, IGNORED_WARNING, Invalidate, Key, RuleId, invalidation};

/// A longer answer is not kept.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
/// What an entry costs beside its content.
const ENTRY_BYTES: u64 = 256;
/// A shard must hold several of the largest answers.
const SHARD_BYTES: u64 = 8 << 20;
/// How long requests for an answer that could not be kept are not made to wait for each other.
const APART: Duration = Duration::from_secs(10);
const MAX_APART: usize = 4096;

/// An answer without its body: what is known when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers, as the integration gave them and the rule changed them.
    pub(crate) headers: HeaderMap,
    /// When it was asked for.
    pub(crate) stored_at: Instant,
    /// How long it is fresh.
    pub(crate) ttl: Duration,
}

impl Head {
    /// The whole answer.
    pub(crate) fn with_body(self, body: Bytes) -> Stored {
        Stored { status: self.status, headers: self.headers, body, stored_at: self.stored_at, ttl: self.ttl }
    }
}

/// A kept answer.
#[derive(Debug)]
pub(crate) struct Stored {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
    /// When it was asked for.
    pub(crate) stored_at: Instant,
    /// How long it is fresh.
    pub(crate) ttl: Duration,
}

impl Stored {
    /// For the header `age`.
    pub(crate) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored_at)
    }

    /// How long it stays fresh; none: it is not.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.ttl.checked_sub(self.age(now)).filter(|left| !left.is_zero())
    }

    fn weight(&self) -> u64 {
        let headers: usize = self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        ENTRY_BYTES + (self.body.len() + headers) as u64
    }
}

#[derive(Clone, Debug)]
struct Weigh;

impl Weighter<Key, Arc<Stored>> for Weigh {
    fn weight(&self, _: &Key, stored: &Arc<Stored>) -> u64 {
        stored.weight()
    }
}

type Flights = HashMap<Key, watch::Receiver<Option<Arc<Stored>>>>;

/// The answers of one stage.
pub(crate) struct Cache {
    stored: quick_cache::sync::Cache<Key, Arc<Stored>, Weigh>,
    flights: Mutex<Flights>,
    apart: quick_cache::sync::Cache<Key, Instant, UnitWeighter>,
}

impl std::fmt::Debug for Cache {
    // Answers may be anybody's secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} answers, {} bytes)", self.stored.len(), self.stored.weight())
    }
}

/// What a look finds.
#[derive(Debug)]
pub(crate) enum Look {
    /// A fresh answer.
    Hit(Arc<Stored>),
    /// Nothing: this request fetches it.
    Lead(Lead),
    /// Nothing yet: another request is fetching it.
    Wait(Wait),
}

impl Cache {
    /// A store for at most `max_bytes`.
    pub(crate) fn new(max_bytes: u64) -> Arc<Self> {
        let shards = usize::try_from(max_bytes / SHARD_BYTES).unwrap_or(16).clamp(1, 16);
        let items = usize::try_from(max_bytes / (16 << 10)).unwrap_or(65_536).clamp(64, 65_536);
        let mut options = OptionsBuilder::new();
        options.shards(shards).estimated_items_capacity(items).weight_capacity(max_bytes);
        let stored = match options.build() {
            Ok(options) => quick_cache::sync::Cache::with_options(
                options,
                Weigh,
                quick_cache::DefaultHashBuilder::default(),
                quick_cache::sync::DefaultLifecycle::default(),
            ),
            Err(_) => quick_cache::sync::Cache::with_weighter(items, max_bytes, Weigh),
        };
        let apart = quick_cache::sync::Cache::new(MAX_APART);
        Arc::new(Self { stored, flights: Mutex::new(HashMap::new()), apart })
    }

    /// Follows a changed configuration; what does not fit any more goes.
    pub(crate) fn resize(&self, max_bytes: u64) {
        if self.stored.capacity() != max_bytes {
            self.stored.set_capacity(max_bytes);
        }
    }

    /// Looks for an answer. Of many requests that find nothing one leads and the others wait for it.
    pub(crate) fn look(self: &Arc<Self>, key: Key, now: Instant) -> Look {
        if let Some(hit) = self.fresh(&key, now) {
            return Look::Hit(hit);
        }
        if self.apart.get(&key).is_some_and(|until| until > now) {
            return Look::Lead(self.refresh(key));
        }
        let mut flights = self.flights();
        match flights.entry(key) {
            Entry::Occupied(flight) => Look::Wait(Wait(flight.get().clone())),
            Entry::Vacant(vacant) => {
                // A leader may have come home between the first look and the lock.
                if let Some(hit) = self.fresh(&key, now) {
                    return Look::Hit(hit);
                }
                let (sender, receiver) = watch::channel(None);
                vacant.insert(receiver);
                Look::Lead(Lead { cache: Arc::clone(self), key, flight: Some(sender) })
            }
        }
    }

    /// Leads whatever is there: for a client that may refresh an answer. Nobody waits for it.
    pub(crate) fn refresh(self: &Arc<Self>, key: Key) -> Lead {
        Lead { cache: Arc::clone(self), key, flight: None }
    }

    fn fresh(&self, key: &Key, now: Instant) -> Option<Arc<Stored>> {
        let stored = self.stored.get(key)?;
        if stored.remaining(now).is_some() {
            return Some(stored);
        }
        self.stored.remove_if(key, |old| old.remaining(now).is_none());
        None
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to fetch an answer for all who wait. Dropped without [`Lead::keep`] it lets them go on by themselves.
#[must_use]
pub(crate) struct Lead {
    cache: Arc<Cache>,
    key: Key,
    flight: Option<watch::Sender<Option<Arc<Stored>>>>,
}

impl Lead {
    /// Keeps the answer and hands it to all who wait.
    pub(crate) fn keep(mut self, stored: Stored) {
        let stored = Arc::new(stored);
        self.cache.stored.insert(self.key, Arc::clone(&stored));
        self.cache.apart.remove(&self.key);
        if let Some(sender) = self.flight.take() {
            sender.send_replace(Some(stored));
            self.cache.flights().remove(&self.key);
        }
    }

    /// The answer cannot be kept: for a while requests for it do not wait for each other.
    pub(crate) fn pass(self, now: Instant) {
        self.cache.apart.insert(self.key, now + APART);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some(sender) = self.flight.take() {
            self.cache.flights().remove(&self.key);
            drop(sender);
        }
    }
}

impl std::fmt::Debug for Lead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lead")
    }
}

/// Another request's answer, once it is there.
#[derive(Debug)]
pub(crate) struct Wait(watch::Receiver<Option<Arc<Stored>>>);

impl Wait {
    /// The answer; none: the leader could not keep it, or takes longer than `limit`, so this request goes on by itself.
    pub(crate) async fn answer(mut self, limit: Duration) -> Option<Arc<Stored>> {
        let found = tokio::time::timeout(limit, self.0.wait_for(Option::is_some)).await.ok()?.ok()?;
        found.clone()
    }
}

#[cfg(test)]
mod tests;
