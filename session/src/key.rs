//! The keys that seal tokens.

use std::fmt;

use aws_lc_rs::hmac;

/// What distinguishes these keys from others that were derived from the same seed.
const PURPOSE: &[u8] = b"sluice session token v1\0";

/// The key that seals the tokens of one role that are issued on one day.
#[derive(Clone, PartialEq, Eq)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// Derives the key of a day, `YYYYMMDD` in UTC.
    #[must_use]
    pub fn derive(seed: &[u8], date: &str) -> Self {
        let text = [PURPOSE, date.as_bytes()].concat();
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, seed), &text);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Self(bytes)
    }

    /// A key that was sent over a wire.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_depends_on_seed_and_day_and_does_not_print() {
        let key = SessionKey::derive(b"seed", "20261128");
        assert_eq!(key, SessionKey::from_bytes(key.to_bytes()));
        for other in [SessionKey::derive(b"seed", "20261129"), SessionKey::derive(b"other", "20261128")] {
            assert!(key != other);
        }
        assert_eq!(format!("{key:?}"), "SessionKey(..)");
    }
}
