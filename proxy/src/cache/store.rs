//! The stored responses of one stage, bounded in bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use quick_cache::sync::DefaultLifecycle;
use quick_cache::{OptionsBuilder, UnitWeighter, Weighter};

use super::budget::Budget;
use super::coalesce::Fetches;
use super::key::Key;
use super::stored::Stored;

/// A shard must hold several of the largest responses.
const SHARD_BYTES: u64 = 8 << 20;
/// How long requests for a response that could not be stored are not coalesced.
pub(super) const HIT_FOR_MISS: Duration = Duration::from_secs(10);
const MAX_HIT_FOR_MISS: usize = 4096;

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
    hit_for_miss: quick_cache::sync::Cache<Key, Instant, UnitWeighter, RandomState>,
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
        let hit_for_miss = quick_cache::sync::Cache::with(
            MAX_HIT_FOR_MISS,
            MAX_HIT_FOR_MISS as u64,
            UnitWeighter,
            RandomState::default(),
            DefaultLifecycle::default(),
        );
        let budget = Budget::default();
        budget.set(max_bytes);
        Arc::new(Self { stored, fetches: Fetches::default(), budget, hit_for_miss })
    }

    /// Applies a changed configuration; responses that no longer fit are evicted.
    pub(crate) fn resize(&self, max_bytes: u64) {
        if self.stored.capacity() != max_bytes {
            self.stored.set_capacity(max_bytes);
            self.budget.set(max_bytes);
        }
    }

    /// The fresh response for a key.
    pub(crate) fn fresh(&self, key: &Key, now: Instant) -> Option<Arc<Stored>> {
        let stored = self.stored.get(key)?;
        if stored.remaining(now).is_some() {
            return Some(stored);
        }
        self.stored.remove_if(key, |old| old.remaining(now).is_none());
        None
    }

    pub(super) fn insert(&self, key: Key, stored: Arc<Stored>) {
        self.stored.insert(key, stored);
        self.hit_for_miss.remove(&key);
    }

    /// For a while, requests for this key are not coalesced.
    pub(super) fn set_hit_for_miss(&self, key: Key, now: Instant) {
        self.hit_for_miss.insert(key, now + HIT_FOR_MISS);
    }

    pub(super) fn is_hit_for_miss(&self, key: &Key, now: Instant) -> bool {
        self.hit_for_miss.get(key).is_some_and(|until| until > now)
    }
}
