//! Throttles: token buckets that are identified by what they limit and outlive configurations. The route, the API key and the
//! address of the client determine the buckets of a request.

mod bucket;
mod client;
mod headers;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use sluice_wire::{ClientThrottle, Hash, PartName, Throttle};

use bucket::Bucket;
pub(crate) use bucket::{Exhausted, Limit, give_back, take_all};
pub(crate) use client::{ClientBuckets, ClientLimit};
pub(crate) use headers::RateLimitHeaders;

/// Maximum number of unreferenced buckets; the oldest are removed first.
const MAX_UNREFERENCED: usize = 65_536;
const SWEEP_FROM: usize = 4096;

/// Identity of a bucket. It does not contain rate and burst, so that a change of them neither refills nor resets the bucket.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum BucketId {
    /// All callers of one rule at one stage.
    Rule {
        /// The stage's part.
        stage: PartName,
        /// The ApiRoute's part.
        route: PartName,
        /// The rule's name.
        rule: String,
    },
    /// One key in one plan, over all stages of the plan.
    KeyPlan {
        /// `namespace/name` of the ApiKey.
        key: String,
        /// The plan's part.
        plan: PartName,
    },
    /// One key at one rule.
    KeyRule {
        /// `namespace/name` of the ApiKey.
        key: String,
        /// The plan's part.
        plan: PartName,
        /// The stage's part.
        stage: PartName,
        /// The ApiRoute's part.
        route: PartName,
        /// The rule's name.
        rule: String,
    },
}

#[derive(Debug)]
struct Registry {
    buckets: HashMap<BucketId, Arc<Bucket>>,
    sweep_at: usize,
}

/// All buckets of this proxy.
pub(crate) struct Buckets {
    registry: Mutex<Registry>,
    clients: Arc<ClientBuckets>,
}

impl Default for Buckets {
    fn default() -> Self {
        let registry = Mutex::new(Registry { buckets: HashMap::new(), sweep_at: SWEEP_FROM });
        Self { registry, clients: Arc::default() }
    }
}

impl Buckets {
    /// The bucket of `id`, which is created if it does not exist. Called when routes are compiled, not per request.
    pub(crate) fn bucket(&self, id: BucketId) -> Arc<Bucket> {
        let mut registry = self.registry();
        if registry.buckets.len() >= registry.sweep_at {
            registry.sweep(Instant::now());
        }
        Arc::clone(registry.buckets.entry(id).or_default())
    }

    /// A limit with the bucket of `id`.
    pub(crate) fn limit(&self, id: BucketId, throttle: Throttle) -> Limit {
        Limit { bucket: self.bucket(id), throttle }
    }

    /// A limit that each client has for itself.
    pub(crate) fn client_limit(&self, id: &BucketId, throttle: ClientThrottle) -> ClientLimit {
        // The same for every configuration that has the limit.
        ClientLimit::new(Hash::of(format!("{id:?}").as_bytes()), throttle, &self.clients)
    }

    /// Removes unreferenced buckets that are full or old. Called after a configuration change.
    pub(crate) fn sweep(&self, now: Instant) {
        self.registry().sweep(now);
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn sweep(&mut self, now: Instant) {
        let mut unreferenced = 0;
        self.buckets.retain(|_, bucket| {
            if Arc::strong_count(bucket) > 1 {
                return true;
            }
            unreferenced += 1;
            unreferenced <= MAX_UNREFERENCED && !bucket.removable(now)
        });
        self.sweep_at = (self.buckets.len() * 2).max(SWEEP_FROM);
    }
}

#[cfg(test)]
mod tests;
