//! Where a received configuration is applied.

use sluice_wire::{Diagnostic, Part, PartName, Parts};

use crate::access_review::AccessReviews;
use crate::key_use::KeyUses;

/// Applies a configuration: all parts, the names of new and changed ones, the names of removed ones. It returns every object
/// of the whole configuration that cannot be served as written.
pub type Apply = Box<dyn FnMut(&Parts<Part>, &[PartName], &[PartName]) -> Vec<Diagnostic> + Send>;

/// Where a configuration is applied.
pub struct Sink {
    /// See [`Apply`].
    pub apply: Apply,
    /// How many proxies share each limit; at least 1.
    pub set_fleet: Box<dyn FnMut(u32) + Send>,
    /// Whether the operator's stream is connected.
    pub set_connected: Box<dyn FnMut(bool) + Send>,
    /// A configuration was rejected.
    pub rejected: Box<dyn FnMut() + Send>,
    /// The questions that the operator's stream takes.
    pub access_reviews: AccessReviews,
    /// The last uses of access keys, which the operator's stream reports.
    pub key_uses: KeyUses,
}
