//! The key sets of issuers: one per (issuer, source), kept fresh in the background, kept when the issuer is down.
//! Fetching one is `fetch`'s; using one is `authorizer`'s.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use sluice_wire::{Hash, Issuer, KeySource};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::fetch::{Fetch, FetchError};
use super::keys::{self, VerifyKey};

const REFRESH_EVERY: Duration = Duration::from_secs(300);
/// The last good set of an issuer that is down.
const KEEP_FOR: Duration = Duration::from_secs(24 * 3600);
/// Between two fetches that unknown keys cause.
const FLOOR: Duration = Duration::from_secs(10);
/// A key that was not there is not asked for again so soon.
const UNKNOWN_FOR: Duration = Duration::from_secs(30);
const MAX_UNKNOWN: usize = 1024;
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(30);
/// A discovery and a key set, each with its own deadline.
const WAIT_AT_MOST: Duration = Duration::from_secs(11);

/// Which set: a structure, so that equal key names of two issuers never meet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum SetId {
    Discovery { issuer: String },
    Uri { issuer: String, uri: String },
    Inline { issuer: String, text: String, hash: Hash },
}

impl SetId {
    pub(super) fn of(issuer: &Issuer) -> Self {
        let name = issuer.issuer.clone();
        match &issuer.keys {
            KeySource::Discovery => Self::Discovery { issuer: name },
            KeySource::Uri(uri) => Self::Uri { issuer: name, uri: uri.clone() },
            KeySource::Inline(text) => Self::Inline { issuer: name, hash: Hash::of(text.as_bytes()), text: text.clone() },
        }
    }

    fn issuer(&self) -> &str {
        match self {
            Self::Discovery { issuer } | Self::Uri { issuer, .. } | Self::Inline { issuer, .. } => issuer,
        }
    }
}

/// The keys of a set as they were fetched.
pub(super) struct Keys {
    keys: Vec<VerifyKey>,
    text: Hash,
    generation: u64,
}

impl Keys {
    /// The keys of that name; without a name all of them.
    pub(super) fn matching(&self, kid: Option<&str>) -> impl Iterator<Item = &VerifyKey> {
        self.keys.iter().filter(move |key| kid.is_none() || key.kid.as_deref() == kid)
    }
}

/// What a set has for a token.
pub(super) enum Found {
    /// Keys to try, and their generation.
    Keys(Arc<Keys>, u64),
    /// Nothing yet: [`KeySet::fetched`] first.
    Fetch,
    /// No such key.
    Unknown,
    /// No keys, and no hope right now.
    Unavailable,
}

#[derive(Debug, Default)]
struct Attempts {
    /// When keys last came.
    good: Option<Instant>,
    /// Whether the last attempt failed.
    failing: bool,
    /// When an unknown key last caused a fetch.
    asked: Option<Instant>,
    unknown: HashMap<String, Instant>,
}

/// One issuer's keys.
pub(super) struct KeySet {
    issuer: String,
    keys: ArcSwapOption<Keys>,
    fixed: bool,
    attempts: Mutex<Attempts>,
    /// Counts attempts that ended.
    ended: watch::Sender<u64>,
    wake: Arc<Notify>,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl KeySet {
    fn new(issuer: &str, fixed: bool) -> Self {
        Self {
            issuer: issuer.to_owned(),
            keys: ArcSwapOption::empty(),
            fixed,
            attempts: Mutex::default(),
            ended: watch::channel(0).0,
            wake: Arc::new(Notify::new()),
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, text: &[u8], now: Instant) -> Result<(), serde_json::Error> {
        let hash = Hash::of(text);
        let same = self.keys.load().as_ref().is_some_and(|keys| keys.text == hash);
        if !same {
            let keys = keys::parse(text)?;
            tracing::info!(issuer.name = self.issuer, issuer.keys = keys.len(), "an issuer's keys are in force");
            let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
            self.keys.store(Some(Arc::new(Keys { keys, text: hash, generation })));
        }
        let mut attempts = self.attempts();
        attempts.good = Some(now);
        attempts.failing = false;
        Ok(())
    }

    /// Whether there are keys that are not too old.
    pub(super) fn usable(&self) -> bool {
        self.generation().is_some()
    }

    /// Which keys are in force; none when there are none, or only ones that are too old.
    pub(super) fn generation(&self) -> Option<u64> {
        let generation = self.keys.load().as_ref()?.generation;
        (self.fixed || self.attempts().good.is_some_and(|at| at.elapsed() < KEEP_FOR)).then_some(generation)
    }

    /// Looks for the keys a token may be signed with.
    pub(super) fn find(&self, kid: Option<&str>) -> Found {
        let now = Instant::now();
        let loaded = self.keys.load_full();
        let attempts = self.attempts();
        let fresh = |at: Instant| now.saturating_duration_since(at) < KEEP_FOR;
        let Some(keys) = loaded.filter(|_| self.fixed || attempts.good.is_some_and(fresh)) else {
            return if attempts.failing { Found::Unavailable } else { Found::Fetch };
        };
        if keys.matching(kid).next().is_some() || kid.is_none() {
            let generation = keys.generation;
            return Found::Keys(keys, generation);
        }
        if self.fixed || !attempts.may_ask(kid, now) { Found::Unknown } else { Found::Fetch }
    }

    /// Waits until an attempt has ended, and causes one for a key that is not there. Bounded.
    pub(super) async fn fetched(&self, kid: Option<&str>) {
        let mut ended = self.ended.subscribe();
        ended.mark_unchanged();
        {
            let now = Instant::now();
            let mut attempts = self.attempts();
            if let Some(kid) = kid.filter(|_| attempts.good.is_some() && self.keys.load().is_some()) {
                if !attempts.known_unknown(kid, now) && attempts.floor_passed(now) {
                    attempts.asked = Some(now);
                    self.wake.notify_one();
                }
                attempts.remember_unknown(kid, now);
            } else if attempts.failing || attempts.good.is_some() {
                return;
            }
        }
        // The first set may have come before this waiter: nothing more will end soon then.
        if kid.is_none() && self.usable() {
            return;
        }
        drop(tokio::time::timeout(WAIT_AT_MOST, ended.changed()).await);
    }
}

impl Attempts {
    fn floor_passed(&self, now: Instant) -> bool {
        self.asked.is_none_or(|at| now.saturating_duration_since(at) >= FLOOR)
    }

    fn known_unknown(&self, kid: &str, now: Instant) -> bool {
        self.unknown.get(kid).is_some_and(|at| now.saturating_duration_since(*at) < UNKNOWN_FOR)
    }

    fn may_ask(&self, kid: Option<&str>, now: Instant) -> bool {
        kid.is_some_and(|kid| !self.known_unknown(kid, now)) && self.floor_passed(now)
    }

    fn remember_unknown(&mut self, kid: &str, now: Instant) {
        if self.unknown.len() >= MAX_UNKNOWN {
            self.unknown.retain(|_, at| now.saturating_duration_since(*at) < UNKNOWN_FOR);
            if self.unknown.len() >= MAX_UNKNOWN {
                return;
            }
        }
        self.unknown.entry(kid.to_owned()).or_insert(now);
    }
}

/// Every key set of this proxy.
pub(crate) struct KeySets {
    runtime: Handle,
    fetch: Arc<dyn Fetch>,
    sets: Mutex<HashMap<SetId, Weak<KeySet>>>,
}

impl KeySets {
    /// A registry that fetches on `runtime`.
    pub(crate) fn new(runtime: Handle, fetch: impl Fetch) -> Self {
        Self { runtime, fetch: Arc::new(fetch), sets: Mutex::default() }
    }

    /// The set, which begins to be fetched at once; an error for a set that stands in the configuration and is none.
    pub(super) fn get(&self, id: SetId) -> Result<Arc<KeySet>, String> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(&id).and_then(Weak::upgrade) {
            return Ok(set);
        }
        sets.retain(|_, set| set.strong_count() > 0);
        let set = Arc::new(KeySet::new(id.issuer(), matches!(id, SetId::Inline { .. })));
        if let SetId::Inline { issuer, text, .. } = &id {
            let unfit = |error| format!("The key set of issuer {issuer:?} is not a JSON Web Key Set ({error}).");
            set.put(text.as_bytes(), Instant::now()).map_err(unfit)?;
        } else {
            let follow = follow(Arc::downgrade(&set), id.clone(), Arc::clone(&self.fetch), Arc::clone(&set.wake));
            drop(self.runtime.spawn(follow));
        }
        sets.insert(id, Arc::downgrade(&set));
        Ok(set)
    }
}

/// Keeps one set fresh until nobody uses it.
async fn follow(set: Weak<KeySet>, id: SetId, fetch: Arc<dyn Fetch>, wake: Arc<Notify>) {
    let mut retry = FIRST_RETRY;
    loop {
        let result = load(&id, fetch.as_ref()).await;
        let Some(set) = set.upgrade() else { return };
        let result = result.and_then(|text| set.put(&text, Instant::now()).map_err(FetchError::from));
        let pause = match result {
            Ok(()) => {
                retry = FIRST_RETRY;
                REFRESH_EVERY
            }
            Err(error) => {
                set.attempts().failing = true;
                let error: &dyn std::error::Error = &error;
                let usable = set.usable();
                tracing::warn!(issuer.name = id.issuer(), issuer.usable = usable, error, "cannot fetch an issuer's keys");
                let pause = retry;
                retry = (retry * 2).min(LONGEST_RETRY);
                pause
            }
        };
        set.ended.send_modify(|count| *count += 1);
        drop(set);
        // An unknown key wakes at most once in `FLOOR`: see `fetched`.
        drop(tokio::time::timeout(pause, wake.notified()).await);
    }
}

async fn load(id: &SetId, fetch: &dyn Fetch) -> Result<Vec<u8>, FetchError> {
    match id {
        SetId::Uri { uri, .. } => fetch.get(uri).await,
        SetId::Discovery { issuer } => {
            let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
            let document: serde_json::Value = serde_json::from_slice(&fetch.get(&url).await?)?;
            // OpenID Connect Discovery 1.0, 4.3.
            if document.get("issuer").and_then(|said| said.as_str()) != Some(issuer) {
                return Err(FetchError::OtherIssuer);
            }
            let uri = document.get("jwks_uri").and_then(|uri| uri.as_str()).ok_or(FetchError::NoKeySet)?;
            if issuer.starts_with("https://") && !uri.starts_with("https://") {
                return Err(FetchError::NoKeySet);
            }
            fetch.get(uri).await
        }
        SetId::Inline { text, .. } => Ok(text.clone().into_bytes()),
    }
}
