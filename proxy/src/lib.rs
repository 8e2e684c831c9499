//! Sluice's data plane: accepts requests, judges them by one compiled configuration and passes them on.
//! Where configuration comes from is [`config`]'s business; how objects become parts is the operator's.

mod auth;
mod cache;
mod compile;
pub mod config;
mod cors;
mod deadline;
mod dialling;
mod exchange;
mod gateway;
mod headers;
mod id;
mod integration;
mod key;
mod limit;
mod listen;
mod observe;
mod pipeline;
mod reject;
pub mod run;
mod state;
