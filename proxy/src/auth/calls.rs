//! Calls to other servers that decide about a credential. Requests with the same credential wait for one call; what it grants
//! is remembered, and failures are not. What is sent is decided by each kind of authorizer.

use std::collections::HashMap;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use sluice_wire::Hash;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::Instant;

use super::remembered::{Grant, RememberKey, Remembered};
use super::token_error::TokenError;

/// Requests that wait for one authorizer, and its calls under way. Further requests are rejected: a client that sends a new
/// credential in each request takes no more of the server, and of this proxy, than that.
const MAX_WAITING: usize = 256;
/// The result of a call that ends at its deadline arrives within this time.
const GRACE: Duration = Duration::from_secs(1);

/// What a call results in.
pub(super) type CallResult = Result<Grant, TokenError>;

type Awaited = watch::Receiver<Option<CallResult>>;

/// A call that others may wait for.
struct UnderWay {
    /// Distinguishes it from a later one for the same credential.
    number: u64,
    began: Instant,
    awaited: Awaited,
}

/// The calls of one authorizer.
pub(super) struct Calls {
    /// Where they run: the end of the request that began one does not end it.
    runtime: Handle,
    remembered: Arc<Remembered>,
    waiting: AtomicUsize,
    /// Calls, also those that no other request waits for any more.
    running: AtomicUsize,
    under_way: Mutex<HashMap<Hash, UnderWay>>,
}

impl Calls {
    pub(super) fn new(runtime: Handle, remembered: Arc<Remembered>) -> Arc<Self> {
        Arc::new(Self {
            runtime,
            remembered,
            waiting: AtomicUsize::new(0),
            running: AtomicUsize::new(0),
            under_way: Mutex::default(),
        })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Hash, UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of `call`, or of a call for the same credential that began less than `max_age` ago: an older one may have the
    /// result of an earlier time. Both have a deadline of their own, `within`.
    pub(super) async fn join(
        self: &Arc<Self>,
        digest: Hash,
        within: Duration,
        max_age: Duration,
        call: impl Future<Output = CallResult> + Send + 'static,
    ) -> CallResult {
        let _place = Place::take(&self.waiting).ok_or(TokenError::Busy)?;
        let mut awaited = match self.begin(digest, max_age, call)? {
            Joined::Remembered(grant) => return Ok(grant),
            Joined::Call(awaited) => awaited,
        };
        let ended = tokio::time::timeout(within + GRACE, awaited.wait_for(Option::is_some)).await;
        match ended {
            Ok(Ok(result)) => (*result).clone().unwrap_or(Err(TokenError::CallFailed)),
            // It panicked, or its own deadline did not end it.
            Err(_) | Ok(Err(_)) => Err(TokenError::CallFailed),
        }
    }

    fn begin(
        self: &Arc<Self>,
        digest: Hash,
        max_age: Duration,
        call: impl Future<Output = CallResult> + Send + 'static,
    ) -> Result<Joined, TokenError> {
        let mut under_way = self.under_way();
        let earlier = under_way.get(&digest);
        if let Some(recent) = earlier.filter(|earlier| earlier.began.elapsed() < max_age) {
            return Ok(Joined::Call(recent.awaited.clone()));
        }
        let number = earlier.map_or(0, |earlier| earlier.number + 1);
        // A call may have ended since the request looked.
        if let Some(grant) = self.remembered.get(&RememberKey::Digest(digest), SystemTime::now(), |_| Some(0)) {
            return Ok(Joined::Remembered(grant));
        }
        let more = |running: usize| (running < MAX_WAITING).then_some(running + 1);
        self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| TokenError::Busy)?;
        let (sender, awaited) = watch::channel(None);
        under_way.insert(digest, UnderWay { number, began: Instant::now(), awaited: awaited.clone() });
        drop(under_way);
        let entry = Entry { calls: self.clone(), digest, number };
        let work = async move {
            let result = call.await;
            if let Ok(grant) = &result
                && grant.identity.expires > SystemTime::now()
            {
                entry.calls.remembered.insert(&RememberKey::Digest(digest), grant.clone());
            }
            drop(entry);
            sender.send_replace(Some(result));
        };
        drop(self.runtime.spawn(work));
        Ok(Joined::Call(awaited))
    }
}

enum Joined {
    Remembered(Grant),
    Call(Awaited),
}

/// A request that waits.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let more = |waiting: usize| (waiting < MAX_WAITING).then_some(waiting + 1);
        waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call under way. It is dropped before its result is sent, also if the call panics.
struct Entry {
    calls: Arc<Calls>,
    digest: Hash,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.calls.running.fetch_sub(1, Ordering::Relaxed);
        let mut under_way = self.calls.under_way();
        if under_way.get(&self.digest).is_some_and(|call| call.number == self.number) {
            under_way.remove(&self.digest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures::future::join_all;
    use serde_json::Map;
    use tokio::sync::oneshot;

    use super::*;
    use crate::auth::identity::Identity;
    use crate::key::Presented;

    fn grant(expires: SystemTime) -> Grant {
        let identity = Identity {
            kind: "Test",
            id: Some("ann".into()),
            scopes: Vec::new(),
            attributes: Map::new(),
            expires,
            policies: None,
            api_key: Presented::Nothing,
            cache_identity: Box::default(),
        };
        Grant::new(identity, 0, 0, true)
    }

    fn calls() -> Arc<Calls> {
        Calls::new(Handle::current(), Arc::new(Remembered::new()))
    }

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn requests_with_one_credential_wait_for_one_call_and_then_for_none() {
        let (calls, count) = (calls(), Arc::new(AtomicU32::new(0)));
        let (token, later) = (Hash::of(b"token"), SystemTime::now() + LONG);
        let (release, released) = oneshot::channel::<()>();
        let mut released = Some(released);
        let all: Vec<_> = (0..100)
            .map(|_| {
                let (count, released) = (count.clone(), released.take());
                calls.join(token, LONG, LONG, async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    released.unwrap().await.unwrap();
                    Ok(grant(later))
                })
            })
            .collect();
        let released = async {
            while calls.waiting.load(Ordering::Relaxed) < 100 {
                tokio::task::yield_now().await;
            }
            release.send(()).unwrap();
        };
        let (results, ()) = tokio::join!(join_all(all), released);
        assert!(results.iter().all(Result::is_ok));
        let again = calls.join(token, LONG, LONG, async { panic!("it is remembered") }).await;
        assert_eq!((again.is_ok(), count.load(Ordering::Relaxed)), (true, 1));
        assert_eq!((calls.waiting.load(Ordering::Relaxed), calls.under_way().len()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_wait_for_a_call_that_is_older_than_results_may_be() {
        let (calls, token, ttl) = (calls(), Hash::of(b"token"), Duration::from_secs(2));
        let slow = |result: CallResult| async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            result
        };
        let later = SystemTime::now() + LONG;
        let begin = |result| {
            let calls = calls.clone();
            tokio::spawn(async move { calls.join(token, LONG, ttl, slow(result)).await })
        };
        let first = begin(Ok(grant(later)));
        tokio::time::sleep(ttl / 2).await;
        let joined = begin(Err(TokenError::Inactive));
        tokio::time::sleep(ttl / 2).await;
        // Revoked: the second call says so, and the end of the first one does not hide it from those that come later.
        let second = begin(Err(TokenError::Inactive));
        assert!(first.await.unwrap().is_ok() && joined.await.unwrap().is_ok());
        assert_eq!(calls.running.load(Ordering::Relaxed), 1);
        assert_eq!(calls.under_way().len(), 1);
        assert_eq!(second.await.unwrap().err(), Some(TokenError::Inactive));
        assert_eq!((calls.running.load(Ordering::Relaxed), calls.under_way().len()), (0, 0));
    }

    #[tokio::test]
    async fn failures_and_what_has_expired_are_not_remembered() {
        let (calls, count) = (calls(), Arc::new(AtomicU32::new(0)));
        for result in [Err(TokenError::Inactive), Err(TokenError::Unavailable), Ok(grant(SystemTime::now()))] {
            for _ in 0..2 {
                let (count, result) = (count.clone(), result.clone());
                let got = calls.join(Hash::of(b"token"), LONG, LONG, async move {
                    count.fetch_add(1, Ordering::Relaxed);
                    result
                });
                drop(got.await);
            }
        }
        assert_eq!((count.load(Ordering::Relaxed), calls.remembered.len()), (6, 0));
    }

    #[tokio::test]
    async fn a_call_that_panics_rejects_its_requests_and_the_next_one_calls_again() {
        let calls = calls();
        let failed = calls.join(Hash::of(b"token"), LONG, LONG, async { panic!("a defect") }).await;
        assert_eq!(failed.err(), Some(TokenError::CallFailed));
        let next = calls.join(Hash::of(b"token"), LONG, LONG, async { Ok(grant(SystemTime::now() + LONG)) }).await;
        assert!(next.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_256_requests_wait_and_each_for_a_limited_time() {
        let calls = calls();
        let never = |number: usize| {
            let calls = calls.clone();
            async move { calls.join(Hash::of(&number.to_be_bytes()), LONG, LONG, std::future::pending()).await }
        };
        let waiting: Vec<_> = (0..MAX_WAITING).map(|number| tokio::spawn(never(number))).collect();
        while calls.waiting.load(Ordering::Relaxed) < MAX_WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(never(0).await.err(), Some(TokenError::Busy));
        for request in waiting {
            assert_eq!(request.await.unwrap().err(), Some(TokenError::CallFailed));
        }
        // The calls are under way: no client causes more of them by disconnecting.
        assert_eq!(calls.running.load(Ordering::Relaxed), MAX_WAITING);
        assert_eq!(never(MAX_WAITING).await.err(), Some(TokenError::Busy));
    }
}
