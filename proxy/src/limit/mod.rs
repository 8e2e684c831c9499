//! Rate limits: token buckets that belong to identities and outlive configurations.
//! Which buckets a request meets is decided by the route and the key; how a refusal looks is decided in `reject`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_wire::{PartName, Throttle};

/// A refused caller is never told to wait longer.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);
/// An unreferenced bucket is forgotten after this long, even when it is not full again.
const FORGET_AFTER: Duration = Duration::from_secs(3600);
/// More unreferenced buckets are not kept: the rest goes first come, first gone.
const MAX_UNREFERENCED: usize = 65_536;
const SWEEP_FROM: usize = 4096;

/// Whose bucket it is. Without the tunable numbers, so that a changed rate neither refills nor loses it.
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

/// What has been used and not yet leaked away.
#[derive(Debug, Default)]
struct Level {
    /// What fills the bucket as it is now.
    used: f64,
    /// What was used while the bucket was larger and no longer fits. It neither blocks the smaller bucket nor is it
    /// forgotten: it comes back with the room, so that shrinking and growing refills nothing.
    set_aside: f64,
    at: Option<Instant>,
    rate: f64,
    capacity: f64,
}

/// A token bucket. Check and take are one step under one lock held for a few nanoseconds: level and time must change
/// together, and must keep their meaning when the rate changes, which one atomic word cannot hold.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    level: Mutex<Level>,
}

impl Bucket {
    fn level(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one token, or says how long until there is one.
    fn take(&self, rate: f64, capacity: f64, now: Instant) -> Result<(), Duration> {
        let mut level = self.level();
        level.leak_until(now);
        level.resize(capacity);
        level.rate = rate;
        // Room for rounding: a caller at exactly the rate is never refused for the last bit of a float.
        if level.used + 1.0 <= capacity + 1e-6 {
            level.used += 1.0;
            return Ok(());
        }
        let missing = level.used + 1.0 - capacity;
        let wait = if rate > 0.0 && capacity >= 1.0 { missing / rate } else { f64::INFINITY };
        Err(Duration::try_from_secs_f64(wait).unwrap_or(LONGEST_WAIT).min(LONGEST_WAIT))
    }

    fn give_back(&self) {
        self.level().lower(1.0);
    }

    fn forgettable(&self, now: Instant) -> bool {
        let level = self.level();
        let idle = level.idle(now);
        level.at.is_none() || idle >= FORGET_AFTER || level.total() <= idle.as_secs_f64() * level.rate
    }
}

impl Level {
    fn total(&self) -> f64 {
        self.used + self.set_aside
    }

    fn idle(&self, now: Instant) -> Duration {
        self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// What leaks until now leaks at the rate in force until now.
    fn leak_until(&mut self, now: Instant) {
        self.lower(self.idle(now).as_secs_f64() * self.rate);
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// What is set aside leaks once the bucket is full again.
    fn lower(&mut self, by: f64) {
        let rest = (by - self.used).max(0.0);
        self.used = (self.used - by).max(0.0);
        self.set_aside = (self.set_aside - rest).max(0.0);
    }

    /// Less room sets aside what does not fit; more room takes it in again.
    fn resize(&mut self, capacity: f64) {
        let moved = if capacity < self.capacity {
            (self.used - capacity).max(0.0)
        } else {
            -self.set_aside.min(capacity - self.capacity)
        };
        self.used -= moved;
        self.set_aside += moved;
        self.capacity = capacity;
    }
}

/// A bucket and the numbers in force.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// Shared by every configuration that names it.
    pub(crate) bucket: Arc<Bucket>,
    /// For the whole fleet.
    pub(crate) throttle: Throttle,
}

impl Limit {
    /// This proxy's part of the fleet's limit. Of a burst it is at least one request, since a bucket of less would refuse
    /// everything: a fleet larger than the burst lets one request through per proxy at once, and the rate after that.
    fn share(&self, proxies: u32) -> (f64, f64) {
        let n = f64::from(proxies.max(1));
        let burst = f64::from(self.throttle.burst);
        let capacity = if self.throttle.burst == 0 { 0.0 } else { (burst / n).max(1.0) };
        (self.throttle.rate.max(0.0) / n, capacity)
    }
}

/// A bucket was empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    /// When a request may pass again.
    pub(crate) retry_after: Duration,
    /// Which of the limits refused.
    pub(crate) index: usize,
}

/// Takes one token of each, or of none. `proxies` share each limit.
pub(crate) fn take_all<'c, 'l: 'c, C>(limits: C, proxies: u32, now: Instant) -> Result<(), Refused>
where
    C: IntoIterator<Item = &'c &'l Limit, IntoIter: Clone>,
{
    let limits = limits.into_iter();
    for (index, limit) in limits.clone().enumerate() {
        let (rate, capacity) = limit.share(proxies);
        if let Err(retry_after) = limit.bucket.take(rate, capacity, now) {
            for taken in limits.take(index) {
                taken.bucket.give_back();
            }
            return Err(Refused { retry_after, index });
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Registry {
    buckets: HashMap<BucketId, Arc<Bucket>>,
    sweep_at: usize,
}

/// Every bucket of this proxy.
#[derive(Debug)]
pub(crate) struct Limits {
    registry: Mutex<Registry>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { registry: Mutex::new(Registry { buckets: HashMap::new(), sweep_at: SWEEP_FROM }) }
    }
}

impl Limits {
    /// The bucket of `id`: the same as before when it is still remembered. For compiling, not for requests.
    pub(crate) fn bucket(&self, id: BucketId) -> Arc<Bucket> {
        let mut registry = self.registry();
        if registry.buckets.len() >= registry.sweep_at {
            registry.sweep(Instant::now());
        }
        Arc::clone(registry.buckets.entry(id).or_default())
    }

    /// A limit on the bucket of `id`.
    pub(crate) fn limit(&self, id: BucketId, throttle: Throttle) -> Limit {
        Limit { bucket: self.bucket(id), throttle }
    }

    /// Forgets buckets that no configuration names and that are full, or old. To be called after a swap.
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
            unreferenced <= MAX_UNREFERENCED && !bucket.forgettable(now)
        });
        self.sweep_at = (self.buckets.len() * 2).max(SWEEP_FROM);
    }
}

#[cfg(test)]
mod tests;
