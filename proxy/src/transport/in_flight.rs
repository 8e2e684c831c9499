//! Requests in flight to one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts requests, up to a maximum.
#[derive(Clone, Debug)]
pub(crate) struct InFlight(Arc<Count>);

#[derive(Debug)]
struct Count {
    current: AtomicUsize,
    max: usize,
}

impl InFlight {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Count { current: AtomicUsize::new(0), max }))
    }

    /// Counts one more request until the returned value is dropped. None: the maximum is reached, or three quarters of it are,
    /// and the client of the request has more than its part. If the maximum was reached for other clients (`crowded`), those
    /// with more than their part get half of it only.
    pub(crate) fn enter(&self, crowded: impl FnOnce() -> bool, over_share: impl FnOnce() -> bool) -> Option<Entered> {
        let max = self.0.max;
        let before = self.0.current.fetch_add(1, Ordering::Relaxed);
        let entered = Entered(self.clone());
        let limiting = before >= max - max / 4 || (before >= max / 2 && crowded());
        let full = before >= max || (limiting && over_share());
        (!full).then_some(entered)
    }
}

/// A request that is counted.
#[derive(Debug)]
#[must_use]
pub(crate) struct Entered(InFlight);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.0.current.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_beyond_the_maximum_is_not_counted_and_one_that_ends_makes_room() {
        let in_flight = InFlight::new(2);
        let enter = || in_flight.enter(|| false, || false);
        let (one, two) = (enter(), enter());
        assert!(one.is_some() && two.is_some());
        for _ in 0..3 {
            assert!(enter().is_none());
        }
        drop(one);
        let three = enter();
        assert!(three.is_some() && enter().is_none());
        drop((two, three));
        assert_eq!(in_flight.0.current.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_last_quarter_is_for_clients_that_do_not_have_more_than_their_part() {
        let in_flight = InFlight::new(8);
        let mut all: Vec<Option<Entered>> = (0..8).map(|_| in_flight.enter(|| false, || true)).collect();
        assert_eq!(all.iter().flatten().count(), 6);
        all.extend((0..3).map(|_| in_flight.enter(|| true, || false)));
        assert_eq!(all.iter().flatten().count(), 8);
        drop(all);
        let all: Vec<Option<Entered>> = (0..8).map(|_| in_flight.enter(|| true, || true)).collect();
        assert_eq!(all.iter().flatten().count(), 4);
    }
}
