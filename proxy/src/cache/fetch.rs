//! What a request does with the cache: a hit, the fetch of a missing response, or the wait for another request's fetch.
//! The copy of a response that is still arriving is in `fill`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::timeout_at;

use super::coalesce::{Joined, Progress};
use super::key::Key;
use super::store::Cache;
use super::stored::{Head, Stored};

/// How long a response that has begun may take until it is filled, before coalesced requests stop waiting: it arrives as
/// fast as one client reads, and that client is not theirs.
pub(super) const FILL_TIMEOUT: Duration = Duration::from_secs(1);

/// The result of a look-up.
#[derive(Debug)]
pub(crate) enum Look {
    /// A fresh response.
    Hit(Arc<Stored>),
    /// A miss: this request fetches the response.
    Lead(Lead),
    /// A miss: another request is fetching the response.
    Wait(Wait),
}

impl Cache {
    /// Looks up a response. Of several requests that miss, one leads and the others wait for it.
    pub(crate) fn look(self: &Arc<Self>, key: Key, now: Instant) -> Look {
        if let Some(hit) = self.fresh(&key, now) {
            return Look::Hit(hit);
        }
        if self.is_hit_for_miss(&key, now) {
            return Look::Lead(Lead { cache: Arc::clone(self), key, fetch: None, hit_for_miss: true });
        }
        match self.fetches.join(key, now, || self.fresh(&key, now), |began| self.is_invalid(&key, began)) {
            Ok(Joined::First(id, sender)) => {
                Look::Lead(Lead { cache: Arc::clone(self), key, fetch: Some((id, sender)), hit_for_miss: false })
            }
            Ok(Joined::Other(id, progress)) => Look::Wait(Wait { cache: Arc::clone(self), key, id, progress }),
            Err(stored) => Look::Hit(stored),
        }
    }

    /// Fetches although a response may be stored: for a client that may refresh it. No request waits for it.
    pub(crate) fn refresh(self: &Arc<Self>, key: Key) -> Lead {
        Lead { cache: Arc::clone(self), key, fetch: None, hit_for_miss: false }
    }
}

/// The right to fetch a response for all that wait. Dropped without [`Lead::keep`], it lets another of them fetch it.
#[must_use]
pub(crate) struct Lead {
    pub(super) cache: Arc<Cache>,
    key: Key,
    fetch: Option<(u64, watch::Sender<Progress>)>,
    hit_for_miss: bool,
}

impl Lead {
    /// Whether a response to the same request could not be stored a short time ago.
    pub(crate) fn is_hit_for_miss(&self) -> bool {
        self.hit_for_miss
    }

    /// The response has begun, and is copied while it is sent to the leader's own client.
    pub(super) fn arriving(&self, now: Instant) {
        if let Some((_, sender)) = &self.fetch {
            sender.send_replace(Progress::Arriving(now));
        }
    }

    /// Stores the response and hands it to all that wait. It shares no memory with the connection that it came from.
    pub(crate) fn keep(mut self, head: Head, body: Box<[u8]>) {
        let mut head = head;
        let variant = head.variant.take();
        let key = variant.as_ref().map_or(self.key, |variant| variant.key);
        let stored = Arc::new(head.with_body(key, Bytes::from(body)));
        self.cache.insert(&stored, variant);
        if let Some((id, sender)) = self.fetch.take() {
            sender.send_replace(Progress::Filled(stored));
            self.cache.fetches.end(&self.key, id);
        }
    }

    /// The response cannot be stored: for a while, requests for it are not coalesced (hit-for-miss).
    pub(crate) fn pass(self, now: Instant) {
        self.cache.set_hit_for_miss(self.key, now);
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        if let Some((id, sender)) = self.fetch.take() {
            // First: a request that learns of the end looks again, and must not find this fetch.
            self.cache.fetches.end(&self.key, id);
            drop(sender);
        }
    }
}

impl std::fmt::Debug for Lead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lead")
    }
}

/// Waits for another request's fetch.
pub(crate) struct Wait {
    cache: Arc<Cache>,
    key: Key,
    id: u64,
    progress: watch::Receiver<Progress>,
}

/// How a wait ends.
#[derive(Debug)]
pub(crate) enum Waited {
    /// With the response.
    Response(Arc<Stored>),
    /// The leader is gone, or too slow: look again. Of all that do, one leads.
    Again,
    /// The backend responds, but not in time for this request: it fetches by itself.
    Alone,
    /// The backend has not responded in time.
    Late,
}

impl Wait {
    /// Waits until `deadline` for the response.
    pub(crate) async fn response(mut self, deadline: Instant) -> Waited {
        loop {
            let arriving = match &*self.progress.borrow_and_update() {
                Progress::Filled(stored) => return Waited::Response(Arc::clone(stored)),
                Progress::Arriving(since) => Some(*since + FILL_TIMEOUT),
                Progress::Requested => None,
            };
            let until = arriving.map_or(deadline, |filled| filled.min(deadline));
            match timeout_at(until.into(), self.progress.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Waited::Again,
                Err(_) if arriving.is_none() => return Waited::Late,
                Err(_) => {
                    self.cache.fetches.end(&self.key, self.id);
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
