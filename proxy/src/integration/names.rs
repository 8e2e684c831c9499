//! The addresses of a name: looked up once for all that ask, kept for a moment, and kept longer while the resolver fails;
//! and connecting to the first of several that answers. Which addresses may be dialled is `dialling`'s decision.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;

/// Addresses are asked for again after this long.
const FRESH: Duration = Duration::from_secs(5);
/// While the resolver fails or is silent, its last answer is good for this long.
const STALE: Duration = Duration::from_secs(300);
/// How long a look-up is waited for where there is a last answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// After a failure nobody is asked for this long.
const FAILED: Duration = Duration::from_secs(1);
/// An address that has not answered for so long gets company (RFC 8305, 5: Connection Attempt Delay).
const STAGGER: Duration = Duration::from_millis(250);

type Addresses = Arc<[SocketAddr]>;

/// A host and port with what is known of it.
pub(crate) struct Name {
    host: Box<str>,
    port: u16,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    known: Option<(Addresses, Instant)>,
    failed: Option<(io::ErrorKind, Instant)>,
    /// One look-up at a time: a resolver that hangs holds one thread, not one for each request.
    asking: bool,
}

impl Name {
    pub(crate) fn new(host: &str, port: u16) -> Arc<Self> {
        let host = host.trim_start_matches('[').trim_end_matches(']').into();
        Arc::new(Self { host, port, state: Mutex::default(), changed: Notify::new() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Poison would mean a panic between two statements that cannot panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the name leads now.
    pub(crate) async fn addresses(self: &Arc<Self>) -> io::Result<Addresses> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(Arc::new([SocketAddr::new(address, self.port)]));
        }
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            if let Some(known) = self.known(Instant::now()) {
                return known;
            }
            if tokio::time::timeout(PATIENCE, changed).await.is_err()
                && let Some(stale) = self.state().stale(Instant::now())
            {
                return Ok(stale);
            }
        }
    }

    /// What is known without waiting; otherwise somebody is asking, from now on at the latest.
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
        if !state.asking {
            state.asking = true;
            tokio::spawn(ask(Asking(self.clone())));
        }
        None
    }
}

impl State {
    fn stale(&self, now: Instant) -> Option<Addresses> {
        self.known.as_ref().filter(|(_, since)| now.duration_since(*since) < STALE).map(|(list, _)| list.clone())
    }
}

/// A look-up in progress; when it ends, however it does, others may ask.
struct Asking(Arc<Name>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.state().asking = false;
        self.0.changed.notify_waiters();
    }
}

async fn ask(asking: Asking) {
    let name = &asking.0;
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

/// The first connection that is made; later addresses start when those before have failed or are slow (RFC 8305; their
/// order is the resolver's). None: there is no address.
pub(crate) async fn first<T, E, F>(addresses: &[SocketAddr], dial: impl Fn(SocketAddr) -> F) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut rest = addresses.iter();
    let mut dialling = FuturesUnordered::new();
    let mut last = None;
    loop {
        match rest.next() {
            Some(address) => dialling.push(dial(*address)),
            None if dialling.is_empty() => return last.map(Err),
            None => {}
        }
        // Ends with a connection, or when it is the next address's turn.
        loop {
            let step = if rest.len() == 0 {
                dialling.next().await
            } else {
                match tokio::time::timeout(STAGGER, dialling.next()).await {
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
    async fn a_dead_address_delays_the_others_by_a_moment_only() {
        let addresses: Vec<SocketAddr> = (1..=4).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let started = Instant::now();
        let made = first(&addresses, async |address: SocketAddr| match address.port() {
            1 | 3 => std::future::pending().await,
            2 => Err("refused"),
            port => Ok(port),
        });
        assert_eq!(made.await, Some(Ok(4)));
        let took = started.elapsed();
        assert!(took >= STAGGER * 2 && took < STAGGER * 4, "{took:?}");
        let none = first(&addresses, async |address: SocketAddr| Err::<(), _>(address.port()));
        assert_eq!(none.await, Some(Err(4)));
        assert_eq!(first(&[], async |_| Ok::<(), ()>(())).await, None);
    }

    #[tokio::test]
    async fn one_look_up_serves_all_and_a_failure_leaves_the_last_answer() {
        let name = Name::new("localhost", 80);
        let all = futures::future::join_all((0..20).map(|_| name.addresses())).await;
        let first = all[0].as_ref().unwrap();
        assert!(all.iter().all(|one| Arc::ptr_eq(one.as_ref().unwrap(), first)));
        let gone = Name::new("no-such-name.invalid", 80);
        gone.addresses().await.unwrap_err();
        let past = Instant::now().checked_sub(FRESH).unwrap();
        *gone.state() = State { known: Some((first.clone(), past)), ..State::default() };
        assert_eq!(gone.addresses().await.unwrap(), *first);
        assert_eq!(Name::new("[::1]", 7).addresses().await.unwrap()[0], "[::1]:7".parse().unwrap());
    }
}
