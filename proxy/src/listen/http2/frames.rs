//! Streams that h2 rejects without telling: found in the frames of the connection. A stream that the client has opened and that
//! did not become a request was rejected, and a RST_STREAM frame says so to the client. The fields of such a request are not
//! known: they are compressed with the state of the connection. What h2 accepts becomes a request.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use h2::Reason;

use crate::reject::Reject;

/// Bytes of a payload that are looked at.
const LOOKED_AT: usize = 8;
/// h2 itself responds to fields that are too large, with nothing but the status 431. Responses of the proxy are longer: they
/// have a request id.
const ONLY_STATUS: usize = 8;
/// Resets that are kept until they are compared with the streams.
const MAX_RESETS: usize = 256;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The streams of a connection, as far as they are needed to find those that were rejected. All numbers are written by the
/// connection's task.
#[derive(Default)]
pub(super) struct Opened {
    /// Streams whose HEADERS are complete.
    opened: AtomicU32,
    /// Streams that are a request, or are reported as rejected.
    known: AtomicU32,
    /// Streams that were reset or got 431, with the reason.
    resets: Mutex<Vec<(u32, Reject)>>,
}

impl Opened {
    /// A stream is a request.
    pub(super) fn begin(&self) {
        self.known.fetch_add(1, Ordering::Relaxed);
    }

    /// Why streams were rejected since the last call. To be called when everything that has arrived was looked at by h2.
    pub(super) fn rejected(&self) -> Vec<Reject> {
        let missing = self.opened.load(Ordering::Relaxed).wrapping_sub(self.known.load(Ordering::Relaxed));
        if missing == 0 {
            return Vec::new();
        }
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        let count = resets.len().min(missing as usize);
        self.known.fetch_add(u32::try_from(count).unwrap_or_default(), Ordering::Relaxed);
        resets.drain(..).take(count).map(|(_, reject)| reject).collect()
    }

    fn reset(&self, stream: u32, reject: Reject) {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        if self.opened.load(Ordering::Relaxed) == self.known.load(Ordering::Relaxed) {
            // The reset of a request.
            resets.clear();
        } else if resets.len() < MAX_RESETS {
            resets.push((stream, reject));
        }
    }
}

/// The frames that a client sends.
pub(super) struct FromClient {
    frames: Frames,
    last: u32,
    /// The HEADERS of the last stream are not complete.
    open: bool,
}

impl FromClient {
    pub(super) fn new() -> Self {
        const PREFACE: usize = 24;
        Self { frames: Frames { rest: PREFACE, ..Frames::default() }, last: 0, open: false }
    }

    pub(super) fn look(&mut self, bytes: &[u8], streams: &Opened) {
        let Self { frames, last, open } = self;
        frames.look(bytes, |frame| {
            let ends = frame.flags & END_HEADERS != 0;
            match frame.kind {
                HEADERS if frame.stream > *last => (*last, *open) = (frame.stream, true),
                CONTINUATION if frame.stream == *last => {}
                _ => return,
            }
            if ends && *open {
                *open = false;
                streams.opened.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
}

/// The frames that h2 sends.
#[derive(Default)]
pub(super) struct ToClient {
    frames: Frames,
    /// The last stream to which h2 has responded itself.
    responded: u32,
}

impl ToClient {
    pub(super) fn look(&mut self, bytes: &[u8], streams: &Opened) {
        let Self { frames, responded } = self;
        frames.look(bytes, |frame| match frame.kind {
            HEADERS if frame.flags & END_STREAM != 0 && frame.length <= ONLY_STATUS => {
                *responded = frame.stream;
                streams.reset(frame.stream, Reject::HeadersTooLarge);
            }
            RST_STREAM if frame.stream != *responded => {
                let refused = Reason::from(frame.number(0)) == Reason::REFUSED_STREAM;
                streams.reset(frame.stream, if refused { Reject::StreamLimit } else { Reject::Malformed("") });
            }
            // Later streams are ignored, and the client repeats them on another connection.
            GOAWAY if frame.number(0) < u32::MAX >> 1 => {
                streams.known.store(streams.opened.load(Ordering::Relaxed), Ordering::Relaxed);
            }
            _ => {}
        });
    }
}

/// A frame (RFC 9113, 4.1).
#[derive(Clone, Copy)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    length: usize,
    payload: [u8; LOOKED_AT],
}

impl Frame {
    /// A number of 32 bits of the payload.
    fn number(&self, at: usize) -> u32 {
        self.payload.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
}

/// Divides the bytes of one direction into frames.
#[derive(Default)]
struct Frames {
    /// The head of the current frame and the first bytes of its payload.
    seen: [u8; HEAD + LOOKED_AT],
    size: usize,
    /// Bytes until the next frame's head.
    rest: usize,
}

const HEAD: usize = 9;

impl Frames {
    fn look(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let taken = self.rest.min(bytes.len());
                bytes = bytes.get(taken..).unwrap_or_default();
                self.rest -= taken;
                continue;
            }
            let length = |seen: &[u8; HEAD + LOOKED_AT]| {
                usize::from(seen[0]) << 16 | usize::from(seen[1]) << 8 | usize::from(seen[2])
            };
            let needed = if self.size < HEAD { HEAD } else { HEAD + length(&self.seen).min(LOOKED_AT) };
            let taken = (needed - self.size).min(bytes.len());
            let (now, later) = bytes.split_at(taken);
            if let Some(place) = self.seen.get_mut(self.size..self.size + taken) {
                place.copy_from_slice(now);
            }
            self.size += taken;
            bytes = later;
            let length = length(&self.seen);
            if self.size < HEAD || self.size < HEAD + length.min(LOOKED_AT) {
                continue;
            }
            self.rest = length - length.min(LOOKED_AT);
            self.size = 0;
            let [.., kind, flags, a, b, c, d] = *self.seen.first_chunk::<HEAD>().unwrap_or(&[0; HEAD]);
            let payload = self.seen.last_chunk().copied().unwrap_or_default();
            each(Frame { kind, flags, stream: u32::from_be_bytes([a & 0x7f, b, c, d]), length, payload });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, stream];
        bytes.extend_from_slice(payload);
        bytes
    }

    #[test]
    fn a_stream_that_is_reset_before_it_is_a_request_was_rejected() {
        let from: Vec<u8> = [
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
            frame(4, 0, 0, &[0; 6]),
            frame(HEADERS, END_HEADERS, 1, b"a request"),
            frame(HEADERS, 0, 3, b"mal"),
            frame(CONTINUATION, 0, 3, b"for"),
            frame(CONTINUATION, END_HEADERS, 3, b"med"),
            frame(0, 1, 1, b"a body, longer than what is looked at"),
            frame(HEADERS, END_HEADERS | END_STREAM, 1, b"trailers"),
            frame(HEADERS, END_HEADERS, 5, b"too large"),
        ]
        .concat();
        let to: Vec<u8> = [
            frame(4, 0, 0, &[]),
            frame(RST_STREAM, 0, 3, &[0, 0, 0, 1]),
            frame(HEADERS, END_HEADERS | END_STREAM, 5, b"431"),
            frame(RST_STREAM, 0, 5, &[0, 0, 0, 1]),
        ]
        .concat();
        for size in 1..=from.len() {
            let (streams, mut client, mut server) = (Opened::default(), FromClient::new(), ToClient::default());
            from.chunks(size).for_each(|bytes| client.look(bytes, &streams));
            streams.begin();
            assert!(streams.rejected().is_empty(), "its frame is not sent yet");
            to.chunks(size).for_each(|bytes| server.look(bytes, &streams));
            let reasons: Vec<&str> = streams.rejected().iter().map(Reject::reason).collect();
            assert_eq!(reasons, ["Malformed", "HeadersTooLarge"], "{size}");
            // The reset of a request is none.
            client.look(&frame(HEADERS, END_HEADERS, 7, b"a request"), &streams);
            streams.begin();
            server.look(&frame(RST_STREAM, 0, 7, &[0, 0, 0, 8]), &streams);
            client.look(&frame(HEADERS, END_HEADERS, 9, b"refused"), &streams);
            server.look(&frame(RST_STREAM, 0, 9, &[0, 0, 0, 7]), &streams);
            let reasons: Vec<&str> = streams.rejected().iter().map(Reject::reason).collect();
            assert_eq!(reasons, ["StreamLimit"], "{size}");
            server.look(&frame(GOAWAY, 0, 0, &[0, 0, 0, 9, 0, 0, 0, 0]), &streams);
            assert!(streams.rejected().is_empty());
        }
    }
}
