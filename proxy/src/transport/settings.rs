//! What all endpoints of the HTTP client have in common: egress policy, timeouts, limits.

use super::egress::Egress;
use super::resolver::Resolver;
use crate::timeouts::UpstreamTimeouts;

/// Limits of each endpoint and worker thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolLimits {
    /// Idle HTTP/1.1 connections.
    pub(crate) idle: usize,
    /// HTTP/2 connections. Until there are as many, an upload of unknown or large size has one without other uploads.
    pub(crate) connections: usize,
    /// Open streams of an HTTP/2 connection. The server's own limit is respected where it is lower.
    pub(crate) streams: u32,
    /// Flow control window of each stream. The connection's window is `streams` times as large.
    pub(crate) stream_window: u32,
    /// Requests that wait for a free HTTP/2 stream.
    pub(crate) waiting: usize,
    /// Requests in flight to all endpoints of a pool, on all threads.
    pub(crate) requests: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self { idle: 256, connections: 32, streams: 100, stream_window: 256 << 10, waiting: 1024, requests: usize::MAX }
    }
}

impl PoolLimits {
    /// The receive window of a connection. It is as large as the windows of all its streams together: streams that are not
    /// read can fill their own windows only, and never stop the others.
    pub(crate) fn connection_window(&self) -> u32 {
        self.stream_window.saturating_mul(self.streams)
    }
}

/// What all endpoints have in common.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) egress: Egress,
    pub(crate) resolver: Resolver,
    pub(crate) timeouts: UpstreamTimeouts,
    pub(crate) limits: PoolLimits,
    /// Worker threads; each has connections of its own.
    pub(crate) threads: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_windows_of_all_streams_fit_into_the_connections_window() {
        let limits = PoolLimits::default();
        let together = u64::from(limits.streams) * u64::from(limits.stream_window);
        assert!(together <= u64::from(limits.connection_window()));
        // RFC 9113, section 6.9.1.
        assert!(limits.connection_window() < 1 << 31);
    }
}
