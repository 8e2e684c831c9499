//! The stored responses of one stage, bounded in bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use http::{HeaderMap, HeaderName};
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{OptionsBuilder, UnitWeighter, Weighter};

use super::budget::Budget;
use super::coalesce::Fetches;
use super::invalidated::{Invalidated, PathPlace};
use super::key::Key;
use super::stored::{Stored, Variant};
use super::vary::Vary;

/// A shard must hold several of the largest responses.
const SHARD_BYTES: u64 = 8 << 20;
/// How long requests for a response that could not be stored are not coalesced.
pub(super) const HIT_FOR_MISS: Duration = Duration::from_secs(10);
const MAX_HIT_FOR_MISS: usize = 4096;
/// Keys whose responses depend on headers of their requests.
const MAX_VARYING: usize = 16_384;

#[derive(Clone, Debug)]
pub(super) struct Weigh;

impl Weighter<Key, Arc<Stored>> for Weigh {
    fn weight(&self, _: &Key, stored: &Arc<Stored>) -> u64 {
        stored.weight()
    }
}

/// The stored responses of one stage.
pub(crate) struct Cache {
    pub(super) stored: quick_cache::sync::Cache<Key, Arc<Stored>, Weigh, RandomState>,
    pub(super) fetches: Fetches,
    pub(super) budget: Budget,
    /// Keys whose responses could not be stored, until when.
    hit_for_miss: Bounded<Instant>,
    /// The headers that the responses of a key depend on.
    varying: Bounded<Arc<Vary>>,
    /// Whether there are any.
    any_varies: AtomicBool,
    invalidated: Invalidated,
}

/// Values by key, of which the least used are forgotten.
type Bounded<T> = quick_cache::sync::Cache<Key, T, UnitWeighter, RandomState>;

fn bounded<T: Clone>(items: usize) -> Bounded<T> {
    let (hasher, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
    quick_cache::sync::Cache::with(items, items as u64, UnitWeighter, hasher, lifecycle)
}

impl std::fmt::Debug for Cache {
    // Responses may contain secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Cache({} responses, {} bytes)", self.stored.len(), self.stored.weight())
    }
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
        let budget = Budget::default();
        budget.set(max_bytes);
        Arc::new(Self {
            stored,
            fetches: Fetches::default(),
            budget,
            hit_for_miss: bounded(MAX_HIT_FOR_MISS),
            varying: bounded(MAX_VARYING),
            any_varies: AtomicBool::new(false),
            invalidated: Invalidated::new(),
        })
    }

    /// Applies a changed configuration; responses that no longer fit are evicted.
    pub(crate) fn resize(&self, max_bytes: u64) {
        if self.stored.capacity() != max_bytes {
            self.stored.set_capacity(max_bytes);
            self.budget.set(max_bytes);
        }
    }

    /// The key under which the response to a request is, if the responses of its primary key depend on headers.
    pub(crate) fn key_of(&self, primary: Key, request: &HeaderMap) -> Key {
        if !self.any_varies.load(Ordering::Acquire) {
            return primary;
        }
        self.varying.get(&primary).map_or(primary, |vary| vary.key(&primary, request))
    }

    /// Where a response that depends on headers is stored; none: they are too many.
    pub(crate) fn variant(&self, primary: Key, names: &[HeaderName], request: &HeaderMap) -> Option<Variant> {
        let known = self.varying.get(&primary);
        let vary = Vary::join(known.as_deref(), names)?;
        let key = vary.key(&primary, request);
        Some(Variant { primary, vary, key })
    }

    /// Forgets the responses to requests for a path, also those that are still arriving.
    pub(crate) fn invalidate(&self, path: &str, now: Instant) {
        self.invalidated.invalidate(PathPlace::of(path), now);
    }

    /// Whether a response that was requested at this time has become invalid.
    pub(super) fn is_invalid(&self, key: &Key, requested: Instant) -> bool {
        self.invalidated.is_since(key.place, requested)
    }

    /// The fresh response for a key.
    pub(crate) fn fresh(&self, key: &Key, now: Instant) -> Option<Arc<Stored>> {
        let stored = self.stored.get(key)?;
        let usable = |stored: &Stored| stored.remaining(now).is_some() && !self.is_invalid(key, stored.stored_at);
        if usable(&stored) {
            return Some(stored);
        }
        self.stored.remove_if(key, |old| !usable(old));
        None
    }

    /// Whether a response belongs to a request: it waited for the response to another.
    pub(crate) fn fits(&self, stored: &Stored, primary: Key, request: &HeaderMap) -> bool {
        stored.key == self.key_of(primary, request)
    }

    /// Stores a response, unless it has become invalid while it arrived.
    pub(super) fn insert(&self, stored: &Arc<Stored>, variant: Option<Variant>) {
        if self.is_invalid(&stored.key, stored.stored_at) {
            return;
        }
        if let Some(Variant { primary, vary, .. }) = variant {
            self.varying.insert(primary, vary);
            self.any_varies.store(true, Ordering::Release);
        }
        self.stored.insert(stored.key, Arc::clone(stored));
        self.hit_for_miss.remove(&stored.key);
    }

    /// For a while, requests for this key are not coalesced.
    pub(super) fn set_hit_for_miss(&self, key: Key, now: Instant) {
        self.hit_for_miss.insert(key, now + HIT_FOR_MISS);
    }

    pub(super) fn is_hit_for_miss(&self, key: &Key, now: Instant) -> bool {
        self.hit_for_miss.get(key).is_some_and(|until| until > now)
    }
}
