//! Sluice's data plane: accepts requests, checks them against one compiled configuration and forwards them.
//! [`config`] receives configuration; the operator translates objects to parts.

mod access_review;
mod auth;
mod body;
mod cache;
mod client;
mod client_certificate;
mod compile;
pub mod config;
mod cors;
mod deadline;
pub mod explain;
mod gateway;
mod headers;
mod id;
mod integration;
#[doc(hidden)]
pub mod internals;
mod key;
mod key_use;
mod limit;
mod listen;
mod observe;
mod overload;
mod permission;
mod pipeline;
mod reject;
pub mod run;
mod source;
mod state;
mod template;
mod timeouts;
mod transport;

pub use access_review::AccessReviews;
pub use key_use::KeyUses;
pub use overload::Limits;
pub use timeouts::{Timeouts, UpstreamTimeouts};
