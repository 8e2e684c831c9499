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

/// The calls of one authorizer.
pub(super) struct Calls {
    /// Where they run: the end of the request that began one does not end it.
    runtime: Handle,
    remembered: Arc<Remembered>,
    waiting: AtomicUsize,
    under_way: Mutex<HashMap<Hash, Awaited>>,
}

impl Calls {
    pub(super) fn new(runtime: Handle, remembered: Arc<Remembered>) -> Arc<Self> {
        Arc::new(Self { runtime, remembered, waiting: AtomicUsize::new(0), under_way: Mutex::default() })
    }

    fn under_way(&self) -> MutexGuard<'_, HashMap<Hash, Awaited>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The result of `call`, or of a call for the same credential that is under way. Both have a deadline of their own, `within`.
    pub(super) async fn join(
        self: &Arc<Self>,
        digest: Hash,
        within: Duration,
        call: impl Future<Output = CallResult> + Send + 'static,
    ) -> CallResult {
        let _place = Place::take(&self.waiting).ok_or(TokenError::Busy)?;
        let mut awaited = match self.begin(digest, call)? {
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
        call: impl Future<Output = CallResult> + Send + 'static,
    ) -> Result<Joined, TokenError> {
        let mut under_way = self.under_way();
        if let Some(awaited) = under_way.get(&digest) {
            return Ok(Joined::Call(awaited.clone()));
        }
        // A call may have ended since the request looked.
        if let Some(grant) = self.remembered.get(&RememberKey::Digest(digest), SystemTime::now(), |_| Some(0)) {
            return Ok(Joined::Remembered(grant));
        }
        if under_way.len() >= MAX_WAITING {
            return Err(TokenError::Busy);
        }
        let (sender, awaited) = watch::channel(None);
        under_way.insert(digest, awaited.clone());
        drop(under_way);
        let entry = Entry { calls: self.clone(), digest };
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
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.calls.under_way().remove(&self.digest);
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

    fn grant(expires: SystemTime) -> Grant {
        let identity = Identity {
            kind: "Test",
            id: Some("ann".into()),
            scopes: Vec::new(),
            attributes: Map::new(),
            expires,
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
                calls.join(token, LONG, async move {
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
        let again = calls.join(token, LONG, async { panic!("it is remembered") }).await;
        assert_eq!((again.is_ok(), count.load(Ordering::Relaxed)), (true, 1));
        assert_eq!((calls.waiting.load(Ordering::Relaxed), calls.under_way().len()), (0, 0));
    }

    #[tokio::test]
    async fn failures_and_what_has_expired_are_not_remembered() {
        let (calls, count) = (calls(), Arc::new(AtomicU32::new(0)));
        for result in [Err(TokenError::Inactive), Err(TokenError::Unavailable), Ok(grant(SystemTime::now()))] {
            for _ in 0..2 {
                let (count, result) = (count.clone(), result.clone());
                let got = calls.join(Hash::of(b"token"), LONG, async move {
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
        let failed = calls.join(Hash::of(b"token"), LONG, async { panic!("a defect") }).await;
        assert_eq!(failed.err(), Some(TokenError::CallFailed));
        let next = calls.join(Hash::of(b"token"), LONG, async { Ok(grant(SystemTime::now() + LONG)) }).await;
        assert!(next.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_256_requests_wait_and_each_for_a_limited_time() {
        let calls = calls();
        let never = |number: usize| {
            let calls = calls.clone();
            async move { calls.join(Hash::of(&number.to_be_bytes()), LONG, std::future::pending()).await }
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
        assert_eq!(calls.under_way().len(), MAX_WAITING);
        assert_eq!(never(MAX_WAITING).await.err(), Some(TokenError::Busy));
    }
}
