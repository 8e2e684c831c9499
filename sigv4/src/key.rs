//! Signing keys.

use std::fmt;

use aws_lc_rs::hmac;

/// The last part of a credential scope.
pub(crate) const TERMINATOR: &str = "aws4_request";

/// A key that signs the requests of one access key, on one day, in one region, for one service. The secret access key
/// cannot be computed from it, so a verifier needs no secret. It is still confidential: it signs requests.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl SigningKey {
    /// A key that was sent over a wire.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    pub const fn to_bytes(&self) -> [u8; 32] {
        self.0
    }

    pub(crate) fn sign(&self, text: &[u8]) -> [u8; 32] {
        mac(&self.0, text)
    }

    /// Compares in constant time.
    pub(crate) fn verifies(&self, text: &[u8], signature: &[u8; 32]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, &self.0), text, signature).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// Derives the signing key of a secret access key. `date` is the day in UTC, `YYYYMMDD`.
pub fn signing_key(secret: &str, date: &str, region: &str, service: &str) -> SigningKey {
    let mut first = Vec::with_capacity(4 + secret.len());
    first.extend_from_slice(b"AWS4");
    first.extend_from_slice(secret.as_bytes());
    let key = mac(&first, date.as_bytes());
    SigningKey([region, service, TERMINATOR].iter().fold(key, |key, part| mac(&key, part.as_bytes())))
}

fn mac(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::hex;

    #[test]
    fn a_key_is_derived_as_aws_documents_it() {
        // https://docs.aws.amazon.com/general/latest/gr/signature-v4-examples.html
        let key = signing_key("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20120215", "us-east-1", "iam");
        assert_eq!(hex(&key.to_bytes()), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
        assert_eq!(SigningKey::from_bytes(key.to_bytes()).to_bytes(), key.to_bytes());
    }

    #[test]
    fn a_key_does_not_print() {
        assert_eq!(format!("{:?}", SigningKey::from_bytes([7; 32])), "SigningKey(..)");
    }
}
