//! Logging, signals, readiness, file descriptors and the admin endpoint of both programs. Independent of configuration and requests.

pub mod admin;
pub mod files;
pub mod logging;
pub mod readiness;
pub mod signals;

pub use readiness::{Blocker, Readiness};
