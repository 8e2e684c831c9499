//! Response caching: which responses are stored and for how long, and which requests share one.

mod budget;
mod coalesce;
mod conditional;
mod control;
mod fetch;
mod fill;
mod fingerprint;
mod invalidated;
mod key;
mod phase;
mod policy;
mod store;
mod stored;
mod vary;

pub(crate) use conditional::{headers_of_not_modified, not_modified, remove_conditions};
pub(crate) use fetch::{Lead, Look, Waited};
pub(crate) use fill::Fill;
pub(crate) use fingerprint::RuleAtStage;
pub(crate) use key::{CallerKey, Key, Target};
pub(crate) use phase::{NotStored, Phase};
pub(crate) use policy::{
    CachePolicy, IGNORED_WARNING, INVALIDATE_SCOPE, Invalidate, ReceivedResponse, Storable, invalidation,
};
pub(crate) use store::Cache;
pub(crate) use stored::{Head, MAX_BODY_BYTES, Stored};

#[cfg(test)]
mod tests;
