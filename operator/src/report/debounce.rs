//! When statuses may say how many proxies there are: a fleet that grows by a hundred must not cost every object a hundred
//! patches. What else statuses say is never held back.

use std::time::Duration;

use tokio::time::Instant;

/// So long a fleet must have kept its size, after a size that was said a moment ago; with every size that is said before
/// there was calm it is twice as long.
const QUIET: Duration = Duration::from_secs(10);
/// A fleet that never rests is counted after so long all the same.
const LIMIT: Duration = Duration::from_secs(300);

/// The pace of one fleet.
#[derive(Debug)]
pub(crate) struct Debounce {
    size: usize,
    quiet: Duration,
    /// When a size was said last.
    said: Option<Instant>,
    /// Since when a size waits to be said.
    waits: Option<Instant>,
    /// When the size changed last.
    moved: Instant,
}

impl Debounce {
    pub(crate) fn new() -> Self {
        Self { size: 0, quiet: QUIET, said: None, waits: None, moved: Instant::now() }
    }

    /// Takes over how many proxies there are.
    pub(crate) fn count(&mut self, size: usize) {
        let now = Instant::now();
        if size != self.size {
            if self.waits.is_none() && now.duration_since(self.moved) >= LIMIT {
                self.quiet = QUIET;
            }
            (self.size, self.moved) = (size, now);
            self.waits.get_or_insert(now);
        }
    }

    /// When the size may be said; none: whenever somebody wants to.
    pub(crate) fn due(&self) -> Option<Instant> {
        let waits = self.waits?;
        let fresh = self.said.is_none_or(|said| waits >= said + self.quiet);
        Some(if fresh { waits } else { (self.moved + self.quiet).min(waits + LIMIT) })
    }

    /// Whether the size may be said now.
    pub(crate) fn is_open(&self) -> bool {
        self.due().is_none_or(|due| due <= Instant::now())
    }

    /// Every object says the size.
    pub(crate) fn said(&mut self) {
        if self.is_open() && self.waits.take().is_some() {
            if self.said.is_some() {
                self.quiet = (self.quiet * 2).min(LIMIT);
            }
            self.said = Some(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How often a size is said while a hundred proxies arrive, one every so many seconds, and the size in the end.
    async fn growth(every: u64) -> (usize, usize) {
        let mut pace = Debounce::new();
        let (mut said, mut last) = (0, 0);
        for second in 0..(100 * every + 400) {
            let size = usize::try_from(second / every).unwrap_or_default().min(99) + 1;
            pace.count(size);
            if pace.is_open() {
                said += usize::from(size != last);
                last = size;
                pace.said();
            }
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        (said, last)
    }

    #[tokio::test(start_paused = true)]
    async fn a_fleet_that_grows_by_a_hundred_is_counted_a_few_times_and_right_in_the_end() {
        assert_eq!(growth(2).await, (2, 100));
        let (said, last) = growth(15).await;
        assert!(said <= 8 && last == 100, "{said} times, {last} in the end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_single_change_after_some_calm_is_said_at_once() {
        let mut pace = Debounce::new();
        for size in [2, 3, 2] {
            pace.count(size);
            assert!(pace.is_open(), "{size}");
            pace.said();
            tokio::time::advance(LIMIT).await;
        }
    }
}
