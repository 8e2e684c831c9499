//! AWS Signature Version 4: verifies signed requests, and signs them. No I/O, no clock, no store of keys.
//!
//! 1. [`Presented::find`] reads the credential of a request, from its headers or from its query.
//! 2. The caller checks the [time](Presented::check_time) and the [scope](Presented::check_scope), and looks up the
//!    [`SigningKey`] of the access key for this day, region and service. A verifier has no secret access keys.
//! 3. [`Presented::declared_body`] says what the signature covers. If it is a hash, the signature can be verified with
//!    it before the body is read; the body must then have that hash. Without a declaration the hash of the body is
//!    needed first.
//! 4. [`Presented::verify`] compares the signatures.
//!
//! ```
//! use std::time::{Duration, SystemTime};
//!
//! use http::{HeaderMap, Method};
//! use sluice_sigv4::{BodyHash, Options, Presented, RequestParts, Signer, signing_key};
//!
//! let (secret, body, now) = ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", b"{}", SystemTime::now());
//!
//! // A client signs a request.
//! let signer = Signer::new("AKIDEXAMPLE", secret, "eu-central-1", "execute-api", now);
//! let mut unsigned = HeaderMap::new();
//! unsigned.insert("content-type", "application/json".parse()?);
//! let request = RequestParts {
//!     method: &Method::POST,
//!     path: "/orders/a%20b",
//!     query: Some("dry-run"),
//!     headers: &unsigned,
//!     host: Some("api.example.com"),
//! };
//! let mut headers = unsigned.clone();
//! headers.extend(signer.sign(&request, &BodyHash::of(body))?);
//!
//! // A gateway verifies it.
//! let presented = Presented::find(&headers, Some("dry-run"), Options::default())?.expect("a credential");
//! assert_eq!(presented.access_key_id(), "AKIDEXAMPLE");
//! presented.check_time(now, Duration::from_secs(300))?;
//! presented.check_scope(|region| region.starts_with("eu-"), "execute-api")?;
//! let key = signing_key(secret, presented.date(), presented.region(), presented.service());
//! let request = RequestParts { headers: &headers, ..request };
//! let hash = presented.declared_body().cloned().unwrap_or_else(|| BodyHash::of(body));
//! presented.verify(&key, &request, &hash)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a valid signature says
//!
//! It covers the method, the path, the query, the headers that it names, and the body. Some requests have the same
//! canonical request, and with it the same signature:
//!
//! * paths that are equal after normalization: `/a/b`, `/a//b`, `/a/./b`, `/x/../a/b`. A gateway that gives them
//!   different permissions has to check those of the path that it forwards.
//! * queries with the same parameters in another order or with other escapes; `+` and `%20` are the same, `+` and `%2B`
//!   are not; `k` and `k=` are the same, and empty parameters (`&&`) do not count.
//! * headers with other white space, or several of one name instead of one with commas.
//!
//! A header that is not signed can have been added on the way. `host`, the date, and each header `x-amz-*` must be
//! signed, except `x-amz-cf-*`, which CloudFront adds. `x-amzn-*`, which load balancers add (`x-amzn-trace-id`), is not
//! in that group.
//!
//! # Differences from AWS
//!
//! * The method is case-sensitive. Signed headers may be in any order; one twice is an error, as is a parameter twice.
//! * A path that ends with `/.` or `/..` has no slash at its end, as botocore and smithy for JavaScript sign it; the
//!   SDK for Rust signs it with one.
//! * A tab in the value of a header is white space, as for botocore and smithy for JavaScript.
//! * A presigned request without `X-Amz-Expires` is valid as long as one with headers. Its signature covers the hash of
//!   its body, as that of every service but S3.
//! * A signature and a declared hash have lower-case digits.
//! * A session token in a query is always signed; [`Options::unsigned_session_token`] is about the header.
//! * SigV4a (`AWS4-ECDSA-P256-SHA256`) is an unsupported algorithm; streams with signatures of their own are reported
//!   as [`BodyHash::Streaming`] and not verified.
//! * Everything from the request has a cap; texts of errors that AWS does not document are of this package.

mod body;
mod canonical;
mod credential;
mod encode;
mod error;
mod fields;
mod header_form;
mod key;
mod limits;
mod parts;
mod presented;
mod query_form;
mod request;
mod sign;
mod time;

pub use body::{BodyHash, BodyHasher};
pub use encode::uri_encode;
pub use error::{Incomplete, Mismatch, Missing, ScopeError, TimeError};
pub use key::{SigningKey, signing_key};
pub use limits::{MAX_AUTHORIZATION, MAX_CREDENTIAL, MAX_EXPIRES, MAX_SESSION_TOKEN, MAX_SIGNED_HEADERS};
pub use presented::Presented;
pub use request::{Options, RequestParts};
pub use sign::{SignError, Signer};
