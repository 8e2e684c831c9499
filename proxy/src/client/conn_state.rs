//! State of an HTTP/1.1 connection, shared by its socket, its requests and the timer for request heads.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// Where an HTTP/1.1 connection is: idle, reading a head, or serving a request.
pub(crate) struct ConnState {
    at: AtomicU8,
    /// A request's body can still arrive after its response is complete.
    uploading: AtomicBool,
    /// Whether bytes for the client are held back.
    held: AtomicU8,
    /// The client read or sent too slowly; with HTTP/2 too.
    slow: AtomicBool,
    /// Requests that have begun.
    begun: AtomicU32,
}

impl ConnState {
    const IDLE: u8 = 0;
    const HEAD: u8 = 1;
    const REQUEST: u8 = 2;

    const NOTHING: u8 = 0;
    const HELD: u8 = 1;
    const RELEASED: u8 = 2;

    /// A new connection, which must begin with a head.
    pub(crate) const fn new() -> Self {
        Self {
            at: AtomicU8::new(Self::HEAD),
            uploading: AtomicBool::new(false),
            held: AtomicU8::new(Self::NOTHING),
            slow: AtomicBool::new(false),
            begun: AtomicU32::new(0),
        }
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
        // Written by the connection's task only.
        self.begun.store(self.begun().wrapping_add(1), Ordering::Relaxed);
    }

    /// The number of heads that were complete and valid.
    pub(crate) fn begun(&self) -> u32 {
        self.begun.load(Ordering::Relaxed)
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

    /// Whether a request is being served.
    pub(crate) fn is_serving(&self) -> bool {
        self.at.load(Ordering::Relaxed) == Self::REQUEST
    }

    /// Bytes are held back until it is known whether they belong to a response.
    pub(crate) fn hold(&self) {
        self.held.store(Self::HELD, Ordering::Relaxed);
    }

    /// They belong to a response. False: none were held back.
    pub(crate) fn release(&self) -> bool {
        let held = self.held.load(Ordering::Relaxed) == Self::HELD;
        if held {
            self.held.store(Self::RELEASED, Ordering::Relaxed);
        }
        held
    }

    pub(crate) fn is_released(&self) -> bool {
        self.held.load(Ordering::Relaxed) == Self::RELEASED
    }

    /// The client is disconnected because it is too slow.
    pub(crate) fn set_slow(&self) {
        self.slow.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed)
    }
}
