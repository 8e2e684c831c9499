//! One token bucket: its level over time, its share of a fleet, and requests that take tokens of several.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluice_wire::Throttle;

/// The longest period of a throttle, and the longest `Retry-After`.
pub(super) const LONGEST_PERIOD: Duration = Duration::from_secs(86_400);
/// The same in milliseconds.
const LONGEST_PERIOD_MS: u32 = 86_400_000;
/// Maximum size of a fleet in calculations, so that no product overflows.
const MAX_PROXIES: u32 = 65_536;
/// An unreferenced bucket is removed after this long, even if it is not full.
const REMOVE_AFTER: Duration = LONGEST_PERIOD;

/// A throttle as one proxy of a fleet applies it. All amounts are whole numbers of a unit that makes them exact: one
/// token is as many units as the period has nanoseconds, times the number of proxies; `rate` units leak each nanosecond.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    rate: u32,
    per_ms: u32,
    burst: u32,
    proxies: u32,
}

impl Share {
    pub(super) fn new(throttle: Throttle, proxies: u32) -> Self {
        let Throttle { rate, per_ms, burst } = throttle;
        Self { rate, per_ms, burst, proxies }
    }

    /// At most 2^47: the longest period is a day.
    fn period_ns(self) -> u64 {
        u64::from(self.per_ms.clamp(1, LONGEST_PERIOD_MS)) * 1_000_000
    }

    /// The units of one token: at most 2^63.
    pub(super) fn token(self) -> u128 {
        u128::from(self.period_ns() * u64::from(self.proxies.clamp(1, MAX_PROXIES)))
    }

    /// Capacity in units: this proxy's share of the burst, at least one token, because a smaller bucket would reject all
    /// requests. A fleet larger than the burst accepts one request per proxy at once, and the rate after that.
    pub(super) fn capacity(self) -> u128 {
        if self.burst == 0 { 0 } else { (u128::from(self.period_ns()) * u128::from(self.burst)).max(self.token()) }
    }

    /// The units that leak in a time.
    pub(super) fn leaks(self, time: Duration) -> u128 {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        u128::from(nanos) * u128::from(self.rate)
    }

    /// The time in which units leak.
    fn time(self, units: u128) -> Duration {
        let rate = self.rate.max(1);
        let nanos = match u64::try_from(units) {
            Ok(units) => units.div_ceil(u64::from(rate)),
            Err(_) => u64::try_from(units.div_ceil(u128::from(rate))).unwrap_or(u64::MAX),
        };
        if self.rate == 0 { LONGEST_PERIOD } else { Duration::from_nanos(nanos).min(LONGEST_PERIOD) }
    }
}

/// Converts units to those of another token size, rounded up: a change of a throttle never accepts more requests.
fn rescaled(units: u128, from: u128, to: u128) -> u128 {
    (units / from) * to + ((units % from) * to).div_ceil(from)
}

/// Used units that have not leaked yet, in units of `share`.
#[derive(Debug, Default)]
struct Level {
    /// Used units within the current capacity.
    used: u128,
    /// Used units that exceed the capacity since it was reduced. They do not block the smaller bucket, and they count again
    /// when the capacity grows, so that shrinking and growing refills nothing.
    set_aside: u128,
    at: Option<Instant>,
    share: Share,
}

/// A token bucket. Check and take are one step under a lock that is held for a few nanoseconds: level and time change
/// together and must stay valid when the rate changes, which does not fit into one atomic integer.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    level: Mutex<Level>,
}

impl Bucket {
    fn level(&self) -> MutexGuard<'_, Level> {
        self.level.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one token, or returns the time until there is one.
    fn take(&self, share: Share, now: Instant) -> Result<(), Duration> {
        let mut level = self.level();
        level.leak_until(now);
        level.adopt(share);
        let (token, capacity) = (share.token(), share.capacity());
        let filled = level.used + token;
        if filled <= capacity {
            level.used = filled;
            return Ok(());
        }
        Err(if capacity < token { LONGEST_PERIOD } else { share.time(filled - capacity) })
    }

    fn quota(&self, share: Share, now: Instant) -> Quota {
        let mut level = self.level();
        level.leak_until(now);
        level.adopt(share);
        let (token, capacity) = (share.token(), share.capacity());
        let seconds = |units: u128| units.div_ceil(u128::from(share.rate.max(1)) * 1_000_000_000);
        Quota {
            requests: capacity / token,
            window_s: seconds(capacity),
            remaining: capacity.saturating_sub(level.used) / token,
            reset_s: seconds(level.used),
        }
    }

    fn give_back(&self) {
        let mut level = self.level();
        let token = level.share.token();
        level.lower(token);
    }

    pub(super) fn removable(&self, now: Instant) -> bool {
        let level = self.level();
        let idle = level.idle(now);
        level.at.is_none() || idle >= REMOVE_AFTER || level.used + level.set_aside <= level.share.leaks(idle)
    }
}

impl Level {
    fn idle(&self, now: Instant) -> Duration {
        self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at))
    }

    /// Applies the leak until `now`, at the current rate.
    fn leak_until(&mut self, now: Instant) {
        self.lower(self.share.leaks(self.idle(now)));
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
    }

    /// Units above the capacity leak after those within it.
    fn lower(&mut self, by: u128) {
        let rest = by.saturating_sub(self.used);
        self.used = self.used.saturating_sub(by);
        self.set_aside = self.set_aside.saturating_sub(rest);
    }

    /// Changes rate and burst. Units that no longer fit are set aside; a larger capacity takes them in again.
    fn adopt(&mut self, share: Share) {
        let before = std::mem::replace(&mut self.share, share);
        if before == share {
            return;
        }
        let (old, new) = (before.token(), share.token());
        // The sum is often a whole number of tokens, which stays exact after division.
        let total = rescaled(self.used + self.set_aside, old, new);
        self.used = rescaled(self.used, old, new).min(total);
        self.set_aside = total - self.used;
        let scaled = rescaled(before.capacity(), old, new);
        let capacity = share.capacity();
        if capacity < scaled {
            let moved = self.used.saturating_sub(capacity);
            self.used -= moved;
            self.set_aside += moved;
        } else {
            let moved = self.set_aside.min(capacity - scaled);
            self.used += moved;
            self.set_aside -= moved;
        }
    }
}

/// A bucket with its current rate and burst.
#[derive(Clone, Debug)]
pub(crate) struct Limit {
    /// Shared by all configurations that reference it.
    pub(crate) bucket: Arc<Bucket>,
    /// For the whole fleet.
    pub(crate) throttle: Throttle,
}

/// A limit as clients see it: that of this proxy.
#[derive(Debug)]
pub(super) struct Quota {
    /// How many requests a full bucket is sufficient for.
    pub(super) requests: u128,
    /// The time in which an empty bucket becomes full.
    pub(super) window_s: u128,
    /// How many requests the bucket is sufficient for now.
    pub(super) remaining: u128,
    /// The time in which it becomes full.
    pub(super) reset_s: u128,
}

impl Limit {
    pub(super) fn quota(&self, proxies: u32, now: Instant) -> Quota {
        self.bucket.quota(Share::new(self.throttle, proxies), now)
    }
}

/// A bucket was empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exhausted {
    /// Time until the next token.
    pub(crate) retry_after: Duration,
    /// Index of the limit that rejected the request.
    pub(crate) index: usize,
}

/// Gives back the tokens that [`take_all`] took.
pub(crate) fn give_back<'l>(limits: impl IntoIterator<Item = &'l Limit>) {
    limits.into_iter().for_each(|limit| limit.bucket.give_back());
}

/// Takes one token from each limit, or from none. `proxies` share each limit.
pub(crate) fn take_all<'c, 'l: 'c, C>(limits: C, proxies: u32, now: Instant) -> Result<(), Exhausted>
where
    C: IntoIterator<Item = &'c &'l Limit, IntoIter: Clone>,
{
    let limits = limits.into_iter();
    for (index, limit) in limits.clone().enumerate() {
        if let Err(retry_after) = limit.bucket.take(Share::new(limit.throttle, proxies), now) {
            give_back(limits.take(index).copied());
            return Err(Exhausted { retry_after, index });
        }
    }
    Ok(())
}
