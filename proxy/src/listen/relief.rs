//! Watches the load of the process and reduces it: which clients get no more requests, which idle connections are closed, and,
//! if memory is almost exhausted, which connections are aborted. A request reads the result as one flag (`overload`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus::IntGauge;

use crate::client::Connections;
use crate::overload::{Load, MEMORY_CRITICAL, Memory};

/// Between two rounds.
const EVERY: Duration = Duration::from_millis(100);
/// The same when memory may soon be exhausted, or the number of requests rises.
const OFTEN: Duration = Duration::from_millis(20);
/// From here on rounds are often: a part of the memory, in thousandths.
const FILLING: u64 = 300;
/// Between two searches for clients without progress.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// Between two closings of idle connections.
const CLOSE_EVERY: Duration = Duration::from_millis(100);
/// Between two closings of connections with requests: memory is free only when their tasks have ended.
const ABORT_EVERY: Duration = Duration::from_millis(40);
/// One in so many idle connections is closed at a time.
const IDLE_PART: usize = 32;

/// What the metrics show.
#[derive(Clone)]
pub(crate) struct LoadMetrics {
    pub(crate) requests: IntGauge,
    pub(crate) memory: IntGauge,
    /// 0: all requests are accepted; 1: clients with many requests get no more; 2: no request is accepted.
    pub(crate) shedding: IntGauge,
}

/// Watches forever.
pub(crate) async fn watch(load: Arc<Load>, connections: Arc<Connections>, memory: Memory, metrics: LoadMetrics) {
    let began = Instant::now();
    let (mut checked, mut closed, mut aborted) = (began, began, began);
    let mut before = 0;
    loop {
        let (used, part) = memory.usage();
        let now = u32::try_from(began.elapsed().as_millis() / 100).unwrap_or(u32::MAX);
        load.round(now, part);
        let shedding = i64::from(load.is_limiting()) + i64::from(load.is_memory_full());
        report(&metrics, &load, used, shedding);
        if shedding != before {
            before = shedding;
            tracing::info!(
                shedding,
                requests = load.in_flight(),
                memory.bytes = used,
                memory.permille = part,
                "load changed"
            );
        }
        let due = |last: &mut Instant, every: Duration| {
            let due = last.elapsed() >= every;
            if due {
                *last = Instant::now();
            }
            due
        };
        if load.is_watched() || load.is_pressed() {
            load.set_clients(connections.measure(load.max_requests() / 4, now));
        }
        if load.is_pressed() && due(&mut checked, CHECK_EVERY) {
            connections.check();
        }
        if load.is_memory_high() && due(&mut closed, CLOSE_EVERY) {
            connections.evict_idle(IDLE_PART);
        }
        if part >= MEMORY_CRITICAL && due(&mut aborted, ABORT_EVERY) {
            connections.abort_largest();
        }
        let pause = if part >= FILLING || load.is_rising() { OFTEN } else { EVERY };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = load.pressed.notified() => {}
        }
    }
}

fn report(metrics: &LoadMetrics, load: &Load, used: u64, shedding: i64) {
    metrics.requests.set(i64::try_from(load.in_flight()).unwrap_or(i64::MAX));
    metrics.memory.set(i64::try_from(used).unwrap_or(i64::MAX));
    metrics.shedding.set(shedding);
}
