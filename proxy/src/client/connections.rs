//! The open client connections of the whole proxy: their number, their sources, and which of them are closed when there are too
//! many. A connection's own task closes it; it is notified here.

use std::collections::HashMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;
use prometheus::{IntCounter, IntGauge};

/// Requests that a connection may have in flight while the proxy is under pressure.
const PART_OF_CONNECTION: u32 = 8;
/// Requests that a source may begin under pressure between two measurements: many sources that come at the same moment are
/// measured before they have taken everything.
const GROWTH: u32 = 4;
/// How long a source that had more than its part counts as one that has, in tenths of a second: slow requests that were aborted
/// are repeated at once.
const OVER_SHARE_FOR: u32 = 300;

/// What a connection is to do. Several can be set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Orders(u8);

impl Orders {
    /// Announce the end of the connection and serve on: GOAWAY. HTTP/1.1 announces it in each response.
    pub(crate) const ANNOUNCE: Self = Self(1);
    /// End when no request is in progress.
    pub(crate) const CLOSE: Self = Self(2);
    /// End.
    pub(crate) const ABORT: Self = Self(4);
    /// Changes each time that clients without progress are to be looked for.
    const CHECK: Self = Self(8);

    pub(crate) fn contain(self, order: Self) -> bool {
        self.0 & order.0 != 0
    }
}

/// Metrics of connections.
#[derive(Clone)]
pub(crate) struct ConnectionMetrics {
    /// Open connections.
    pub(crate) open: IntGauge,
    /// Closed because there were too many.
    pub(crate) rejected: IntCounter,
    /// Idle ones that were closed for others.
    pub(crate) evicted: IntCounter,
    /// With requests, closed because memory was almost exhausted.
    pub(crate) aborted: IntCounter,
}

/// The open connections of the whole proxy.
pub(crate) struct Connections {
    table: Mutex<Table>,
    max: usize,
    per_source: usize,
    metrics: ConnectionMetrics,
}

#[derive(Default)]
struct Table {
    /// By a number that is larger for later connections.
    open: HashMap<u64, Arc<Connection>>,
    sources: HashMap<u128, Arc<Source>>,
    next: u64,
    /// Counted connections; those that were evicted are not counted while they close.
    counted: usize,
    /// Of new connections.
    orders: u8,
}

/// An address that connections come from.
struct Source {
    key: u128,
    connections: AtomicU32,
    /// Requests in progress.
    active: AtomicU32,
    /// Requests that it may have under pressure until the next measurement.
    part: AtomicU32,
    /// It has more than its part of the requests in flight, or had a moment ago.
    over_share: AtomicBool,
    /// When it had the last time.
    over_share_at: AtomicU32,
}

/// One connection, as others see it.
pub(crate) struct Connection {
    source: Arc<Source>,
    /// Requests in progress.
    active: AtomicU32,
    /// When it was last used.
    since: AtomicU32,
    evicted: AtomicBool,
    orders: AtomicU8,
    waker: AtomicWaker,
}

impl Connection {
    /// A request begins.
    #[inline]
    pub(crate) fn request_began(&self) {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.source.active.fetch_add(1, Ordering::Relaxed);
    }

    /// A request has ended, at `clock`.
    #[inline]
    pub(crate) fn request_ended(&self, clock: u32) {
        self.since.store(clock, Ordering::Relaxed);
        self.active.fetch_sub(1, Ordering::Relaxed);
        self.source.active.fetch_sub(1, Ordering::Relaxed);
    }

    /// Requests in progress.
    pub(crate) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Where the client is: an address, or a network of IPv6 addresses.
    pub(crate) fn source(&self) -> u128 {
        self.source.key
    }

    /// Whether this client has as many requests in progress as it may have under pressure, or its source has more, or had a
    /// moment ago. If little of a limit is left, that is for sources that have half of their part at most: otherwise a few
    /// sources with equal parts take the whole limit before others come.
    pub(crate) fn over_share(&self, little_is_left: bool) -> bool {
        let source = &self.source;
        let part = source.part.load(Ordering::Relaxed);
        let most = if little_is_left { part.min(GROWTH.max(part / 2)) } else { part };
        self.active() >= PART_OF_CONNECTION
            || source.over_share.load(Ordering::Relaxed)
            || source.active.load(Ordering::Relaxed) > most
    }

    /// What the connection is to do.
    #[inline]
    pub(crate) fn orders(&self) -> Orders {
        Orders(self.orders.load(Ordering::Relaxed))
    }

    /// Wakes this task once, when there are new orders. One task at a time.
    pub(crate) fn watch(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }

    /// Waits for one of these orders.
    pub(crate) async fn ordered(&self, one: Orders) {
        poll_fn(|cx| {
            self.watch(cx);
            if self.orders().contain(one) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether it gives its place to another one.
    pub(crate) fn is_evicted(&self) -> bool {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Lets an HTTP/2 client open another connection; this one serves on what it has sent.
    pub(crate) fn announce_end(&self) {
        self.order(Orders::ANNOUNCE.0);
    }

    fn order(&self, orders: u8) {
        self.orders.fetch_or(orders, Ordering::Relaxed);
        self.waker.wake();
    }
}

impl Connections {
    /// At most `max` connections, and `per_source` of one source.
    pub(crate) fn new(max: usize, per_source: usize, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), max, per_source, metrics })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Poisoned only by a panic between statements that cannot panic.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more connection, at `clock`. Where there are too many, of its source or of all, an idle one is closed. None:
    /// there is no idle one either.
    pub(crate) fn open(self: &Arc<Self>, address: IpAddr, clock: u32) -> Option<OpenConnection> {
        let key = sluice_daemon::source_of(address);
        let mut table = self.table();
        let of_source = table.sources.get(&key).map_or(0, |source| source.connections.load(Ordering::Relaxed));
        let evicted = if of_source as usize >= self.per_source {
            table.evict(1, |connection| connection.source.key == key)
        } else if table.counted >= self.max {
            // Several at once: looking for them costs more than closing them.
            table.evict((self.max / 128).max(1), |_| true)
        } else {
            Vec::new()
        };
        let full = evicted.is_empty() && (of_source as usize >= self.per_source || table.counted >= self.max);
        if full {
            drop(table);
            self.metrics.rejected.inc();
            return None;
        }
        let made = || Source {
            key,
            connections: AtomicU32::new(0),
            active: AtomicU32::new(0),
            part: AtomicU32::new(GROWTH),
            over_share: AtomicBool::new(false),
            over_share_at: AtomicU32::new(0),
        };
        let source = table.sources.entry(key).or_insert_with(|| Arc::new(made())).clone();
        source.connections.fetch_add(1, Ordering::Relaxed);
        table.counted += 1;
        let number = table.next;
        table.next += 1;
        let connection = Arc::new(Connection {
            source,
            active: AtomicU32::new(0),
            since: AtomicU32::new(clock),
            evicted: AtomicBool::new(false),
            orders: AtomicU8::new(table.orders),
            waker: AtomicWaker::new(),
        });
        table.open.insert(number, connection.clone());
        drop(table);
        self.metrics.open.inc();
        self.close(&evicted);
        Some(OpenConnection { all: self.clone(), number, connection })
    }

    /// A connection cannot be accepted: idle ones are closed for the next.
    pub(crate) fn reject(&self) {
        self.metrics.rejected.inc();
        self.evict_idle(64);
    }

    /// Closes idle connections: about one in `part`.
    pub(crate) fn evict_idle(&self, part: usize) {
        let mut table = self.table();
        let count = table.counted.div_ceil(part.max(1));
        let evicted = table.evict(count, |_| true);
        drop(table);
        self.close(&evicted);
    }

    fn close(&self, evicted: &[Arc<Connection>]) {
        self.metrics.evicted.inc_by(evicted.len() as u64);
        evicted.iter().for_each(|connection| connection.order(Orders::CLOSE.0));
    }

    /// Gives orders to all connections, also to those that are opened later.
    pub(crate) fn order(&self, orders: Orders) {
        let mut table = self.table();
        table.orders |= orders.0;
        let all: Vec<Arc<Connection>> = table.open.values().cloned().collect();
        drop(table);
        all.iter().for_each(|connection| connection.order(orders.0));
    }

    /// Lets connections with requests look for clients without progress now.
    pub(crate) fn check(&self) {
        let all: Vec<Arc<Connection>> = self.table().open.values().filter(|one| one.active() > 0).cloned().collect();
        for connection in all {
            connection.orders.fetch_xor(Orders::CHECK.0, Ordering::Relaxed);
            connection.waker.wake();
        }
    }

    /// Determines which sources have more requests in flight than the average, or more than `most`, at `clock`. Returns how
    /// many have requests in flight.
    pub(crate) fn measure(&self, most: usize, clock: u32) -> usize {
        let mut table = self.table();
        let active =
            table.sources.values().map(|source| source.active.load(Ordering::Relaxed)).filter(|count| *count > 0);
        let (sources, total) = active.fold((0, 0), |(sources, total), count| (sources + 1, total + u64::from(count)));
        let average = total.div_ceil(sources.max(1) as u64);
        let part = u32::try_from(average.clamp(1, most.max(1) as u64)).unwrap_or(u32::MAX);
        for source in table.sources.values() {
            let count = source.active.load(Ordering::Relaxed);
            source.part.store(part.min(count + GROWTH), Ordering::Relaxed);
            if count > part {
                source.over_share_at.store(clock, Ordering::Relaxed);
                source.over_share.store(true, Ordering::Relaxed);
            } else if clock.wrapping_sub(source.over_share_at.load(Ordering::Relaxed)) > OVER_SHARE_FOR {
                source.over_share.store(false, Ordering::Relaxed);
            }
        }
        // Sources without connections are known as long as they count as having more than their part.
        let is_known = |source: &Source| {
            source.connections.load(Ordering::Relaxed) > 0 || source.over_share.load(Ordering::Relaxed)
        };
        table.sources.retain(|_, source| is_known(source));
        sources
    }

    /// Closes the connections with the most requests in progress, of the sources with the most: a tenth of all requests.
    pub(crate) fn abort_largest(&self) {
        let table = self.table();
        let mut all: Vec<(u32, u32, u64, Arc<Connection>)> = Vec::new();
        for (number, connection) in &table.open {
            let active = connection.active();
            if active > 0 && !connection.orders().contain(Orders::ABORT) {
                let of_source = connection.source.active.load(Ordering::Relaxed);
                all.push((of_source, active, *number, connection.clone()));
            }
        }
        drop(table);
        let goal = all.iter().map(|(_, active, ..)| u64::from(*active)).sum::<u64>().div_ceil(10);
        // The oldest first where nothing else differs.
        all.sort_unstable_by_key(|(source, active, number, _)| (u32::MAX - source, u32::MAX - active, *number));
        let mut freed = 0;
        for (_, active, _, connection) in &all {
            if freed >= goal {
                break;
            }
            freed += u64::from(*active);
            self.metrics.aborted.inc();
            connection.order(Orders::ABORT.0);
        }
    }
}

impl Table {
    /// Takes idle connections out of the count: those that were not used for the longest time, of the sources with the most
    /// connections. A client that opens many closes its own.
    fn evict(&mut self, count: usize, which: impl Fn(&Connection) -> bool) -> Vec<Arc<Connection>> {
        let idle = |connection: &Connection| connection.active() == 0 && !connection.is_evicted();
        let mut found: Vec<(u32, u32, u64, &Arc<Connection>)> = Vec::new();
        for (number, connection) in &self.open {
            if idle(connection) && which(connection) {
                let of_source = connection.source.connections.load(Ordering::Relaxed);
                found.push((u32::MAX - of_source, connection.since.load(Ordering::Relaxed), *number, connection));
            }
        }
        let count = count.min(found.len());
        if count == 0 {
            return Vec::new();
        }
        let key = |(source, since, number, _): &(u32, u32, u64, &Arc<Connection>)| (*source, *since, *number);
        found.select_nth_unstable_by_key(count - 1, key);
        let evicted: Vec<Arc<Connection>> = found.iter().take(count).map(|(.., one)| (*one).clone()).collect();
        for connection in &evicted {
            connection.evicted.store(true, Ordering::Relaxed);
            self.uncount(connection);
        }
        evicted
    }

    fn uncount(&mut self, connection: &Connection) {
        self.counted -= 1;
        let last = connection.source.connections.fetch_sub(1, Ordering::Relaxed) == 1;
        if last && !connection.source.over_share.load(Ordering::Relaxed) {
            self.sources.remove(&connection.source.key);
        }
    }
}

/// One open connection; counted until it is dropped.
#[must_use]
pub(crate) struct OpenConnection {
    all: Arc<Connections>,
    number: u64,
    connection: Arc<Connection>,
}

impl std::ops::Deref for OpenConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.all.metrics.open.dec();
        let mut table = self.all.table();
        table.open.remove(&self.number);
        if !self.connection.is_evicted() {
            table.uncount(&self.connection);
        }
    }
}

#[cfg(test)]
mod tests;
