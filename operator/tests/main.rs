//! Tests of the operator that involve several modules: golden translations, incremental translation, watches, the stream.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fleets;
mod golden;
mod grants;
mod incremental;
mod key_uses;
mod objects;
mod references;
mod service_accounts;
mod skew;
mod stream;
mod watch;
