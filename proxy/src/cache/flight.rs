//! One request to the backend per missing answer: who fetches it, who waits for it, and for how long.
//! The answers themselves are in `cache`; the copy of one that is still arriving is in `fill`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::{Cache, Head, Key, Stored};

/// How long an answer that has begun may take to become whole, before those who wait for it stop waiting: it arrives as
/// fast as one client reads, and that client is not theirs.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// How far a leader is.
#[derive(Debug)]
enum Progress {
    /// The backend has not answered.
    Asked,
    /// The answer's head is there, since then.
    Arriving(Instant),
    /// The answer is whole.
    Whole(Arc<Stored>),
}

#[derive(Debug)]
struct Flight {
    /// Tells it from a later flight for the same key.
    id: u64,
    progress: watch::Receiver<Progress>,
}

/// The answers that are being fetched.
#[derive(Debug, Default)]
pub(super) struct Flights {
    under_way: Mutex<HashMap<Key, Flight>>,
}

/// What a look among the flights finds.
pub(super) enum Boarded {
    Lead(Lead),
    Wait(Wait),
}

impl Flights {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Flight>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Joins the flight for a key, or begins one. `landed` is asked under the lock: a leader may have come home since
    /// the caller looked.
    pub(super) fn board(
        cache: &Arc<Cache>,
        key: Key,
        landed: impl FnOnce() -> Option<Arc<Stored>>,
    ) -> Result<Boarded, Arc<Stored>> {
        let mut flights = cache.flights.lock();
        match flights.entry(key) {
            Entry::Occupied(flight) => {
                let Flight { id, progress } = flight.get();
                Ok(Boarded::Wait(Wait { cache: Arc::clone(cache), key, id: *id, progress: progress.clone() }))
            }
            Entry::Vacant(vacant) => {
                if let Some(stored) = landed() {
                    return Err(stored);
                }
                let id = cache.next_flight();
                let (sender, progress) = watch::channel(Progress::Asked);
                vacant.insert(Flight { id, progress });
                Ok(Boarded::Lead(Lead { cache: Arc::clone(cache), key, flight: Some((id, sender)) }))
            }
        }
    }

    /// Takes one flight away; a later one for the same key stays.
    fn end(&self, key: &Key, id: u64) {
        let mut flights = self.lock();
        if flights.get(key).is_some_and(|flight| flight.id == id) {
            flights.remove(key);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }
}

/// The right to fetch an answer for all who wait. Dropped without [`Lead::keep`] it lets another of them do it.
#[must_use]
pub(crate) struct Lead {
    pub(super) cache: Arc<Cache>,
    key: Key,
    flight: Option<(u64, watch::Sender<Progress>)>,
}

impl Lead {
    /// One whom nobody waits for.
    pub(super) fn alone(cache: &Arc<Cache>, key: Key) -> Self {
        Self { cache: Arc::clone(cache), key, flight: None }
    }

    /// The answer has begun, and is copied while it goes on to the leader's own client.
    pub(super) fn arriving(&self, now: Instant) {
        if let Some((_, sender)) = &self.flight {
            sender.send_replace(Progress::Arriving(now));
        }
    }

    /// Keeps the answer and hands it to all who wait. Nothing that is kept shares memory with the connection it came by.
    pub(crate) fn keep(mut self, head: Head, body: Box<[u8]>) {
        let stored = Arc::new(head.with_body(Bytes::from(body)));
        self.cache.insert(self.key, Arc::clone(&stored));
        if let Some((id, sender)) = self.flight.take() {
            sender.send_replace(Progress::Whole(stored));
            self.cache.flights.end(&self.key, id);
        }
    }

    /// The answer cannot be kept: for a while requests for it do not wait for each other.
    pub(crate) fn pass(self, now: Instant) {
        self.cache.set_apart(self.key, now);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some((id, sender)) = self.flight.take() {
            // First: whoever learns of the end looks again, and must not find this flight.
            self.cache.flights.end(&self.key, id);
            drop(sender);
        }
    }
}

impl std::fmt::Debug for Lead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lead")
    }
}

/// Another request's answer, once it is there.
pub(crate) struct Wait {
    cache: Arc<Cache>,
    key: Key,
    id: u64,
    progress: watch::Receiver<Progress>,
}

/// How a wait ends.
#[derive(Debug)]
pub(crate) enum Waited {
    /// With the answer.
    Answer(Arc<Stored>),
    /// The leader is gone, or too slow: look again. Of all who do, one leads.
    Again,
    /// The backend answers, but not in time for this request: it goes on by itself.
    Alone,
    /// The backend has not answered in time.
    Late,
}

impl Wait {
    /// Waits until `deadline` for the answer.
    pub(crate) async fn answer(mut self, deadline: Instant) -> Waited {
        loop {
            let arriving = match &*self.progress.borrow_and_update() {
                Progress::Whole(stored) => return Waited::Answer(Arc::clone(stored)),
                Progress::Arriving(since) => Some(*since + PATIENCE),
                Progress::Asked => None,
            };
            let until = arriving.map_or(deadline, |patience| patience.min(deadline));
            match timeout_at(until.into(), self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Waited::Again,
                Err(_) if arriving.is_none() => return Waited::Late,
                Err(_) => {
                    self.cache.flights.end(&self.key, self.id);
                    return if until < deadline { Waited::Again } else { Waited::Alone };
                }
            }
        }
    }
}

impl std::fmt::Debug for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wait")
    }
}
