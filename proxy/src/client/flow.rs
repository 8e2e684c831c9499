//! Bytes of HTTP/2 responses that wait in a connection. A client can close the flow-control window of a stream and keep its
//! connection healthy: then no socket stalls, and nothing asks the response body for more. The bytes that wait are the only
//! trace. `listen` looks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bytes::{Buf, Bytes};

/// What one response has in its HTTP/2 connection.
#[derive(Default)]
pub(crate) struct Flow {
    /// Chunks that wait.
    waiting: AtomicU32,
    /// Bytes sent.
    sent: AtomicU64,
    aborted: AtomicBool,
}

impl Flow {
    /// While chunks wait: the number of bytes that have been sent.
    pub(crate) fn waiting(&self) -> Option<u64> {
        (self.waiting.load(Ordering::Relaxed) > 0).then(|| self.sent.load(Ordering::Relaxed))
    }

    /// The response will be ended although some of it was not sent.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_aborted(&self) -> bool {
        self.aborted.load(Ordering::Relaxed)
    }
}

/// Bytes of a response, counted until they are sent. With HTTP/1.1 the socket shows whether they are, and nothing is
/// counted.
pub(crate) struct TrackedBytes {
    bytes: Bytes,
    flow: Option<Arc<Flow>>,
}

impl TrackedBytes {
    pub(crate) fn new(bytes: Bytes, flow: Option<&Arc<Flow>>) -> Self {
        if let Some(flow) = flow {
            flow.waiting.fetch_add(1, Ordering::Relaxed);
        }
        Self { bytes, flow: flow.cloned() }
    }

    fn count_sent(&self, count: usize) {
        if let Some(flow) = &self.flow {
            flow.sent.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for TrackedBytes {
    fn drop(&mut self) {
        if let Some(flow) = &self.flow {
            flow.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Buf for TrackedBytes {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.count_sent(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.count_sent(count);
        self.bytes.copy_to_bytes(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_waits_until_it_is_sent() {
        let flow = Arc::new(Flow::default());
        assert_eq!(flow.waiting(), None);
        let mut chunk = TrackedBytes::new(Bytes::from_static(b"hello"), Some(&flow));
        assert_eq!(flow.waiting(), Some(0));
        chunk.advance(2);
        assert_eq!(flow.waiting(), Some(2));
        assert_eq!(chunk.chunk(), b"llo");
        drop(chunk);
        assert_eq!(flow.waiting(), None);
    }
}
