//! Tests of the schemas: manifests are up to date, and every CEL rule accepts and rejects its rows of `cel/`.
//! The system tests send the same rows to a real API server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, in its helpers too")]

mod cel;
mod manifests;
