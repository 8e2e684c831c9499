//! Response caching: which responses are stored and for how long, and which requests share one.

mod budget;
mod coalesce;
mod fetch;
mod fill;
mod fingerprint;
mod key;
mod phase;
mod policy;
mod store;
mod stored;

pub(crate) use fetch::{Lead, Look, Waited};
pub(crate) use fill::Fill;
pub(crate) use fingerprint::RuleAtStage;
pub(crate) use key::{CallerKey, Key};
pub(crate) use phase::{NotStored, Phase};
pub(crate) use policy::{CachePolicy, IGNORED_WARNING, Invalidate, ReceivedResponse, invalidation};
pub(crate) use store::Cache;
pub(crate) use stored::{Head, MAX_BODY_BYTES, Stored};

#[cfg(test)]
mod tests;
