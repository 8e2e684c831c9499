//! Where configuration comes from: the operator's stream, the last known good on disk, a saved file, or a channel.
//! `compile` turns the parts into what serves requests.

mod dial;
pub mod file;
mod sink;
mod step;
pub mod store;
pub mod stream;
mod subscriber;

pub use sink::{Apply, Sink};
pub(crate) use step::Configuration;
pub use step::DeltaError;
pub use subscriber::Subscriber;
