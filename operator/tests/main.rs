//! The operator's tests that need more than one room: golden translations, memory against scratch, the stream.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod golden;
mod memory;
mod objects;
mod skew;
mod stream;
mod watch;
