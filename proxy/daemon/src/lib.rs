//! What both programs need to be good daemons: logging, signals, readiness and the admin endpoint.
//! Nothing here knows about configuration or requests.

pub mod admin;
pub mod logging;
pub mod readiness;
pub mod signals;

pub use readiness::{Blocker, Readiness};
