//! The schema ring: manifests are fresh, and every CEL rule accepts and refuses what it should.
//! The rows of `cel/` are also sent to a real API server, by the system ring.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod cel;
mod manifests;
