//! Memory for request bodies that are buffered, for the whole proxy together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::IntGauge;

/// Bytes that all buffered bodies may take together.
pub(crate) struct MemoryBudget {
    taken: AtomicU64,
    limit: u64,
    gauge: IntGauge,
}

impl MemoryBudget {
    /// A budget of `limit` bytes; `gauge` shows how many are reserved.
    pub(crate) fn new(limit: u64, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { taken: AtomicU64::new(0), limit, gauge })
    }

    /// Reserves memory until the reservation is dropped. None: the budget is exhausted.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), bytes: 0 };
        reservation.grow(bytes).then_some(reservation)
    }
}

/// A part of the budget, released when it is dropped.
#[must_use]
pub(crate) struct Reservation {
    budget: Arc<MemoryBudget>,
    bytes: u64,
}

impl Reservation {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

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
