//! Counters and histograms on the request path: plain numbers in memory, one set for each worker thread, so that two cores
//! never write to the same cache line. They are added up when metrics are scraped. `metrics` defines their names.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus::proto;
use smallvec::SmallVec;

/// Upper bounds of the buckets, in microseconds. One more bucket has no bound.
const BOUNDS_US: [u64; 12] =
    [1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 30_000_000];

/// One `T` for each worker thread, created when the thread first uses it.
pub(crate) struct PerWorker<T> {
    /// Inline for few workers: one memory access less.
    all: SmallVec<[OnceLock<Box<T>>; 4]>,
}

impl<T: Default> PerWorker<T> {
    pub(crate) fn new(workers: usize) -> Self {
        Self { all: (0..workers.max(1)).map(|_| OnceLock::new()).collect() }
    }

    /// The value of a thread.
    pub(crate) fn of(&self, worker: usize) -> &T {
        let at = worker.min(self.all.len() - 1);
        self.all[at].get_or_init(Box::default)
    }

    fn iter(&self) -> impl Iterator<Item = &T> {
        self.all.iter().filter_map(OnceLock::get).map(|one| &**one)
    }

    /// The sum over all threads.
    pub(crate) fn sum(&self, number: impl Fn(&T) -> &AtomicU64) -> u64 {
        self.iter().map(|one| number(one).load(Ordering::Relaxed)).sum()
    }

    /// The histogram over all threads. None: nothing was observed.
    pub(crate) fn histogram(&self, which: impl Fn(&T) -> &Histogram) -> Option<proto::Histogram> {
        let (mut below, mut micros) = (0, 0_u64);
        let mut buckets = Vec::with_capacity(BOUNDS_US.len());
        let bounds = BOUNDS_US.iter().map(|bound| micros_to_seconds(*bound)).chain([f64::INFINITY]);
        for (at, bound) in bounds.enumerate() {
            below += self.iter().map(|one| which(one).buckets[at].load(Ordering::Relaxed)).sum::<u64>();
            if bound.is_finite() {
                let mut bucket = proto::Bucket::default();
                bucket.set_upper_bound(bound);
                bucket.set_cumulative_count(below);
                buckets.push(bucket);
            }
        }
        for one in self.iter() {
            micros += which(one).micros.load(Ordering::Relaxed);
        }
        let mut histogram = proto::Histogram::default();
        histogram.set_sample_count(below);
        histogram.set_sample_sum(micros_to_seconds(micros));
        histogram.set_bucket(buckets);
        (below > 0).then_some(histogram)
    }
}

#[allow(clippy::cast_precision_loss, reason = "285 years of microseconds are exact")]
fn micros_to_seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}

/// Increments a counter.
pub(crate) fn count(number: &AtomicU64) {
    number.fetch_add(1, Ordering::Relaxed);
}

/// A histogram of durations. The sum is next to the buckets of fast responses: most requests write to one cache line, which
/// matters if each request has another route than the last.
#[derive(Default)]
#[repr(C)]
pub(crate) struct Histogram {
    micros: AtomicU64,
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
}

impl Histogram {
    pub(crate) fn observe(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        // Most responses are fast: search from the smallest bucket.
        let at = BOUNDS_US.iter().position(|bound| micros <= *bound).unwrap_or(BOUNDS_US.len());
        count(&self.buckets[at]);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn observations_of_all_threads_are_added_up_in_cumulative_buckets() {
        let counters: PerWorker<Histogram> = PerWorker::new(2);
        assert!(counters.histogram(|one| one).is_none());
        for (worker, micros) in [(0, 1_000), (1, 1_001), (1, 40_000_000), (7, 2_500)] {
            counters.of(worker).observe(Duration::from_micros(micros));
        }
        let seen = counters.histogram(|one| one).unwrap();
        let counts: Vec<u64> = seen.get_bucket().iter().map(proto::Bucket::cumulative_count).collect();
        assert_eq!(counts, [1, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        assert_eq!((seen.get_sample_count(), seen.get_bucket()[0].upper_bound()), (4, 0.001));
        assert!((seen.get_sample_sum() - 40.004_501).abs() < 1e-9);
    }
}
