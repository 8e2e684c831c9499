//! Writes statuses and Events about objects, and generates the keys that are missing.

mod debounce;
mod expected;
mod key_provisioner;
pub mod keys;
mod last_uses;
mod reporter;
mod status;
mod status_cache;
mod status_queue;
mod writer;

pub use reporter::Reporter;
pub use status_cache::StatusCache;
pub(crate) use status_queue::StatusQueue;
pub use writer::FIELD_MANAGER;
