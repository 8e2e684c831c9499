//! Answers kept for a while: one store per stage, bounded in bytes.
//! What may be kept and what tells answers apart is in [`policy`], who fetches a missing one in [`flight`], and the copy
//! of one that is arriving in [`fill`].

mod fill;
mod flight;
mod phase;
mod policy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::quality::RandomState;
use http::{HeaderMap, HeaderValue, StatusCode};
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{OptionsBuilder, UnitWeighter, Weighter};

pub(crate) use fill::Keep;
pub(crate) use flight::{Lead, Wait, Waited};
pub(crate) use phase::{NotStored, Phase};
pub(crate) use policy::{Answer, CachePolicy, CallerKey, IGNORED_WARNING, Invalidate, Key, Origin, invalidation};

use fill::Budget;
use flight::{Boarded, Flights};

/// A longer answer is not kept.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
/// What an entry costs beside its content.
const ENTRY_BYTES: u64 = 320;
/// What a header costs beside its name and value: its place in the map, and its own allocation.
const HEADER_BYTES: usize = 160;
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
    /// The whole answer. Header values are copied: those of hyper are slices of its read buffers, and one of them would
    /// keep all of its buffer.
    fn with_body(self, body: Bytes) -> Stored {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, owned(value));
        }
        Stored { status: self.status, headers, body, stored_at: self.stored_at, ttl: self.ttl }
    }
}

fn owned(value: &HeaderValue) -> HeaderValue {
    // The bytes of a header value are one.
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""));
    copy.set_sensitive(value.is_sensitive());
    copy
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
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES).sum();
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

/// The answers of one stage.
pub(crate) struct Cache {
    stored: quick_cache::sync::Cache<Key, Arc<Stored>, Weigh, RandomState>,
    flights: Flights,
    flown: AtomicU64,
    budget: Budget,
    apart: quick_cache::sync::Cache<Key, Instant, UnitWeighter, RandomState>,
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
        let (hasher, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
        let stored = match options.build() {
            Ok(options) => quick_cache::sync::Cache::with_options(options, Weigh, hasher, lifecycle),
            Err(_) => quick_cache::sync::Cache::with(items, max_bytes, Weigh, hasher, lifecycle),
        };
        let apart = quick_cache::sync::Cache::with(
            MAX_APART,
            MAX_APART as u64,
            UnitWeighter,
            RandomState::default(),
            DefaultLifecycle::default(),
        );
        let budget = Budget::default();
        budget.set(max_bytes);
        Arc::new(Self { stored, flights: Flights::default(), flown: AtomicU64::new(0), budget, apart })
    }

    /// Follows a changed configuration; what does not fit any more goes.
    pub(crate) fn resize(&self, max_bytes: u64) {
        if self.stored.capacity() != max_bytes {
            self.stored.set_capacity(max_bytes);
            self.budget.set(max_bytes);
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
        match Flights::board(self, key, || self.fresh(&key, now)) {
            Ok(Boarded::Lead(lead)) => Look::Lead(lead),
            Ok(Boarded::Wait(wait)) => Look::Wait(wait),
            Err(stored) => Look::Hit(stored),
        }
    }

    /// Leads whatever is there: for a client that may refresh an answer. Nobody waits for it.
    pub(crate) fn refresh(self: &Arc<Self>, key: Key) -> Lead {
        Lead::alone(self, key)
    }

    /// A fresh answer, where there is one.
    pub(crate) fn fresh(&self, key: &Key, now: Instant) -> Option<Arc<Stored>> {
        let stored = self.stored.get(key)?;
        if stored.remaining(now).is_some() {
            return Some(stored);
        }
        self.stored.remove_if(key, |old| old.remaining(now).is_none());
        None
    }

    fn insert(&self, key: Key, stored: Arc<Stored>) {
        self.stored.insert(key, stored);
        self.apart.remove(&key);
    }

    fn set_apart(&self, key: Key, now: Instant) {
        self.apart.insert(key, now + APART);
    }

    fn next_flight(&self) -> u64 {
        self.flown.fetch_add(1, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
