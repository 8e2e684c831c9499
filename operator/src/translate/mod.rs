//! Translates the cluster state into configuration parts and desired statuses: pure and total, without I/O and without a
//! clock. `publish` sends the parts to proxies; `report` writes the statuses.

use crate::cluster_state::ClusterState;

mod api_keys;
mod api_routes;
mod authorizers;
mod budget;
mod ca;
mod caller;
mod changes;
mod client_auth;
mod conflicts;
mod days;
mod desired;
mod fleets;
mod hosts;
mod iam_authorizers;
mod incremental;
mod kind;
mod node;
mod object;
mod output;
mod policy;
mod principals;
mod references;
mod resource_policy;
mod routes;
mod secret_values;
mod service_ports;
mod stages;
mod statuses;
mod translation;
mod upstreams;
mod usage_plans;
mod view;
mod warnings;

pub use caller::{Caller, Role, SecretText};
pub use days::SigningDays;
pub use desired::{ClaimTime, DesiredStatus, Detail, Served, StageClaims};
pub use incremental::Translator;
pub(crate) use kind::Translate;
pub use statuses::{StatusChange, Statuses};
pub use translation::Translation;

/// Translates a cluster state from scratch, without a day: no signature is accepted.
#[must_use]
pub fn translate(state: &ClusterState) -> Translation {
    Translator::new().translate(state)
}
