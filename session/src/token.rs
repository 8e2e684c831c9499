//! Sessions and their tokens.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::day::day;
use crate::key::SessionKey;

/// Of this format.
const VERSION: u8 = 1;
/// `YYYYMMDD`.
const DATE: usize = 8;
/// Version, date and the length of the role's name.
const HEAD: usize = 1 + DATE + 2;
/// The longest name of a role, in bytes.
pub const MAX_ROLE: usize = 512;
/// The longest session, in seconds.
pub const MAX_LIFETIME_S: u64 = 43_200;
/// The longest token, in characters. AWS permits 4,096.
pub const MAX_TOKEN: usize = 2_048;

/// Temporary credentials, and for how long they are valid.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its access key id.
    #[serde(rename = "k")]
    pub access_key_id: String,
    /// Its secret access key.
    #[serde(rename = "s")]
    pub secret_access_key: String,
    /// The name that the caller gave to it.
    #[serde(rename = "n")]
    pub name: String,
    /// When it was issued, in seconds since 1970.
    #[serde(rename = "i")]
    pub issued: u64,
    /// When it ends, in seconds since 1970.
    #[serde(rename = "e")]
    pub expires: u64,
}

/// A session cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// A name is too long, or the date does not have 8 bytes.
    #[error("the role, its session or the date has the wrong length")]
    Length,
    /// The system has no random bytes.
    #[error("there are no random bytes for a session token")]
    NoRandomness,
}

/// A token cannot be opened: it was changed, or sealed with another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session token was not issued here, its key has changed, or its times are not those of its day")]
pub struct OpenError;

/// A token that is not opened yet. Who has issued it is unknown until then.
pub struct Sealed {
    bytes: Vec<u8>,
    /// Where the role's name ends.
    head: usize,
}

/// Without the secret access key.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("access_key_id", &self.access_key_id)
            .field("name", &self.name)
            .field("issued", &self.issued)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Tokens are credentials.
impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealed").field("role", &self.role()).field("date", &self.date()).finish_non_exhaustive()
    }
}

fn cipher(key: &SessionKey) -> Option<LessSafeKey> {
    UnboundKey::new(&AES_256_GCM, &key.to_bytes()).ok().map(LessSafeKey::new)
}

impl Session {
    /// The token of this session of a role, with the role's key for the day on which it is issued.
    pub fn seal(&self, role: &str, date: &str, key: &SessionKey) -> Result<String, SealError> {
        let length = u16::try_from(role.len()).ok().filter(|_| role.len() <= MAX_ROLE && date.len() == DATE);
        let length = length.ok_or(SealError::Length)?;
        let mut bytes = Vec::with_capacity(MAX_TOKEN);
        bytes.push(VERSION);
        bytes.extend_from_slice(date.as_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(role.as_bytes());
        let head = bytes.clone();
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        bytes.extend_from_slice(&nonce);
        // A struct of texts and numbers has a JSON text.
        let mut text = serde_json::to_vec(self).map_err(|_| SealError::Length)?;
        let cipher = cipher(key).ok_or(SealError::Length)?;
        let nonce = Nonce::assume_unique_for_key(nonce);
        cipher.seal_in_place_append_tag(nonce, Aad::from(&head), &mut text).map_err(|_| SealError::Length)?;
        bytes.extend_from_slice(&text);
        Some(URL_SAFE_NO_PAD.encode(bytes)).filter(|token| token.len() <= MAX_TOKEN).ok_or(SealError::Length)
    }
}

impl Sealed {
    /// Reads the form of a token; none: it is no token of this format.
    #[must_use]
    pub fn parse(token: &str) -> Option<Self> {
        if token.len() > MAX_TOKEN {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (date, rest) = rest.split_at_checked(DATE)?;
        let (length, rest) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let role = rest.get(..length)?;
        let is_valid = *version == VERSION && date.iter().all(u8::is_ascii_digit) && length <= MAX_ROLE;
        (is_valid && std::str::from_utf8(role).is_ok()).then(|| Self { head: HEAD + length, bytes })
    }

    fn text(&self, range: std::ops::Range<usize>) -> &str {
        // Checked when it was parsed.
        self.bytes.get(range).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    /// The role whose session it is.
    #[must_use]
    pub fn role(&self) -> &str {
        self.text(HEAD..self.head)
    }

    /// The day on which it was issued: the day of its key.
    #[must_use]
    pub fn date(&self) -> &str {
        self.text(1..1 + DATE)
    }

    /// The session. It was issued on the day of its key, so that the key of a day is worth nothing on later ones, and is not longer
    /// than a session can be. Whether it has begun or ended is for the caller to check.
    pub fn open(&self, key: &SessionKey) -> Result<Session, OpenError> {
        let (head, rest) = self.bytes.split_at_checked(self.head).ok_or(OpenError)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError)?;
        let mut text = sealed.to_vec();
        let cipher = cipher(key).ok_or(OpenError)?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = cipher.open_in_place(nonce, Aad::from(head), &mut text).map_err(|_| OpenError)?;
        let session: Session = serde_json::from_slice(opened).map_err(|_| OpenError)?;
        let is_short = session.expires.checked_sub(session.issued).is_some_and(|lifetime| lifetime <= MAX_LIFETIME_S);
        if is_short && day(session.issued) == self.date() { Ok(session) } else { Err(OpenError) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY: &str = "20261128";
    /// Of that day.
    const NOON: u64 = 1_795_867_200;
    const ROLE: &str = "shop/reporting";

    fn key() -> SessionKey {
        SessionKey::derive(b"seed", DAY)
    }

    fn session() -> Session {
        Session {
            access_key_id: "SLTEAAAABBBBCCCCDDDD".into(),
            secret_access_key: "wJalrXUtnFEMI".into(),
            name: "report@1".into(),
            issued: NOON,
            expires: NOON + 3_600,
        }
    }

    #[test]
    fn a_token_is_opened_with_the_key_of_its_role_and_day_only() {
        let token = session().seal(ROLE, DAY, &key()).unwrap();
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)), "{token}");
        assert!(!token.contains("wJalr"));
        let sealed = Sealed::parse(&token).unwrap();
        assert_eq!((sealed.role(), sealed.date()), (ROLE, DAY));
        assert_eq!(sealed.open(&key()), Ok(session()));
        for other in [SessionKey::derive(b"seed", "20261127"), SessionKey::derive(b"other", DAY)] {
            assert_eq!(sealed.open(&other), Err(OpenError));
        }
        assert_ne!(token, session().seal(ROLE, DAY, &key()).unwrap(), "each token has its own nonce");
    }

    #[test]
    fn a_session_has_the_times_of_its_day() {
        for (issued, lifetime, valid) in [
            (NOON, MAX_LIFETIME_S, true),
            (NOON - 43_200, 900, true),
            (NOON + 43_199, MAX_LIFETIME_S, true),
            (NOON, MAX_LIFETIME_S + 1, false),
            (NOON + 43_200, 900, false),
            (NOON - 43_201, 900, false),
            (u64::MAX, 0, false),
        ] {
            let session = Session { issued, expires: issued.saturating_add(lifetime), ..session() };
            let token = session.seal(ROLE, DAY, &key()).unwrap();
            assert_eq!(Sealed::parse(&token).unwrap().open(&key()).is_ok(), valid, "{issued} {lifetime}");
        }
        let backwards = Session { issued: NOON, expires: NOON - 1, ..session() };
        let token = backwards.seal(ROLE, DAY, &key()).unwrap();
        assert_eq!(Sealed::parse(&token).unwrap().open(&key()), Err(OpenError));
    }

    #[test]
    fn no_changed_byte_is_accepted() {
        let token = session().seal(ROLE, DAY, &key()).unwrap();
        let bytes = URL_SAFE_NO_PAD.decode(&token).unwrap();
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let opened = Sealed::parse(&URL_SAFE_NO_PAD.encode(&changed)).map(|sealed| sealed.open(&key()));
            assert!(!matches!(opened, Some(Ok(_))), "byte {at}");
        }
        for length in 0..bytes.len() {
            let cut = URL_SAFE_NO_PAD.encode(&bytes[..length]);
            assert!(!matches!(Sealed::parse(&cut).map(|sealed| sealed.open(&key())), Some(Ok(_))), "{length} bytes");
        }
    }

    #[test]
    fn a_token_names_the_role_that_it_was_sealed_for() {
        let (own, other) = (session().seal("shop/ab", DAY, &key()).unwrap(), "shop/cd");
        let mut bytes = URL_SAFE_NO_PAD.decode(own).unwrap();
        bytes[HEAD..HEAD + other.len()].copy_from_slice(other.as_bytes());
        let sealed = Sealed::parse(&URL_SAFE_NO_PAD.encode(bytes)).unwrap();
        assert_eq!((sealed.role(), sealed.open(&key())), (other, Err(OpenError)));
    }

    #[test]
    fn lengths_are_limited() {
        let long = "r".repeat(MAX_ROLE + 1);
        for (role, date) in [(&*long, DAY), (ROLE, "2026112"), (ROLE, "202611281")] {
            assert_eq!(session().seal(role, date, &key()), Err(SealError::Length), "{date}");
        }
        let wordy = Session { name: "n".repeat(MAX_TOKEN), ..session() };
        assert_eq!(wordy.seal(ROLE, DAY, &key()), Err(SealError::Length));
        assert!(session().seal(&"r".repeat(MAX_ROLE), DAY, &key()).is_ok());
        assert!(Sealed::parse(&"A".repeat(MAX_TOKEN + 1)).is_none());
    }

    #[test]
    fn secrets_are_not_printed() {
        let token = session().seal(ROLE, DAY, &key()).unwrap();
        let printed = format!("{:?} {:?}", session(), Sealed::parse(&token).unwrap());
        assert!(printed.contains("report@1") && !printed.contains("wJalr") && !printed.contains(&token), "{printed}");
    }

    proptest! {
        #[test]
        fn every_session_survives_its_token(name in "\\PC{0,64}", secret in "\\PC{0,64}", issued in NOON - 43_200..NOON + 43_200, lifetime in 0..=MAX_LIFETIME_S, role in "[a-z/.-]{0,300}") {
            let session = Session { name, secret_access_key: secret, issued, expires: issued + lifetime, ..session() };
            let token = session.seal(&role, DAY, &key()).unwrap();
            let sealed = Sealed::parse(&token).unwrap();
            prop_assert_eq!(sealed.role(), &*role);
            prop_assert_eq!(sealed.open(&key()), Ok(session));
        }

        #[test]
        fn no_text_is_a_valid_token(text in "[A-Za-z0-9_-]{0,400}") {
            prop_assert!(!matches!(Sealed::parse(&text).map(|sealed| sealed.open(&key())), Some(Ok(_))));
        }
    }
}
