//! The hash of a body, as it is signed.

use std::fmt;

use aws_lc_rs::digest;

use crate::encode;

const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
const STREAMING: &str = "STREAMING-";

/// The longest value of `x-amz-content-sha256`; AWS's longest is `STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER`.
const MAX: usize = 64;

/// What a signature says about the body of its request: the last line of the canonical request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyHash {
    /// The SHA-256 hash of the body.
    Sha256([u8; 32]),
    /// `UNSIGNED-PAYLOAD`: the body can be replaced without an effect on the signature.
    Unsigned,
    /// `STREAMING-…`: the body contains signatures or trailers, which this package does not verify.
    Streaming(Box<str>),
}

impl BodyHash {
    /// The hash of a whole body.
    pub fn of(body: &[u8]) -> Self {
        let mut hasher = BodyHasher::new();
        hasher.update(body);
        hasher.finish()
    }

    /// Reads a value of `x-amz-content-sha256`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text == UNSIGNED {
            return Some(Self::Unsigned);
        }
        let is_name = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'-';
        if text.starts_with(STREAMING) && text.len() <= MAX && text.bytes().all(is_name) {
            return Some(Self::Streaming(text.into()));
        }
        encode::parse_hex(text).map(Self::Sha256)
    }
}

/// The text in a canonical request, and in `x-amz-content-sha256`.
impl fmt::Display for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hash) => f.write_str(&encode::hex(hash)),
            Self::Unsigned => f.write_str(UNSIGNED),
            Self::Streaming(name) => f.write_str(name),
        }
    }
}

/// Hashes a body that arrives in parts.
#[derive(Clone)]
pub struct BodyHasher(digest::Context);

impl BodyHasher {
    /// Nothing is hashed yet.
    pub fn new() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }

    /// Hashes the next part.
    pub fn update(&mut self, part: &[u8]) {
        self.0.update(part);
    }

    /// The hash of all parts.
    pub fn finish(self) -> BodyHash {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        BodyHash::Sha256(hash)
    }
}

impl Default for BodyHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BodyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyHasher(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_the_hash_of_the_whole() {
        let mut hasher = BodyHasher::new();
        hasher.update(b"Param1");
        hasher.update(b"=value1");
        let hash = hasher.finish();
        assert_eq!(hash, BodyHash::of(b"Param1=value1"));
        assert_eq!(hash.to_string(), "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e");
    }

    #[test]
    fn a_declaration_is_a_hash_or_a_name_of_aws() {
        let empty = BodyHash::of(b"");
        assert_eq!(BodyHash::parse(&empty.to_string()), Some(empty));
        assert_eq!(BodyHash::parse("UNSIGNED-PAYLOAD"), Some(BodyHash::Unsigned));
        let streaming = BodyHash::parse("STREAMING-UNSIGNED-PAYLOAD-TRAILER");
        assert_eq!(streaming, Some(BodyHash::Streaming("STREAMING-UNSIGNED-PAYLOAD-TRAILER".into())));
        for text in ["", "unsigned-payload", "STREAMING-\n", "e3b0", &format!("STREAMING-{}", "A".repeat(60))] {
            assert_eq!(BodyHash::parse(text), None, "{text:?}");
        }
    }
}
