//! Watches an API server into a `ClusterState`. `translate` translates the objects.

use std::time::Duration;

mod barrier;
mod event;
mod follow;
mod issuer;
mod manager;
mod named;

pub use manager::{WatchSettings, run};

/// The longest time without data from the API server: a little longer than a watch without any event.
pub const READ_TIMEOUT: Duration = Duration::from_secs(55);
