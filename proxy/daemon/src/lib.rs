//! Logging, signals, readiness, file descriptors, places of connections and the admin endpoint of both programs. Independent of
//! configuration and requests.

pub mod admin;
pub mod files;
pub mod logging;
pub mod places;
pub mod readiness;
pub mod signals;

pub use places::{Place, Places, source_of};
pub use readiness::{Blocker, Readiness};
