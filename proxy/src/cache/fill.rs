//! Copies a response while it is sent to the client: each copy has a maximum size, and all copies of a stage
//! share a budget.

use std::sync::Arc;
use std::time::Instant;

use super::fetch::Lead;
use super::store::Cache;
use super::stored::{Head, MAX_BODY_BYTES};

/// A part of the budget, given back when it is dropped.
struct CacheReservation {
    cache: Arc<Cache>,
    bytes: u64,
}

impl CacheReservation {
    fn grow(&mut self, bytes: usize) -> bool {
        let bytes = bytes as u64;
        let fits = self.cache.budget.take(bytes);
        if fits {
            self.bytes += bytes;
        }
        fits
    }
}

impl Drop for CacheReservation {
    fn drop(&mut self) {
        self.cache.budget.give_back(self.bytes);
    }
}

/// A response that is stored once it is complete. Dropped before that, it lets another request fetch it.
pub(crate) struct Fill {
    lead: Lead,
    head: Head,
    body: Vec<u8>,
    reservation: CacheReservation,
}

impl Fill {
    /// Begins a copy; `length` where it is known. None: the budget is exhausted, and no request waits for it any more.
    pub(crate) fn begin(lead: Lead, head: Head, length: Option<u64>, now: Instant) -> Option<Self> {
        let reservation = CacheReservation { cache: Arc::clone(&lead.cache), bytes: 0 };
        let mut fill = Self { lead, head, body: Vec::new(), reservation };
        let length = usize::try_from(length.unwrap_or(0)).unwrap_or(usize::MAX);
        if length > MAX_BODY_BYTES || !fill.reserve(length) {
            fill.give_up();
            return None;
        }
        fill.lead.arriving(now);
        Some(fill)
    }

    /// Adds bytes; false: the body is too long, or the budget is exhausted.
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
        let fits = self.reservation.grow(capacity - self.body.capacity());
        if fits {
            self.body.reserve_exact(capacity - self.body.len());
        }
        fits
    }

    /// Stops copying: for a while, requests for this response are not coalesced.
    pub(crate) fn give_up(self) {
        self.lead.pass(Instant::now());
    }

    /// The response is complete.
    pub(crate) fn finish(self) {
        self.lead.keep(self.head, self.body.into_boxed_slice());
    }
}
