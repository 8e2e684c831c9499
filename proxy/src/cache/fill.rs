//! The copy of an answer that is made while the answer passes: bounded for itself, and together with all others of its
//! stage. What becomes of a whole one is `flight`'s.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::{Cache, Head, Lead, MAX_BODY_BYTES};

/// What all copies of a stage may take together.
#[derive(Debug, Default)]
pub(super) struct Budget {
    taken: AtomicU64,
    limit: AtomicU64,
}

impl Budget {
    /// A quarter of the stage's bytes, and as much as one answer needs in any case.
    pub(super) fn set(&self, max_bytes: u64) {
        let limit = (max_bytes / 4).max(max_bytes.min(MAX_BODY_BYTES as u64));
        self.limit.store(limit, Ordering::Relaxed);
    }

    fn take(&self, bytes: u64) -> bool {
        let limit = self.limit.load(Ordering::Relaxed);
        let more = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

/// A part of the budget, given back when it is dropped.
struct Room {
    cache: Arc<Cache>,
    bytes: u64,
}

impl Room {
    fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let fits = self.cache.budget.take(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.cache.budget.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An answer that will be kept once it is whole. Dropped before that, it lets those who wait go on.
pub(crate) struct Keep {
    lead: Lead,
    head: Head,
    body: Vec<u8>,
    room: Room,
}

impl Keep {
    /// Begins a copy; `length` where it is known. None: there is no room for it, and nobody waits for it any more.
    pub(crate) fn begin(lead: Lead, head: Head, length: Option<u64>, now: Instant) -> Option<Self> {
        let room = Room { cache: Arc::clone(&lead.cache), bytes: 0 };
        let mut keep = Self { lead, head, body: Vec::new(), room };
        let length = usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX);
        if length > MAX_BODY_BYTES || !keep.reserve(length) {
            keep.give_up();
            return None;
        }
        keep.lead.arriving(now);
        Some(keep)
    }

    /// Adds a piece; false: it has become too long.
    pub(crate) fn add(&mut self, data: &[u8]) -> bool {
        let needed = self.body.len() + data.len();
        if needed > MAX_BODY_BYTES {
            return false;
        }
        if needed > self.body.capacity() && !self.reserve(needed.max(2 * self.body.len()).min(MAX_BODY_BYTES)) {
            return false;
        }
        self.body.extend_from_slice(data);
        true
    }

    fn reserve(&mut self, capacity: usize) -> bool {
        let fits = self.room.grow(capacity - self.body.capacity());
        if fits {
            self.body.reserve_exact(capacity - self.body.len());
        }
        fits
    }

    /// For a while requests for this answer do not wait for each other.
    pub(crate) fn give_up(self) {
        self.lead.pass(Instant::now());
    }

    /// The answer is whole.
    pub(crate) fn finish(self) {
        self.lead.keep(self.head, self.body.into_boxed_slice());
    }
}
