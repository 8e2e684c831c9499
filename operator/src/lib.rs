//! The control plane: objects in, configuration and statuses out. What proxies do with configuration is theirs.

pub mod cluster_state;
mod fields;
mod lower;
pub mod manifests;
pub mod metrics;
pub mod objects;
mod problem;
pub mod publish;
pub mod report;
pub mod run;
pub mod settings;
pub mod translate;
pub mod watch;
