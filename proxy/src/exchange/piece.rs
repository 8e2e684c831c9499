//! Pieces of answers that know when they have left. An HTTP/2 client can close the window of a stream and keep its
//! connection in good health: then no socket stalls, and nobody asks the body for more. A piece that lies in the connection
//! is the only trace. Who looks for such pieces is `listen`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use bytes::{Buf, Bytes};

/// What of one answer lies in its HTTP/2 connection.
#[derive(Default)]
pub(crate) struct Flow {
    /// Pieces.
    lying: AtomicU32,
    /// Bytes.
    left: AtomicU64,
    given_up: AtomicBool,
}

impl Flow {
    /// While something lies there: how many bytes of the answer have left so far.
    pub(crate) fn lying(&self) -> Option<u64> {
        (self.lying.load(Ordering::Relaxed) > 0).then(|| self.left.load(Ordering::Relaxed))
    }

    /// The answer will be ended although some of it has not left.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    pub(crate) fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// Bytes on their way to the client. With HTTP/1.1 the socket tells whether they leave, and nothing is counted.
pub(crate) struct Piece {
    bytes: Bytes,
    flow: Option<Arc<Flow>>,
}

impl Piece {
    pub(crate) fn new(bytes: Bytes, flow: Option<&Arc<Flow>>) -> Self {
        if let Some(flow) = flow {
            flow.lying.fetch_add(1, Ordering::Relaxed);
        }
        Self { bytes, flow: flow.cloned() }
    }

    fn leave(&self, count: usize) {
        if let Some(flow) = &self.flow {
            flow.left.fetch_add(count as u64, Ordering::Relaxed);
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(flow) = &self.flow {
            flow.lying.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.len()
    }

    fn chunk(&self) -> &[u8] {
        &self.bytes
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.leave(count);
    }

    fn copy_to_bytes(&mut self, count: usize) -> Bytes {
        self.leave(count);
        self.bytes.copy_to_bytes(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_lies_until_it_has_left() {
        let flow = Arc::new(Flow::default());
        assert_eq!(flow.lying(), None);
        let mut piece = Piece::new(Bytes::from_static(b"hello"), Some(&flow));
        assert_eq!(flow.lying(), Some(0));
        piece.advance(2);
        assert_eq!(flow.lying(), Some(2));
        assert_eq!(piece.chunk(), b"llo");
        drop(piece);
        assert_eq!(flow.lying(), None);
    }
}
