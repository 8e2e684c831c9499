//! The key sets of issuers: one per (issuer, source), refreshed in the background, kept while the issuer is down.
//! Documents are fetched by `fetch`; keys are used by the authorizer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use sluice_wire::{Hash, Issuer, KeySetError, KeySource};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};

use super::keys::{self, VerifyKey};
use crate::auth::fetch::{Fetch, FetchError};

const MAX_UNKNOWN: usize = 1024;
/// Stands for the name of a key where a token has none.
const UNNAMED: &str = "";

/// Times of a registry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timing {
    /// Between two fetches of a set while they succeed.
    pub(super) refresh_every: Duration,
    /// For how long the last good set of an issuer that is down is used.
    pub(super) keep_for: Duration,
    /// Minimum interval between two fetches that unknown keys cause.
    pub(super) min_interval: Duration,
    /// For how long a key that was not in the set does not cause another fetch.
    pub(super) unknown_for: Duration,
    /// After a failure; doubled up to `longest_retry`.
    pub(super) first_retry: Duration,
    pub(super) longest_retry: Duration,
}

const TIMING: Timing = Timing {
    refresh_every: Duration::from_secs(300),
    keep_for: Duration::from_secs(24 * 3600),
    min_interval: Duration::from_secs(10),
    unknown_for: Duration::from_secs(30),
    first_retry: Duration::from_secs(1),
    longest_retry: Duration::from_secs(30),
};

/// Which set. The issuer is part of it, so that equal key names of two issuers are never confused.
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
            KeySource::Inline(text) => {
                Self::Inline { issuer: name, hash: Hash::of(text.as_bytes()), text: text.clone() }
            }
        }
    }

    fn issuer(&self) -> &str {
        match self {
            Self::Discovery { issuer } | Self::Uri { issuer, .. } | Self::Inline { issuer, .. } => issuer,
        }
    }
}

/// The keys of a set.
pub(super) struct IssuerKeys {
    keys: Vec<VerifyKey>,
    text: Hash,
    generation: u64,
}

impl IssuerKeys {
    /// The keys that a token with this name may be signed with: those of the name, and those without one; for a token without a name all
    /// of them.
    pub(super) fn candidates(&self, kid: Option<&str>) -> impl Iterator<Item = &VerifyKey> {
        self.keys.iter().filter(move |key| kid.is_none() || key.kid.is_none() || key.kid.as_deref() == kid)
    }

    /// Whether a key has this name.
    fn has(&self, kid: Option<&str>) -> bool {
        kid.is_some() && self.keys.iter().any(|key| key.kid.as_deref() == kid)
    }
}

/// The keys of a set for a token.
pub(super) enum KeyLookup {
    /// Keys to try, and their generation.
    Keys(Arc<IssuerKeys>, u64),
    /// Nothing yet: [`KeySet::fetched`] first.
    Fetch,
    /// No such key.
    Unknown,
    /// No keys, and the last fetch failed.
    Unavailable,
}

#[derive(Debug, Default)]
struct Attempts {
    /// Attempts that have begun, and those that have ended.
    begun: u64,
    ended: u64,
    /// Whether the last attempt failed.
    failing: bool,
    /// The number of the attempt that an unknown key caused. It began after the key was seen: an earlier one may have read
    /// the set when the key was not in it yet.
    caused: u64,
    /// When an unknown key last caused one.
    requested: Option<Instant>,
    unknown: HashMap<String, Instant>,
}

/// One issuer's keys.
pub(super) struct KeySet {
    issuer: String,
    timing: Timing,
    keys: ArcSwapOption<IssuerKeys>,
    fixed: bool,
    /// Milliseconds after `EPOCH` at which the keys are too old: every request reads it.
    good_until: AtomicU64,
    attempts: Mutex<Attempts>,
    /// How many attempts have ended.
    ended: watch::Sender<u64>,
    wake: Arc<Notify>,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

fn clock() -> u64 {
    u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl KeySet {
    fn new(issuer: &str, fixed: bool, timing: Timing) -> Self {
        Self {
            issuer: issuer.to_owned(),
            timing,
            keys: ArcSwapOption::empty(),
            fixed,
            good_until: AtomicU64::new(0),
            attempts: Mutex::default(),
            ended: watch::channel(0).0,
            wake: Arc::new(Notify::new()),
        }
    }

    fn attempts(&self) -> MutexGuard<'_, Attempts> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Uses a set from now on. One without a usable key changes nothing.
    fn put(&self, text: &[u8]) -> Result<(), KeySetError> {
        let hash = Hash::of(text);
        let same = self.keys.load().as_ref().is_some_and(|keys| keys.text == hash);
        if !same {
            let (keys, skipped) = keys::parse(text)?;
            if let Some(reasons) = keys::unexpected(&skipped) {
                tracing::warn!(issuer.name = self.issuer, reasons, "keys of a key set are skipped");
            }
            tracing::info!(issuer.name = self.issuer, issuer.keys = keys.len(), "key set updated");
            let generation = GENERATIONS.fetch_add(1, Ordering::Relaxed);
            self.keys.store(Some(Arc::new(IssuerKeys { keys, text: hash, generation })));
        }
        let keep = u64::try_from(self.timing.keep_for.as_millis()).unwrap_or(u64::MAX);
        let until = if self.fixed { u64::MAX } else { clock().saturating_add(keep) };
        self.good_until.store(until, Ordering::Release);
        Ok(())
    }

    fn in_time(&self) -> bool {
        clock() < self.good_until.load(Ordering::Acquire)
    }

    /// Whether there are keys that are not too old.
    pub(super) fn usable(&self) -> bool {
        self.generation().is_some()
    }

    /// Which keys are used; none when there are none, or only ones that are too old.
    pub(super) fn generation(&self) -> Option<u64> {
        let generation = self.keys.load().as_ref()?.generation;
        self.in_time().then_some(generation)
    }

    /// The keys that are in use.
    pub(super) fn find(&self) -> KeyLookup {
        self.present(None).unwrap_or_else(|| self.look(None, None, &self.attempts()))
    }

    /// What to do about a token that no key of this generation verifies: a key of its name may be new, and so may each key if it has no name.
    pub(super) fn missing(&self, kid: Option<&str>, generation: u64) -> KeyLookup {
        self.look(kid, Some(generation), &self.attempts())
    }

    /// The keys, if they are of another generation than the one that was tried.
    fn present(&self, tried: Option<u64>) -> Option<KeyLookup> {
        let keys = self.keys.load_full().filter(|_| self.in_time())?;
        let generation = keys.generation;
        (tried != Some(generation)).then_some(KeyLookup::Keys(keys, generation))
    }

    /// While no attempt can end: a set that arrived after the first look is seen by this one.
    fn look(&self, kid: Option<&str>, tried: Option<u64>, attempts: &Attempts) -> KeyLookup {
        if let Some(found) = self.present(tried) {
            return found;
        }
        if !self.usable() {
            return if attempts.failing { KeyLookup::Unavailable } else { KeyLookup::Fetch };
        }
        let known = self.keys.load().as_ref().is_some_and(|keys| keys.has(kid));
        let may_fetch = !self.fixed && !known && attempts.may_ask(kid.unwrap_or(UNNAMED), &self.timing, Instant::now());
        if may_fetch { KeyLookup::Fetch } else { KeyLookup::Unknown }
    }

    /// Waits until a fetch has ended, and causes one for a key that is not in the set of a generation.
    pub(super) async fn fetched(&self, kid: Option<&str>, tried: Option<u64>, at_most: Duration) {
        let Some(awaited) = self.awaited(kid, tried) else { return };
        let mut ended = self.ended.subscribe();
        drop(tokio::time::timeout(at_most, ended.wait_for(|ended| *ended >= awaited)).await);
        // Without a name it is known only that the same keys do not verify the token.
        let lacks = |keys: &IssuerKeys| if kid.is_some() { !keys.has(kid) } else { Some(keys.generation) == tried };
        if self.keys.load().as_ref().is_some_and(|keys| lacks(keys)) {
            self.attempts().remember_unknown(kid.unwrap_or(UNNAMED), &self.timing, Instant::now());
        }
    }

    /// The number of the attempt that a token waits for; none when the keys have arrived, or when no attempt may be caused.
    fn awaited(&self, kid: Option<&str>, tried: Option<u64>) -> Option<u64> {
        let mut attempts = self.attempts();
        if !matches!(self.look(kid, tried, &attempts), KeyLookup::Fetch) {
            return None;
        }
        if !self.usable() {
            return Some(attempts.ended + 1);
        }
        if !attempts.pending() {
            attempts.caused = attempts.begun + 1;
            attempts.requested = Some(Instant::now());
            self.wake.notify_one();
        }
        Some(attempts.caused)
    }

    fn attempt_began(&self) {
        self.attempts().begun += 1;
    }

    fn attempt_ended(&self, failed: bool) {
        let mut attempts = self.attempts();
        attempts.failing = failed;
        attempts.ended += 1;
        self.ended.send_replace(attempts.ended);
    }
}

impl Drop for KeySet {
    fn drop(&mut self) {
        // Its task ends at once instead of at the next refresh.
        self.wake.notify_one();
    }
}

impl Attempts {
    /// Whether an attempt that an unknown key caused has not ended yet.
    fn pending(&self) -> bool {
        self.caused > self.ended
    }

    fn known_unknown(&self, kid: &str, timing: &Timing, now: Instant) -> bool {
        self.unknown.get(kid).is_some_and(|at| now.saturating_duration_since(*at) < timing.unknown_for)
    }

    fn may_ask(&self, kid: &str, timing: &Timing, now: Instant) -> bool {
        let interval_passed = self.requested.is_none_or(|at| now.saturating_duration_since(at) >= timing.min_interval);
        !self.known_unknown(kid, timing, now) && (self.pending() || interval_passed)
    }

    fn remember_unknown(&mut self, kid: &str, timing: &Timing, now: Instant) {
        self.unknown.retain(|_, at| now.saturating_duration_since(*at) < timing.unknown_for);
        if self.unknown.len() < MAX_UNKNOWN {
            self.unknown.entry(kid.to_owned()).or_insert(now);
        }
    }
}

/// Every key set of this proxy.
pub(crate) struct KeySets {
    runtime: Handle,
    fetch: Arc<dyn Fetch>,
    timing: Timing,
    sets: Mutex<HashMap<SetId, Weak<KeySet>>>,
}

impl KeySets {
    /// A registry that fetches on `runtime`.
    pub(crate) fn new(runtime: Handle, fetch: impl Fetch) -> Self {
        Self::with_timing(runtime, fetch, TIMING)
    }

    pub(super) fn with_timing(runtime: Handle, fetch: impl Fetch, timing: Timing) -> Self {
        Self { runtime, fetch: Arc::new(fetch), timing, sets: Mutex::default() }
    }

    /// The set, which is fetched at once; an error for an inline set that is not valid.
    pub(super) fn get(&self, id: SetId) -> Result<Arc<KeySet>, String> {
        let mut sets = self.sets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = sets.get(&id).and_then(Weak::upgrade) {
            return Ok(set);
        }
        sets.retain(|_, set| set.strong_count() > 0);
        let set = Arc::new(KeySet::new(id.issuer(), matches!(id, SetId::Inline { .. }), self.timing));
        if let SetId::Inline { issuer, text, .. } = &id {
            set.put(text.as_bytes()).map_err(|error| format!("The key set of issuer {issuer:?} {error}."))?;
        } else {
            let follow = follow(Arc::downgrade(&set), id.clone(), Arc::clone(&self.fetch), Arc::clone(&set.wake));
            drop(self.runtime.spawn(follow));
        }
        sets.insert(id, Arc::downgrade(&set));
        Ok(set)
    }
}

/// Refreshes one set until no authorizer uses it.
async fn follow(set: Weak<KeySet>, id: SetId, fetch: Arc<dyn Fetch>, wake: Arc<Notify>) {
    let mut retry = Duration::ZERO;
    loop {
        let Some(begins) = set.upgrade() else { return };
        begins.attempt_began();
        drop(begins);
        let result = load(&id, fetch.as_ref()).await;
        let Some(set) = set.upgrade() else { return };
        let timing = set.timing;
        let result = result.and_then(|text| Ok(set.put(&text)?));
        let pause = match &result {
            Ok(()) => {
                retry = Duration::ZERO;
                timing.refresh_every
            }
            Err(error) => {
                let error: &dyn std::error::Error = error;
                let usable = set.usable();
                tracing::warn!(issuer.name = id.issuer(), issuer.usable = usable, error, "cannot fetch a key set");
                retry = (retry * 2).clamp(timing.first_retry, timing.longest_retry);
                retry
            }
        };
        set.attempt_ended(result.is_err());
        drop(set);
        // An unknown key wakes the task at most once in `min_interval`: see `fetched`.
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
            if document.get("issuer").and_then(|value| value.as_str()) != Some(issuer) {
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
