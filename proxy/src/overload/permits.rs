//! A count of requests in flight with a maximum. Each worker thread keeps some permits in separate memory, so that requests on
//! different cores do not write to the same cache line; the maximum is exact.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Permits for the requests of the whole process.
pub(super) struct Permits {
    max: usize,
    /// A worker takes so many at once.
    batch: usize,
    /// In use, or in the memory of workers.
    free: AtomicUsize,
    workers: Box<[Local]>,
}

/// Permits of one worker that no request uses, in a cache line of their own.
#[repr(align(64))]
struct Local(AtomicUsize);

impl Permits {
    pub(super) fn new(max: usize, workers: usize) -> Self {
        let workers = workers.max(1);
        // What all workers keep is at most an eighth of the maximum, so that few permits are where they are not needed.
        let batch = (max / (workers * 16)).clamp(1, 64);
        let workers = (0..workers).map(|_| Local(AtomicUsize::new(0))).collect();
        Self { max, batch, free: AtomicUsize::new(max), workers }
    }

    fn local(&self, worker: usize) -> &AtomicUsize {
        &self.workers[worker.min(self.workers.len() - 1)].0
    }

    /// Takes one of the worker's own permits.
    #[inline]
    pub(super) fn take(&self, worker: usize) -> bool {
        subtract(self.local(worker), 1) == 1
    }

    /// Takes one permit, and some for later; false: all are in use.
    pub(super) fn refill(&self, worker: usize) -> bool {
        let taken = subtract(&self.free, self.batch);
        if taken > 1 {
            self.local(worker).fetch_add(taken - 1, Ordering::Relaxed);
        }
        taken > 0
    }

    /// Returns one permit.
    #[inline]
    pub(super) fn release(&self, worker: usize) {
        let local = self.local(worker);
        let keep = self.batch - 1;
        if local.fetch_add(1, Ordering::Relaxed) + 1 > 2 * keep {
            let surplus = subtract(local, keep + 1);
            self.free.fetch_add(surplus, Ordering::Relaxed);
        }
    }

    pub(super) fn max(&self) -> usize {
        self.max
    }

    pub(super) fn in_flight(&self) -> usize {
        let local: usize = self.workers.iter().map(|local| local.0.load(Ordering::Relaxed)).sum();
        self.max.saturating_sub(self.free.load(Ordering::Relaxed)).saturating_sub(local)
    }

    /// Whether a quarter of them is in use.
    pub(super) fn is_quarter(&self) -> bool {
        self.in_flight() >= self.max.div_ceil(4)
    }

    /// Whether half of them are in use.
    pub(super) fn is_half(&self) -> bool {
        self.in_flight() >= self.max.div_ceil(2)
    }

    /// Whether three quarters are in use.
    pub(super) fn is_high(&self) -> bool {
        self.in_flight() >= self.max - self.max / 4
    }
}

/// Subtracts at most `count`, and returns how many.
fn subtract(number: &AtomicUsize, count: usize) -> usize {
    let less = |value: usize| (value > 0).then(|| value.saturating_sub(count));
    number.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).map_or(0, |before| before.min(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_the_maximum_are_taken_and_each_can_be_used_by_any_worker() {
        for (max, workers) in [(1, 1), (1, 4), (3, 2), (100, 3), (10_000, 2)] {
            let permits = Permits::new(max, workers);
            let take = |worker| permits.take(worker) || permits.refill(worker);
            let alone = (0..max + 7).filter(|_| take(0)).count();
            assert_eq!((alone, permits.in_flight()), (max, max), "{max} {workers}");
            assert!(permits.is_high());
            (0..max).for_each(|_| permits.release(0));
            assert_eq!(permits.in_flight(), 0);
            // What worker 0 keeps is not there for the others, and is little.
            let other = (0..max + 7).filter(|_| take(workers - 1)).count();
            assert!(other >= max - max / 8, "{max} {workers}: {other}");
        }
    }

    #[test]
    fn threads_that_take_and_return_at_the_same_time_lose_and_gain_none() {
        let permits = Permits::new(64, 4);
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let permits = &permits;
                scope.spawn(move || {
                    for round in 0..20_000 {
                        let count = round % 5;
                        let taken = (0..count).filter(|_| permits.take(worker) || permits.refill(worker)).count();
                        assert!(permits.in_flight() <= 64);
                        (0..taken).for_each(|_| permits.release(worker));
                    }
                });
            }
        });
        assert_eq!(permits.in_flight(), 0);
        assert!((0..70).filter(|_| permits.take(0) || permits.refill(0)).count() > 48);
    }
}
