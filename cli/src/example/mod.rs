//! The servers behind the quickstart: a backend and an identity provider, both real HTTP servers.
//! They exist to try Sluice out and to test it; nothing of the gateway is here.

pub(crate) mod backend;
pub(crate) mod idp;
mod serve;

pub(crate) use serve::Server;
