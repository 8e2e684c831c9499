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

    /// Counts one more request until the returned value is dropped. None: the maximum is reached, or `accept`, which is called
    /// when a quarter is in use, does not accept the request.
    pub(crate) fn enter(&self, accept: impl FnOnce(Fill) -> bool) -> Option<Entered> {
        let max = self.0.max;
        let before = self.0.current.fetch_add(1, Ordering::Relaxed);
        let entered = Entered(self.clone());
        let fill = match before {
            _ if before < max / 4 => return Some(entered),
            _ if before < max / 2 => Fill::Quarter,
            _ if before < max - max / 4 => Fill::Half,
            _ => Fill::High,
        };
        (accept(fill) && before < max).then_some(entered)
    }
}

/// How much of a maximum is in use, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fill {
    Quarter,
    Half,
    /// Three quarters.
    High,
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
        let enter = || in_flight.enter(|_| true);
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
    fn from_a_quarter_on_it_is_asked_whether_a_request_is_accepted() {
        for (max, most) in [(8, [2, 4, 6, 8]), (6, [1, 3, 5, 6]), (1, [0, 0, 1, 1])] {
            let levels = [None, Some(Fill::Quarter), Some(Fill::Half), Some(Fill::High)];
            for (level, most) in levels.into_iter().zip(most) {
                let in_flight = InFlight::new(max);
                let accept = |fill| level.is_some_and(|level| fill as u8 <= level as u8);
                let all: Vec<Option<Entered>> = (0..9).map(|_| in_flight.enter(accept)).collect();
                assert_eq!(all.iter().flatten().count(), most, "{max} {level:?}");
            }
        }
    }
}
