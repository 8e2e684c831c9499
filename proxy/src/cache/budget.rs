//! The memory budget of a stage for copies of responses that are still arriving.

use std::sync::atomic::{AtomicU64, Ordering};

use super::stored::MAX_BODY_BYTES;

/// Bytes that the copies of a stage may take together.
#[derive(Debug, Default)]
pub(super) struct Budget {
    taken: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    /// A quarter of the stage's bytes, and at least what one response needs.
    pub(super) fn set(&self, max_bytes: u64) {
        let limit = (max_bytes / 4).max(max_bytes.min(MAX_BODY_BYTES as u64));
        self.limit.store(limit, Ordering::Relaxed);
    }

    pub(super) fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    pub(super) fn give_back(&self, bytes: u64) {
        self.taken.fetch_sub(bytes, Ordering::Relaxed);
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}
