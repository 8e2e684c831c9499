//! The control plane: translates Kubernetes objects into the configuration of the proxies, and writes statuses.

pub mod cluster_issuer;
pub mod cluster_state;
mod days;
mod fields;
pub mod gateway_api;
pub mod internals;
mod lower;
pub mod manifests;
pub mod metrics;
pub mod objects;
mod problem;
pub mod publish;
pub mod random;
pub mod report;
pub mod run;
pub mod settings;
pub mod sts;
pub mod translate;
pub mod warning;
pub mod watch;
