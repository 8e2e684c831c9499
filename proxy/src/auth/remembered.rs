//! Decisions that an authorizer remembers, by the credential that they were made for, or by its digest. They belong to one
//! compiled authorizer: a change of its policy forgets all of them.

use std::sync::Arc;
use std::time::SystemTime;

use foldhash::quality::RandomState;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use sluice_wire::Hash;

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
    /// The memory of the identity.
    memory: usize,
}

impl Grant {
    pub(super) fn new(identity: Identity, source: usize, generation: u64, names_key: bool) -> Self {
        let memory = identity.memory();
        Self { identity: Arc::new(identity), source, generation, names_key, memory }
    }

    /// With more memory that belongs to the identity.
    pub(super) fn with_memory(self, more: usize) -> Self {
        Self { memory: self.memory + more, ..self }
    }
}

/// What a decision is remembered by.
pub(super) enum RememberKey<'a> {
    /// The credential itself, where it is verified without a secret.
    Text(&'a str),
    /// Its digest, where it is a secret as a whole.
    Digest(Hash),
}

impl RememberKey<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Digest(digest) => digest.bytes(),
        }
    }
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Box<[u8]>, Grant> for Weigh {
    fn weight(&self, key: &Box<[u8]>, grant: &Grant) -> u64 {
        256 + (key.len() + grant.memory) as u64
    }
}

pub(super) struct Remembered(Cache<Box<[u8]>, Grant, Weigh, RandomState>);

impl Remembered {
    pub(super) fn new() -> Self {
        Self(Cache::with(MAX_ENTRIES, MAX_BYTES, Weigh, RandomState::default(), DefaultLifecycle::default()))
    }

    /// The grant for a credential, unless it has expired or its source has changed since.
    pub(super) fn get(
        &self,
        key: &RememberKey<'_>,
        now: SystemTime,
        generation: impl FnOnce(usize) -> Option<u64>,
    ) -> Option<Grant> {
        let grant = self.0.get(key.bytes())?;
        if grant.identity.expires > now && generation(grant.source) == Some(grant.generation) {
            return Some(grant);
        }
        self.0.remove(key.bytes());
        None
    }

    /// Remembers a grant until it expires.
    pub(super) fn insert(&self, key: &RememberKey<'_>, grant: Grant) {
        self.0.insert(key.bytes().into(), grant);
    }

    /// How many decisions there are, expired ones included that no request has asked for since.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
