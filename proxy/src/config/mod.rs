//! Where configuration comes from: the operator's stream, the last known good on disk, a saved file, or a channel.
//! What the parts mean is decided in `compile`.

mod dial;
pub mod file;
mod session;
mod step;
pub mod store;
pub mod subscribe;

use sluice_wire::{Diagnostic, Part, PartName, Parts};

pub use session::Session;
pub(crate) use step::Configuration;
pub use step::Refusal;

/// Puts a configuration in force: all parts, the names of those that are new or changed, the names of those that are
/// gone. It returns every object of the whole configuration that cannot be served as written.
pub type Apply = Box<dyn FnMut(&Parts<Part>, &[PartName], &[PartName]) -> Vec<Diagnostic> + Send>;

/// Where configuration goes.
pub struct Sink {
    /// See [`Apply`].
    pub apply: Apply,
    /// How many proxies share each limit; at least 1.
    pub set_fleet: Box<dyn FnMut(u32) + Send>,
    /// Whether the operator's stream is up.
    pub set_connected: Box<dyn FnMut(bool) + Send>,
    /// A configuration was refused.
    pub refused: Box<dyn FnMut() + Send>,
}
