//! Session tokens: what AWS's clients send beside the signature of temporary credentials. A token contains the credentials
//! themselves, encrypted with AES-256-GCM, so that a verifier needs the key of one role and one day, and neither a store nor a call.
//! No I/O, no clock.
//!
//! The issuer has a seed for each role. From it a [`SessionKey`] is derived for each day, and the verifiers get those of the days
//! that matter: the seed cannot be computed from them, and with another seed every earlier token is void.
//!
//! ```
//! use sluice_session::{Sealed, Session, SessionKey};
//!
//! let key = SessionKey::derive(b"a seed with many random bytes", "20261128");
//! let session = Session {
//!     access_key_id: "SLTEAAAABBBBCCCCDDDD".to_owned(),
//!     secret_access_key: "a secret".to_owned(),
//!     name: "nightly-report".to_owned(),
//!     issued: 1_795_860_000,
//!     expires: 1_795_863_600,
//! };
//! let token = session.seal("shop/reporting", "20261128", &key)?;
//!
//! let sealed = Sealed::parse(&token).expect("a token of this format");
//! assert_eq!((sealed.role(), sealed.date()), ("shop/reporting", "20261128"));
//! assert_eq!(sealed.open(&key)?, session);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A token is, in base64 for URLs: the version `1`, the day (8 digits), the length of the role's name (2 bytes, big endian), the
//! name, a random nonce of 12 bytes, and the encrypted session with its tag. What comes before the nonce is authenticated.

mod day;
mod key;
mod name;
mod token;

pub use day::day;
pub use key::SessionKey;
pub use name::{assumed_role, is_session_name};
pub use token::{MAX_LIFETIME_S, MAX_ROLE, MAX_TOKEN, OpenError, SealError, Sealed, Session};
