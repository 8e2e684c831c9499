//! Encodes and decodes frames: a 4-byte big-endian length, then JSON. The caller reads and writes the bytes.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Frame, MAX_FRAME_BYTES};

const PREFIX: usize = 4;

/// Why a stream of frames ends.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Longer than the cap.
    #[error("a frame of {len} bytes is longer than the {max} bytes allowed")]
    TooLong {
        /// Its announced length.
        len: usize,
        /// The cap.
        max: usize,
    },
    /// Not the JSON that was expected.
    #[error("cannot decode a frame of the configuration stream")]
    Json(#[from] serde_json::Error),
    /// A frame of a newer version that must not be ignored.
    #[error(
        "the other side sent the frame {0:?}, which this version does not know and must not ignore: update this program"
    )]
    Essential(String),
}

/// One frame, ready to be sent.
///
/// # Errors
/// The value has no JSON form, or a longer one than [`MAX_FRAME_BYTES`].
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut out = vec![0; PREFIX];
    serde_json::to_writer(&mut out, value)?;
    let len = out.len() - PREFIX;
    match u32::try_from(len) {
        Ok(prefix) if len <= MAX_FRAME_BYTES => {
            out[..PREFIX].copy_from_slice(&prefix.to_be_bytes());
            Ok(out)
        }
        _ => Err(CodecError::TooLong { len, max: MAX_FRAME_BYTES }),
    }
}

/// Assembles frames from pieces of a stream. After an error it returns no more frames.
#[derive(Debug)]
pub struct Decoder<T> {
    buffer: Vec<u8>,
    start: usize,
    max: usize,
    broken: bool,
    frame: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + Frame> Decoder<T> {
    /// A decoder that accepts frames up to [`MAX_FRAME_BYTES`].
    #[must_use]
    pub fn new() -> Self {
        Self::with_max(MAX_FRAME_BYTES)
    }

    /// A decoder with a lower limit: frames of proxies are small.
    #[must_use]
    pub fn with_max(max: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, max, broken: false, frame: PhantomData }
    }

    /// Takes the next piece of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.broken {
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next complete frame; none: more bytes are needed, or the decoder has failed.
    #[allow(clippy::should_implement_trait, reason = "more may come after none, unlike with an iterator")]
    pub fn next(&mut self) -> Option<Result<T, CodecError>> {
        if self.broken {
            return None;
        }
        let rest = self.buffer.get(self.start..)?;
        let prefix: [u8; PREFIX] = rest.get(..PREFIX)?.try_into().ok()?;
        let len = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
        if len > self.max {
            self.give_up();
            return Some(Err(CodecError::TooLong { len, max: self.max }));
        }
        let frame: Result<T, _> = serde_json::from_slice(rest.get(PREFIX..PREFIX + len)?);
        match frame {
            Ok(value) if value.unknown().is_some_and(|unknown| unknown.essential) => {
                let name = value.unknown().map(|unknown| unknown.name.clone()).unwrap_or_default();
                self.give_up();
                Some(Err(CodecError::Essential(name)))
            }
            Ok(value) => {
                self.start += PREFIX + len;
                if self.start == self.buffer.len() {
                    // A large configuration must not stay in memory for the life of the stream.
                    self.buffer = Vec::new();
                    self.start = 0;
                }
                Some(Ok(value))
            }
            Err(error) => {
                self.give_up();
                Some(Err(error.into()))
            }
        }
    }

    /// Whether the stream may end here without cutting a frame in two.
    #[must_use]
    pub fn at_boundary(&self) -> bool {
        !self.broken && self.start == self.buffer.len()
    }

    fn give_up(&mut self) {
        self.broken = true;
        self.buffer = Vec::new();
        self.start = 0;
    }
}

impl<T: DeserializeOwned + Frame> Default for Decoder<T> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Down, Unknown, Up};

    #[test]
    fn frames_torn_anywhere_come_out_whole_and_in_order() {
        let frames = [Down::Ping, Down::Fleet { proxies: 3 }, Down::Ping, Down::Fleet { proxies: 70_000 }];
        let bytes: Vec<u8> = frames.iter().flat_map(|f| encode(f).unwrap()).collect();
        for size in 1..=bytes.len() {
            let mut decoder = Decoder::<Down>::new();
            let mut seen = Vec::new();
            for piece in bytes.chunks(size) {
                decoder.push(piece);
                while let Some(frame) = decoder.next() {
                    seen.push(frame.unwrap());
                }
            }
            assert_eq!(seen, frames, "pieces of {size}");
            assert!(decoder.at_boundary());
        }
    }

    #[test]
    fn a_cut_frame_is_not_a_boundary() {
        let bytes = encode(&Up::Pong).unwrap();
        let mut decoder = Decoder::<Up>::new();
        decoder.push(&bytes[..bytes.len() - 1]);
        assert!(decoder.next().is_none());
        assert!(!decoder.at_boundary());
    }

    #[test]
    fn a_long_frame_is_rejected_by_its_length_and_ends_the_stream() {
        let mut decoder = Decoder::<Up>::with_max(100);
        decoder.push(&101_u32.to_be_bytes());
        assert!(matches!(decoder.next(), Some(Err(CodecError::TooLong { len: 101, max: 100 }))));
        decoder.push(&encode(&Up::Pong).unwrap());
        assert!(decoder.next().is_none());
    }

    #[test]
    fn a_frame_of_a_newer_version_is_passed_over_unless_it_is_essential() {
        let unknown = |essential| Up::Unknown(Unknown { name: "Usage".into(), essential });
        let mut decoder = Decoder::<Up>::new();
        for frame in [unknown(false), Up::Pong, unknown(true), Up::Pong] {
            decoder.push(&encode(&frame).unwrap());
        }
        assert_eq!(decoder.next().unwrap().unwrap(), unknown(false));
        assert_eq!(decoder.next().unwrap().unwrap(), Up::Pong);
        assert!(matches!(decoder.next(), Some(Err(CodecError::Essential(name))) if name == "Usage"));
        assert!(decoder.next().is_none());
    }

    #[test]
    fn what_is_not_the_expected_json_ends_the_stream() {
        let mut decoder = Decoder::<Up>::new();
        decoder.push(&[0, 0, 0, 2, b'{', b'}']);
        assert!(matches!(decoder.next(), Some(Err(CodecError::Json(_)))));
        assert!(decoder.next().is_none());
    }
}
