//! Which missing responses are being fetched: of several requests for the same one, the first fetches it and the others
//! join it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::key::Key;
use super::stored::Stored;

/// The progress of a fetch.
#[derive(Debug)]
pub(super) enum Progress {
    /// The backend has not responded.
    Requested,
    /// The head of the response has arrived, since then.
    Arriving(Instant),
    /// The response is stored.
    Filled(Arc<Stored>),
}

#[derive(Debug)]
struct PendingFetch {
    /// Distinguishes it from a later fetch for the same key.
    id: u64,
    began: Instant,
    progress: watch::Receiver<Progress>,
}

/// The responses that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    under_way: Mutex<HashMap<Key, PendingFetch>>,
    next: AtomicU64,
}

/// How a request takes part in a fetch, with the number of the fetch.
pub(super) enum Joined {
    /// It fetches.
    First(u64, watch::Sender<Progress>),
    /// It waits.
    Other(u64, watch::Receiver<Progress>),
}

impl Fetches {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, PendingFetch>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the fetch for a key, or begins one. `filled` is called under the lock: a fetch may have ended since the caller
    /// looked. An error is the response. A fetch that is too old, as `outdated` says, is not joined: another one replaces it.
    pub(super) fn join(
        &self,
        key: Key,
        now: Instant,
        filled: impl FnOnce() -> Option<Arc<Stored>>,
        outdated: impl FnOnce(Instant) -> bool,
    ) -> Result<Joined, Arc<Stored>> {
        let mut fetches = self.lock();
        let entry = fetches.entry(key);
        match &entry {
            Entry::Occupied(fetch) if !outdated(fetch.get().began) => {
                return Ok(Joined::Other(fetch.get().id, fetch.get().progress.clone()));
            }
            Entry::Occupied(_) | Entry::Vacant(_) => {}
        }
        if let Some(stored) = filled() {
            return Err(stored);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, progress) = watch::channel(Progress::Requested);
        entry.insert_entry(PendingFetch { id, began: now, progress });
        Ok(Joined::First(id, sender))
    }

    /// Ends one fetch; a later one for the same key continues.
    pub(super) fn end(&self, key: &Key, id: u64) {
        let mut fetches = self.lock();
        if fetches.get(key).is_some_and(|fetch| fetch.id == id) {
            fetches.remove(key);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}
