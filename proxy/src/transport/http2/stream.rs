//! Open streams: what of its connection each uses, until the response and the request's body have ended.

use std::sync::Arc;

use crate::transport::body::{Payload, SendBody};

/// What every server accepts on a new connection before it has read anything.
pub(super) const UPLOAD_WINDOW: u32 = 65_535;
/// Larger uploads have a connection without other uploads.
const SMALL_UPLOAD: u64 = 16 << 10;
/// The size of the body that a request sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UploadSize {
    None,
    Small(u32),
    Large,
}

impl UploadSize {
    pub(crate) fn of<B: SendBody>(body: &Payload<B>) -> Self {
        match body.longest() {
            Some(0) => Self::None,
            Some(length) if length <= SMALL_UPLOAD => Self::Small(u32::try_from(length).unwrap_or(UPLOAD_WINDOW)),
            _ => Self::Large,
        }
    }

    /// How much of a connection's upload window it may use.
    pub(super) fn bytes(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Small(bytes) => bytes,
            Self::Large => UPLOAD_WINDOW,
        }
    }
}

/// Owns the connections that streams are on.
pub(crate) trait Owner: Send + Sync {
    /// A stream of a connection has ended.
    fn end_stream(self: Arc<Self>, thread: usize, connection: u64, upload: UploadSize);

    /// A connection takes no more requests. Its open streams go on.
    fn end_connection(self: Arc<Self>, thread: usize, connection: u64);

    /// Ends a connection that has been idle for too long.
    fn end_if_idle(self: Arc<Self>, thread: usize, connection: u64);

    /// Something happened on a connection: its server may allow more streams.
    fn progressed(self: Arc<Self>, thread: usize);
}

/// An open stream. It is in use until both the response and the request's body have ended.
pub(crate) struct OpenStream {
    pub(crate) owner: Arc<dyn Owner>,
    pub(crate) thread: usize,
    pub(crate) connection: u64,
    pub(crate) upload: UploadSize,
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.owner.clone().end_stream(self.thread, self.connection, self.upload);
    }
}

impl OpenStream {
    /// The connection takes no more requests.
    pub(crate) fn end_connection(&self) {
        self.owner.clone().end_connection(self.thread, self.connection);
    }
}
