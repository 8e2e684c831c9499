//! The example servers of the quickstart: a backend and an identity provider. They are for trials and tests.

pub(crate) mod backend;
pub(crate) mod idp;
mod serve;

pub(crate) use serve::Server;
