//! Counts open client connections, so that there is a maximum and a metric.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// The open connections of the whole proxy.
pub(crate) struct ConnectionCount {
    open: AtomicUsize,
    max: usize,
    gauge: IntGauge,
}

impl ConnectionCount {
    pub(crate) fn new(max: usize, gauge: IntGauge) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), max, gauge })
    }

    /// Counts one more connection. None: the maximum is reached.
    pub(crate) fn open(self: &Arc<Self>) -> Option<OpenConnection> {
        let before = self.open.fetch_add(1, Ordering::Relaxed);
        self.gauge.inc();
        let open = OpenConnection(self.clone());
        (before < self.max).then_some(open)
    }
}

/// One open connection; counted until it is dropped.
#[must_use]
pub(crate) struct OpenConnection(Arc<ConnectionCount>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_beyond_the_maximum_is_not_opened_and_a_closed_one_makes_room() {
        let gauge = IntGauge::new("connections", "ConnectionCount.").unwrap();
        let connections = ConnectionCount::new(1, gauge.clone());
        let first = connections.open();
        assert!(first.is_some() && connections.open().is_none());
        assert_eq!(gauge.get(), 1);
        drop(first);
        assert!(connections.open().is_some());
        assert_eq!(gauge.get(), 0);
    }
}
