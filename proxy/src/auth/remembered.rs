//! Decisions that an authorizer remembers, by the credential that they were made for. They belong to one compiled authorizer:
//! a change of its policy forgets all of them.

use std::sync::Arc;
use std::time::SystemTime;

use foldhash::quality::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};

use super::identity::Identity;

/// Per authorizer.
const MAX_ENTRIES: usize = 16_384;
const MAX_BYTES: u64 = 16 << 20;

/// A caller that was identified, and what the decision depends on.
#[derive(Clone)]
pub(super) struct Grant {
    pub(super) identity: Arc<Identity>,
    /// Which of the authorizer's sources of trust it comes from, such as an issuer.
    pub(super) source: usize,
    /// The state of that source: the grant ends when the source has another one.
    pub(super) generation: u64,
    /// Whether the credential names the key that verifies it.
    pub(super) names_key: bool,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Box<str>, Grant> for Weigh {
    fn weight(&self, credential: &Box<str>, _: &Grant) -> u64 {
        // The attributes of a token are its middle part, parsed.
        256 + 4 * credential.len() as u64
    }
}

pub(super) struct Remembered(Cache<Box<str>, Grant, Weigh, RandomState>);

impl Remembered {
    pub(super) fn new() -> Self {
        Self(Cache::with(MAX_ENTRIES, MAX_BYTES, Weigh, RandomState::default(), DefaultLifecycle::default()))
    }

    /// The grant for a credential, unless it has expired or its source has changed since.
    pub(super) fn get(
        &self,
        credential: &str,
        now: SystemTime,
        generation: impl FnOnce(usize) -> Option<u64>,
    ) -> Option<Grant> {
        let grant = self.0.get(credential)?;
        if grant.identity.expires > now && generation(grant.source) == Some(grant.generation) {
            return Some(grant);
        }
        self.0.remove(credential);
        None
    }

    pub(super) fn insert(&self, credential: &str, grant: Grant) {
        self.0.insert(credential.into(), grant);
    }
}
