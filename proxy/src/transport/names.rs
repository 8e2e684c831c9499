//! Look-up of names, and racing of several addresses. One look-up serves all requests; its result is used for some seconds,
//! and for longer while the resolver fails.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

/// A result is looked up again after this long.
const FRESH: Duration = Duration::from_secs(5);
/// While the resolver fails or does not respond, its last result is used for this long.
const STALE: Duration = Duration::from_secs(300);
/// A look-up is waited for this long where there is an older result.
const LOOKUP_WAIT: Duration = Duration::from_millis(500);
/// After a failure the resolver is not asked for this long.
const FAILED: Duration = Duration::from_secs(1);
/// The next address is tried when the one before has not connected after this long (RFC 8305, section 5: Connection
/// Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

type Addresses = Arc<[SocketAddr]>;

/// A host and port, and its addresses as far as they are known.
pub(crate) struct Name {
    host: Box<str>,
    port: u16,
    state: Mutex<LookupState>,
    changed: Notify,
}

#[derive(Default)]
struct LookupState {
    known: Option<(Addresses, Instant)>,
    failed: Option<(io::ErrorKind, Instant)>,
    /// One look-up at a time: a resolver that hangs holds one thread, not one for each request.
    looking_up: bool,
}

impl Name {
    pub(crate) fn new(host: &str, port: u16) -> Arc<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']').into();
        Arc::new(Self { host, port, state: Mutex::default(), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, LookupState> {
        // Poison would mean a panic between two statements that cannot panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The current addresses.
    pub(crate) async fn addresses(self: &Arc<Self>) -> io::Result<Addresses> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(address, self.port)]));
        }
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // No change is missed after this.
            changed.as_mut().enable();
            if let Some(known) = self.known(Instant::now()) {
                return known;
            }
            if tokio::time::timeout(LOOKUP_WAIT, changed).await.is_err()
                && let Some(stale) = self.state().stale(Instant::now())
            {
                return Ok(stale);
            }
        }
    }

    /// The result that is known; none: a look-up is running now.
    fn known(self: &Arc<Self>, now: Instant) -> Option<io::Result<Addresses>> {
        let mut state = self.state();
        if let Some((addresses, since)) = &state.known
            && now.duration_since(*since) < FRESH
        {
            return Some(Ok(addresses.clone()));
        }
        if let Some((kind, since)) = state.failed
            && now.duration_since(since) < FAILED
        {
            return Some(state.stale(now).ok_or_else(|| kind.into()));
        }
        if !state.looking_up {
            state.looking_up = true;
            tokio::spawn(look_up(LookUp(self.clone())));
        }
        None
    }
}

impl LookupState {
    fn stale(&self, now: Instant) -> Option<Addresses> {
        self.known.as_ref().filter(|(_, since)| now.duration_since(*since) < STALE).map(|(list, _)| list.clone())
    }
}

/// A look-up in progress. Its drop allows the next one, however it ended.
struct LookUp(Arc<Name>);

impl Drop for LookUp {
    fn drop(&mut self) {
        self.0.state().looking_up = false;
        self.0.changed.notify_waiters();
    }
}

async fn look_up(running: LookUp) {
    let name = &running.0;
    let found = tokio::net::lookup_host((&*name.host, name.port)).await.map(|list| list.collect::<Vec<_>>());
    let mut state = name.state();
    match found {
        Ok(list) if !list.is_empty() => {
            state.known = Some((list.into(), Instant::now()));
            state.failed = None;
        }
        Ok(_) => state.failed = Some((io::ErrorKind::NotFound, Instant::now())),
        Err(error) => {
            tracing::debug!(host = %name.host, %error, "cannot resolve a name");
            state.failed = Some((error.kind(), Instant::now()));
        }
    }
}

/// Races addresses and returns the first connection. A later address starts when those before it have failed or are slow
/// (RFC 8305; the order is the resolver's). None: there is no address.
pub(crate) async fn race<T, E, F>(addresses: &[SocketAddr], dial: impl Fn(SocketAddr) -> F) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut rest = addresses.iter();
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    loop {
        match rest.next() {
            Some(address) => attempts.push(dial(*address)),
            None if attempts.is_empty() => return last.map(Err),
            None => {}
        }
        // Ends with a connection, or when the next address is to be tried.
        loop {
            let step = if rest.len() == 0 {
                attempts.next().await
            } else {
                match tokio::time::timeout(STAGGER, attempts.next()).await {
                    Ok(step) => step,
                    Err(_) => break,
                }
            };
            match step {
                Some(Ok(made)) => return Some(Ok(made)),
                Some(Err(error)) => {
                    last = Some(error);
                    if rest.len() > 0 {
                        break;
                    }
                }
                None => break,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_does_not_respond_delays_the_others_by_a_quarter_second_only() {
        let addresses: Vec<SocketAddr> = (1..=4).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let started = Instant::now();
        let made = race(&addresses, async |address: SocketAddr| match address.port() {
            1 | 3 => std::future::pending().await,
            2 => Err("refused"),
            port => Ok(port),
        });
        assert_eq!(made.await, Some(Ok(4)));
        let took = started.elapsed();
        assert!(took >= STAGGER * 2 && took < STAGGER * 4, "{took:?}");
        let none = race(&addresses, async |address: SocketAddr| Err::<(), _>(address.port()));
        assert_eq!(none.await, Some(Err(4)));
        assert_eq!(race(&[], async |_| Ok::<(), ()>(())).await, None);
    }

    #[tokio::test]
    async fn one_look_up_serves_all_and_after_a_failure_the_last_result_is_used() {
        let name = Name::new("localhost", 80);
        let all = futures::future::join_all((0..20).map(|_| name.addresses())).await;
        let first = all[0].as_ref().unwrap();
        assert!(all.iter().all(|one| Arc::ptr_eq(one.as_ref().unwrap(), first)));
        let gone = Name::new("no-such-name.invalid", 80);
        gone.addresses().await.unwrap_err();
        let past = Instant::now().checked_sub(FRESH).unwrap();
        *gone.state() = LookupState { known: Some((first.clone(), past)), ..LookupState::default() };
        assert_eq!(gone.addresses().await.unwrap(), *first);
        assert_eq!(Name::new("[::1]", 7).addresses().await.unwrap()[0], "[::1]:7".parse().unwrap());
    }
}
