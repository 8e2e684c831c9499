//! State of an HTTP/1.1 connection, shared by its socket, its requests and the timer for request heads.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// Where an HTTP/1.1 connection is: idle, reading a head, or serving a request.
pub(crate) struct ConnState {
    at: AtomicU8,
    /// A request's body can still arrive after its response is complete.
    uploading: AtomicBool,
}

impl ConnState {
    const IDLE: u8 = 0;
    const HEAD: u8 = 1;
    const REQUEST: u8 = 2;

    /// A new connection, which must begin with a head.
    pub(crate) const fn new() -> Self {
        Self { at: AtomicU8::new(Self::HEAD), uploading: AtomicBool::new(false) }
    }

    /// Bytes were read: on an idle connection a head begins.
    pub(crate) fn bytes_read(&self) {
        if self.at.load(Ordering::Relaxed) == Self::IDLE && !self.uploading.load(Ordering::Relaxed) {
            self.at.store(Self::HEAD, Ordering::Relaxed);
        }
    }

    /// A head is complete.
    pub(crate) fn request_began(&self) {
        self.at.store(Self::REQUEST, Ordering::Relaxed);
    }

    /// Whether a request's body is being forwarded.
    pub(crate) fn set_uploading(&self, uploading: bool) {
        self.uploading.store(uploading, Ordering::Relaxed);
    }

    /// A response is complete, or its request failed.
    pub(crate) fn request_ended(&self) {
        self.at.store(Self::IDLE, Ordering::Relaxed);
    }

    /// Whether a head has begun and is not complete.
    pub(crate) fn is_reading_head(&self) -> bool {
        self.at.load(Ordering::Relaxed) == Self::HEAD
    }
}
