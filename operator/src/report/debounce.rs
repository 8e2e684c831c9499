//! Debounces the number of proxies in statuses: a fleet that grows by a hundred proxies must not cause a hundred patches of
//! each object. Other changes of a status are never delayed.

use std::time::Duration;

use tokio::time::Instant;

/// After a reported size, the next one is reported when the size was stable for this long. The time doubles with each
/// report, until the size was stable for [`LIMIT`].
const STABLE: Duration = Duration::from_secs(10);
/// A changed size is reported after this long at the latest.
const LIMIT: Duration = Duration::from_secs(300);

/// The debounced size of one fleet.
#[derive(Debug)]
pub(crate) struct Debounce {
    size: usize,
    stable: Duration,
    /// When a size was last reported.
    reported: Option<Instant>,
    /// Since when a size waits to be reported.
    pending: Option<Instant>,
    /// When the size last changed.
    changed: Instant,
}

impl Debounce {
    pub(crate) fn new() -> Self {
        Self { size: 0, stable: STABLE, reported: None, pending: None, changed: Instant::now() }
    }

    /// Sets the current number of proxies.
    pub(crate) fn count(&mut self, size: usize) {
        let now = Instant::now();
        if size != self.size {
            if self.pending.is_none() && now.duration_since(self.changed) >= LIMIT {
                self.stable = STABLE;
            }
            (self.size, self.changed) = (size, now);
            self.pending.get_or_insert(now);
        }
    }

    /// When the size may be reported. None: at any time.
    pub(crate) fn due(&self) -> Option<Instant> {
        let pending = self.pending?;
        let fresh = self.reported.is_none_or(|reported| pending >= reported + self.stable);
        Some(if fresh { pending } else { (self.changed + self.stable).min(pending + LIMIT) })
    }

    /// Whether the size may be reported now.
    pub(crate) fn is_open(&self) -> bool {
        self.due().is_none_or(|due| due <= Instant::now())
    }

    /// Each object now has the size in its status.
    pub(crate) fn reported(&mut self) {
        if self.is_open() && self.pending.take().is_some() {
            if self.reported.is_some() {
                self.stable = (self.stable * 2).min(LIMIT);
            }
            self.reported = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a size is reported while a hundred proxies connect, one every `every` seconds, and the final size.
    async fn growth(every: u64) -> (usize, usize) {
        let mut debounce = Debounce::new();
        let (mut reports, mut last) = (0, 0);
        for second in 0..(100 * every + 400) {
            let size = usize::try_from(second / every).unwrap_or_default().min(99) + 1;
            debounce.count(size);
            if debounce.is_open() {
                reports += usize::from(size != last);
                last = size;
                debounce.reported();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        (reports, last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_grows_by_a_hundred_is_reported_a_few_times_and_finally_correct() {
        assert_eq!(growth(2).await, (2, 100));
        let (reports, last) = growth(15).await;
        assert!(reports <= 8 && last == 100, "{reports} reports, final size {last}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_change_of_a_stable_fleet_is_reported_at_once() {
        let mut debounce = Debounce::new();
        for size in [2, 3, 2] {
            debounce.count(size);
            assert!(debounce.is_open(), "{size}");
            debounce.reported();
            tokio::time::advance(LIMIT).await;
        }
    }
}
