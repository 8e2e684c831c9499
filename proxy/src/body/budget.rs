//! Memory for request bodies that are buffered, for the whole proxy together. When it is in use, a body that arrives slowly, or
//! that comes from an address with many, gives its memory to another one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures::task::AtomicWaker;
use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A body that has been arriving for longer than this may lose its memory to another one.
const SLOW: Duration = Duration::from_secs(5);
/// How long a body waits for the memory of another one.
const WAIT: Duration = Duration::from_secs(1);

/// Bytes that all buffered bodies may take together.
pub(crate) struct MemoryBudget {
    taken: AtomicU64,
    limit: u64,
    gauge: IntGauge,
    /// Bodies that are arriving.
    arriving: Mutex<Arrivals>,
    released: Notify,
}

#[derive(Default)]
struct Arrivals {
    next: u64,
    all: HashMap<u64, Arc<Arrival>>,
}

/// A body that is arriving.
struct Arrival {
    /// Where its client is.
    source: u128,
    began: Instant,
    bytes: AtomicU64,
    displaced: AtomicBool,
    waker: AtomicWaker,
}

impl MemoryBudget {
    /// A budget of `limit` bytes; `gauge` shows how many are reserved.
    pub(crate) fn new(limit: u64, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { taken: AtomicU64::new(0), limit, gauge, arriving: Mutex::default(), released: Notify::new() })
    }

    /// Reserves memory until the reservation is dropped. None: the budget is exhausted.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }

    fn arriving(&self) -> MutexGuard<'_, Arrivals> {
        // Poisoned only by a panic between statements that cannot panic.
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the memory of one body for another one of `source`: of the source that has the most memory, the body that began
    /// first. It must be slow, or its source must have more than twice what the other one's would have with `bytes` more.
    /// False: there is none.
    fn displace(&self, own: u64, source: u128, bytes: u64) -> bool {
        let arrivals = self.arriving();
        let mut by_source: HashMap<u128, u64> = HashMap::new();
        for arrival in arrivals.all.values().filter(|arrival| !arrival.is_displaced()) {
            *by_source.entry(arrival.source).or_default() += arrival.bytes.load(Ordering::Relaxed);
        }
        let of = |source| by_source.get(&source).copied().unwrap_or(0);
        let after = of(source).saturating_add(bytes);
        let now = Instant::now();
        let may_lose = |arrival: &Arrival| {
            !arrival.is_displaced()
                && arrival.bytes.load(Ordering::Relaxed) > 0
                && (now - arrival.began >= SLOW || of(arrival.source) / 2 > after)
        };
        let others = arrivals.all.iter().filter(|(number, arrival)| **number != own && may_lose(arrival));
        let Some((_, found)) = others.min_by_key(|(number, arrival)| (u64::MAX - of(arrival.source), **number)) else {
            return false;
        };
        found.displaced.store(true, Ordering::Relaxed);
        found.waker.wake();
        true
    }
}

impl Arrival {
    fn is_displaced(&self) -> bool {
        self.displaced.load(Ordering::Relaxed)
    }
}

/// A reservation of a body that is arriving.
#[must_use]
pub(super) struct Arriving {
    reservation: Reservation,
    listed: Listed,
}

/// A body that others can displace, until this is dropped.
struct Listed {
    budget: Arc<MemoryBudget>,
    number: u64,
    arrival: Arc<Arrival>,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.budget.arriving().all.remove(&self.number);
    }
}

impl Arriving {
    pub(super) fn new(reservation: Reservation, source: u128) -> Self {
        let arrival = Arc::new(Arrival {
            source,
            began: Instant::now(),
            bytes: AtomicU64::new(reservation.bytes),
            displaced: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        });
        let mut arrivals = reservation.budget.arriving();
        let number = arrivals.next;
        arrivals.next += 1;
        arrivals.all.insert(number, arrival.clone());
        drop(arrivals);
        let listed = Listed { budget: reservation.budget.clone(), number, arrival };
        Self { reservation, listed }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.reservation.bytes
    }

    /// Ready: another body gets the memory.
    pub(super) fn poll_displaced(&self, cx: &Context<'_>) -> Poll<()> {
        self.listed.arrival.waker.register(cx.waker());
        if self.listed.arrival.is_displaced() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Reserves more, if necessary with the memory of other bodies; false: that is not possible.
    pub(super) async fn grow(&mut self, bytes: u64) -> bool {
        let until = Instant::now() + WAIT;
        let Listed { budget, number, arrival } = &self.listed;
        loop {
            // Before the attempt, so that no release is missed.
            let released = budget.released.notified();
            if self.reservation.grow(bytes) {
                arrival.bytes.store(self.reservation.bytes, Ordering::Relaxed);
                return true;
            }
            let waits = !arrival.is_displaced() && budget.displace(*number, arrival.source, bytes);
            if !waits || tokio::time::timeout_at(until, released).await.is_err() {
                return false;
            }
        }
    }

    /// The body has arrived.
    pub(super) fn arrived(self) -> Reservation {
        self.reservation
    }
}

/// A part of the budget, released when it is dropped.
#[must_use]
pub(crate) struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Reservation {
    /// Reserves more; false: the budget is exhausted, and the reservation is as before.
    pub(super) fn grow(&mut self, bytes: u64) -> bool {
        let limit = self.budget.limit;
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= limit);
        let fits = self.budget.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok();
        if fits {
            self.bytes += bytes;
            self.budget.gauge.add(signed(bytes));
        }
        fits
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
        self.budget.gauge.sub(signed(self.bytes));
        self.budget.released.notify_waiters();
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reserved_never_exceeds_the_limit_and_is_released_on_drop() {
        let gauge = IntGauge::new("bytes", "Bytes.").unwrap();
        let budget = MemoryBudget::new(10, gauge.clone());
        let mut one = budget.reserve(4).unwrap();
        let two = budget.reserve(6).unwrap();
        assert!(budget.reserve(1).is_none() && !one.grow(1));
        assert_eq!(gauge.get(), 10);
        drop(two);
        assert!(one.grow(6) && !one.grow(u64::MAX));
        drop(one);
        assert_eq!((gauge.get(), budget.taken.load(Ordering::Relaxed)), (0, 0));
    }
}
