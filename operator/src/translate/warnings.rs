//! Finds what is valid, but probably not what was meant. A file for the kinds that have such fields; what a warning is and how
//! it is silenced is in `warning`.

pub(crate) mod api_routes;
pub(crate) mod authorizers;
pub(crate) mod certificates;
mod expressions;
mod identity_sources;
pub(crate) mod keys;
pub(crate) mod policies;
pub(crate) mod principals;
pub(crate) mod revocation;
mod shared;
