//! What the tests of several packages share: waiting for a condition, HTTP/1 and HTTP/2 clients, backends, certificates.
//!
//! The kit depends on none of the other packages and knows nothing of Sluice; what belongs to one package's tests (a
//! proxy in this process, a Kubernetes API server) stays in that package's `tests/harness`.
//!
//! | you need | take |
//! | --- | --- |
//! | to wait until something holds | [`eventually`], [`eventually_async`], [`until`] |
//! | a request from a thread, byte by byte if need be | [`http1`] |
//! | a request from async code, or a kept connection | [`client`] |
//! | HTTP/2, with TLS or without | [`Http2`] |
//! | a backend whose responses a closure makes | [`Backend`] |
//! | an HTTP/2 backend with stream limits, GOAWAY, rejected streams | [`http2_backend`] |
//! | the server of a stream of messages in both directions | [`duplex`] |
//! | a name server whose responses change | [`dns`] |
//! | to compare with a committed file, and see the lines that differ | [`golden`] |
//! | a certificate, and TLS settings that trust it | [`tls`] |
//! | an authority that issues and revokes certificates of clients | [`authority`] |

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and reads what its own servers send"
)]

pub mod authority;
pub mod backend;
pub mod client;
pub mod dns;
pub mod duplex;
pub mod golden;
pub mod http1;
pub mod http2;
pub mod http2_backend;
pub mod tls;
pub mod wait;

pub use backend::Backend;
pub use http1::Response;
pub use http2::Http2;
pub use http2_backend::{Http2Backend, RawBackend};
pub use wait::{SOON, eventually, eventually_async, until};
