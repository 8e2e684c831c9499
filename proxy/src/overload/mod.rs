//! What the process takes on: requests in flight, memory, file descriptors. Decides whether a request is served or rejected
//! because of the load of the whole process. Which connections are closed to reduce the load is decided in `listen`.

mod limits;
mod memory;
mod permits;

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use tokio::sync::Notify;

pub use limits::Limits;
pub(crate) use limits::{MEMORY_CRITICAL, Resolved};
pub(crate) use memory::Memory;
use permits::Permits;

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shed {
    /// Memory is almost exhausted.
    Memory,
    /// Too many requests are in flight, or there are many and this client has more than its part.
    Requests,
}

/// Many requests are in flight: connections and sources with many of them get no more.
const BUSY: u8 = 1;
/// The same because of memory.
const MEMORY_HIGH: u8 = 2;
/// Memory is almost exhausted: no request is accepted.
const MEMORY_FULL: u8 = 4;
/// The proxy is stopping.
const DRAINING: u8 = 8;
/// Requests to an upstream were rejected because it has as many as it may have.
const UPSTREAM_FULL: u8 = 16;
/// Clients that have no more than their part were rejected: those that have get less.
const CROWDED: u8 = 32;
/// Several clients have requests in flight: what one of them takes is missing for others.
const SHARED: u8 = 64;
/// Many clients have requests in flight.
const MANY: u8 = 128;
/// Clients that are many, at least, and the part of the limit of requests for each of them.
const MANY_CLIENTS: usize = 16;
const MANY_PART: usize = 32;
/// How long clients are measured after a quarter of a limit was in use, in tenths of a second.
const WATCHED_FOR: u32 = 10;
/// How long an upstream counts as full after the last such request, in tenths of a second.
const FULL_FOR: u32 = 50;
/// The same for clients that have taken what others need. Longer: slow requests that were aborted are repeated at once.
const CROWDED_FOR: u32 = 300;

/// The load of the process. Read by each request.
pub(crate) struct Load {
    state: AtomicU8,
    /// Tenths of a second, as of the last round of the task that watches the load: a clock that costs one load to read.
    clock: AtomicU32,
    /// When an upstream had too many requests the last time.
    full_at: AtomicU32,
    /// When a client with no more than its part was rejected the last time.
    crowded_at: AtomicU32,
    /// When a quarter of a limit was in use the last time.
    watched_at: AtomicU32,
    /// When it was in use the first time after a pause.
    rose_at: AtomicU32,
    permits: Permits,
    /// Notified when the load is to be watched, and when many requests are in flight.
    pub(crate) pressed: Notify,
}

impl Load {
    /// For `requests` in flight on a number of worker threads.
    pub(crate) fn new(requests: usize, workers: usize) -> Self {
        Self {
            state: AtomicU8::new(0),
            clock: AtomicU32::new(0),
            full_at: AtomicU32::new(0),
            crowded_at: AtomicU32::new(0),
            watched_at: AtomicU32::new(u32::MAX - WATCHED_FOR),
            rose_at: AtomicU32::new(u32::MAX - WATCHED_FOR),
            permits: Permits::new(requests, workers),
            pressed: Notify::new(),
        }
    }

    /// Counts a request that `worker` begins to serve. `over_share` is asked only under pressure: whether the client has
    /// more requests in flight than its part, given whether little of the limit is left.
    #[inline]
    pub(crate) fn admit(&self, worker: usize, over_share: impl FnOnce(bool) -> bool) -> Result<(), Shed> {
        let state = self.state.load(Ordering::Relaxed);
        if state & MEMORY_FULL != 0 {
            return Err(Shed::Memory);
        }
        if state & (BUSY | MEMORY_HIGH) != 0 && over_share(self.permits.is_high()) {
            return Err(Shed::Requests);
        }
        if self.permits.take(worker) { Ok(()) } else { self.refill(worker) }
    }

    #[cold]
    fn refill(&self, worker: usize) -> Result<(), Shed> {
        let taken = self.permits.refill(worker);
        if self.permits.is_quarter() {
            self.watch();
            if self.is_busy() && self.set(BUSY, true) {
                self.pressed.notify_one();
            }
        }
        if taken {
            return Ok(());
        }
        self.crowd();
        Err(Shed::Requests)
    }

    /// A request that was counted has ended.
    #[inline]
    pub(crate) fn release(&self, worker: usize) {
        self.permits.release(worker);
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.permits.in_flight()
    }

    /// Requests that may be in flight.
    pub(crate) fn max_requests(&self) -> usize {
        self.permits.max()
    }

    /// The time in tenths of a second.
    #[inline]
    pub(crate) fn clock(&self) -> u32 {
        self.clock.load(Ordering::Relaxed)
    }

    fn since(&self, at: &AtomicU32) -> u32 {
        self.clock().wrapping_sub(at.load(Ordering::Relaxed))
    }

    /// Starts a round at a time in tenths of a second, with the part of the memory that is in use, in thousandths.
    pub(crate) fn round(&self, now: u32, memory: u64) {
        self.clock.store(now, Ordering::Relaxed);
        if self.permits.is_quarter() && self.is_watched() {
            self.watched_at.store(now, Ordering::Relaxed);
        }
        if self.since(&self.full_at) > FULL_FOR {
            self.set(UPSTREAM_FULL, false);
        }
        if self.since(&self.crowded_at) > CROWDED_FOR {
            self.set(CROWDED, false);
        }
        self.set(BUSY, self.is_busy());
        self.set(MEMORY_HIGH, memory >= limits::MEMORY_HIGH);
        self.set(MEMORY_FULL, memory >= limits::MEMORY_FULL);
    }

    /// A request was rejected because its upstream has too many; whether its client has more than its part.
    #[cold]
    pub(crate) fn upstream_is_full(&self, over_share: bool) {
        self.full_at.store(self.clock(), Ordering::Relaxed);
        self.set(UPSTREAM_FULL, true);
        if !over_share {
            self.crowd();
        }
    }

    fn crowd(&self) {
        if self.state.load(Ordering::Relaxed) & SHARED == 0 {
            return;
        }
        self.crowded_at.store(self.clock(), Ordering::Relaxed);
        self.set(CROWDED, true);
    }

    /// How many clients have requests in flight.
    pub(crate) fn set_clients(&self, count: usize) {
        self.set(SHARED, count > 1);
        self.set(MANY, (count > 1 && self.is_rising()) || count >= MANY_CLIENTS.max(self.max_requests() / MANY_PART));
    }

    /// A quarter of a limit is in use: clients are measured, at once if they were not before. Several count as many for a
    /// second: others may come a moment later.
    #[inline]
    pub(crate) fn watch(&self) {
        let (now, before) = (self.clock(), self.watched_at.load(Ordering::Relaxed));
        if now != before {
            self.watched_at.store(now, Ordering::Relaxed);
            if now.wrapping_sub(before) > WATCHED_FOR {
                self.rose_at.store(now, Ordering::Relaxed);
                self.set(MANY, true);
                self.pressed.notify_one();
            }
        }
    }

    /// Whether a quarter of a limit is in use since a moment ago.
    pub(crate) fn is_rising(&self) -> bool {
        self.since(&self.rose_at) <= WATCHED_FOR
    }

    /// Whether clients are measured.
    pub(crate) fn is_watched(&self) -> bool {
        self.since(&self.watched_at) <= WATCHED_FOR
    }

    /// Whether clients with many requests get half of a limit; otherwise three quarters.
    pub(crate) fn keeps_half(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (CROWDED | MANY) != 0
    }

    fn is_busy(&self) -> bool {
        self.permits.is_high() || (self.keeps_half() && self.permits.is_half())
    }

    /// Whether clients with many requests have taken what others need.
    #[cfg(test)]
    fn is_crowded(&self) -> bool {
        self.state.load(Ordering::Relaxed) & CROWDED != 0
    }

    /// Whether clients that do not make progress are disconnected earlier.
    #[inline]
    pub(crate) fn is_pressed(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (BUSY | MEMORY_HIGH | UPSTREAM_FULL | CROWDED) != 0
    }

    /// Whether clients with many requests get no more.
    pub(crate) fn is_limiting(&self) -> bool {
        self.state.load(Ordering::Relaxed) & (BUSY | MEMORY_HIGH) != 0
    }

    /// Whether memory is the reason.
    pub(crate) fn is_memory_high(&self) -> bool {
        self.state.load(Ordering::Relaxed) & MEMORY_HIGH != 0
    }

    /// Whether no request is accepted.
    pub(crate) fn is_memory_full(&self) -> bool {
        self.state.load(Ordering::Relaxed) & MEMORY_FULL != 0
    }

    /// From now on responses announce the end of their connections.
    pub(crate) fn set_draining(&self) {
        self.set(DRAINING, true);
    }

    /// Whether responses announce the end of their connections.
    #[inline]
    pub(crate) fn is_draining(&self) -> bool {
        self.state.load(Ordering::Relaxed) & DRAINING != 0
    }

    /// Whether this changed the flag from false to true.
    fn set(&self, flag: u8, on: bool) -> bool {
        if on {
            self.state.fetch_or(flag, Ordering::Relaxed) & flag == 0
        } else {
            self.state.fetch_and(!flag, Ordering::Relaxed);
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_with_many_requests_get_half_while_there_are_many_clients_or_it_is_not_known() {
        let load = Load::new(64, 8); // each worker takes one permit at a time
        let admit = |count: usize, over: bool| (0..count).filter(|_| load.admit(0, |_| over).is_ok()).count();
        assert_eq!(admit(15, true), 15);
        assert!(!load.is_watched() && !load.keeps_half());
        // The pause between two measurements may have just begun.
        assert_eq!(admit(30, true), 32 - 15);
        assert!(load.is_watched() && load.keeps_half());
        load.set_clients(2);
        assert!(load.keeps_half(), "others may come");
        load.set_clients(1);
        assert!(!load.keeps_half());
        load.round(WATCHED_FOR, 0);
        load.round(WATCHED_FOR + 1, 0);
        load.set_clients(MANY_CLIENTS - 1);
        load.round(WATCHED_FOR + 1, 0);
        assert!(load.is_watched() && !load.keeps_half());
        assert_eq!(admit(30, true), 16);
        load.set_clients(MANY_CLIENTS);
        assert!(load.keeps_half());
        assert_eq!(admit(30, false), 16);
        (0..64).for_each(|_| load.release(0));
        load.round(WATCHED_FOR + 2, 0);
        assert!(load.is_watched(), "a moment ago");
        load.set_clients(1);
        load.round(WATCHED_FOR + 3 + CROWDED_FOR, 0);
        assert!(!load.is_watched() && !load.keeps_half());
    }

    #[test]
    fn under_pressure_a_client_with_its_part_gets_no_more_and_with_full_memory_nobody_does() {
        let load = Load::new(8, 1);
        for count in 0..6 {
            assert_eq!(load.admit(0, |_| true), Ok(()), "{count}");
            load.set_clients(1);
        }
        assert!(load.is_pressed());
        assert_eq!(load.admit(0, |_| true), Err(Shed::Requests));
        assert_eq!(load.admit(0, |_| false), Ok(()));
        assert_eq!(load.admit(0, |_| false), Ok(()));
        // With one client there is no other to keep requests for.
        assert_eq!(load.admit(0, |_| false), Err(Shed::Requests));
        assert!(!load.is_crowded());
        load.set_clients(2);
        assert_eq!(load.admit(0, |_| false), Err(Shed::Requests));
        assert_eq!(load.in_flight(), 8);
        for _ in 0..4 {
            load.release(0);
        }
        // Clients with their part were rejected: those with more get half for a while.
        load.round(0, 0);
        assert!(load.is_crowded());
        assert_eq!(load.admit(0, |_| true), Err(Shed::Requests));
        load.release(0);
        load.round(0, 0);
        assert_eq!(load.admit(0, |_| true), Ok(()));
        for _ in 0..4 {
            load.release(0);
        }
        load.round(CROWDED_FOR, 0);
        assert!(load.is_crowded());
        load.round(CROWDED_FOR + 1, 0);
        assert!(!load.is_pressed());
        assert_eq!(load.admit(0, |_| true), Ok(()));
        load.round(1000, limits::MEMORY_HIGH);
        assert_eq!(load.admit(0, |_| true), Err(Shed::Requests));
        load.round(1000, limits::MEMORY_FULL);
        assert_eq!(load.admit(0, |_| false), Err(Shed::Memory));
        load.round(1000, 0);
        // An upstream that is full does not affect requests to others, and slow clients for a while.
        load.upstream_is_full(true);
        assert!(load.is_pressed() && !load.is_limiting() && !load.is_crowded());
        load.round(1000 + FULL_FOR, 0);
        assert!(load.is_pressed());
        load.round(1001 + FULL_FOR, 0);
        assert!(!load.is_pressed());
        assert_eq!(load.admit(0, |_| true), Ok(()));
        assert_eq!(load.in_flight(), 2);
    }
}
