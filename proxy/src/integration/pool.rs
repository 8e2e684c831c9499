//! Connections to one endpoint: made, kept per thread, given out and taken back only after a whole exchange.
//! Which endpoint is chosen is balance's business.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use super::names::{self, Name};
use crate::body::RequestBody;
use crate::deadline::lately;
use crate::dialling::{DialError, Dialling};

/// From the look-up of a name to a connection (and its TLS handshake) that can be used.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than what most servers keep idle connections, so that few die under a request.
const IDLE: Duration = Duration::from_secs(50);
/// What is read of an answer at once, at most: one of 64 KiB with its head comes in one piece and leaves in one.
const READ_BUFFER: usize = 128 * 1024;
/// Per thread and endpoint.
const MAX_IDLE: usize = 256;
/// An endpoint that could not be reached is tried last for this long.
const SHUN: Duration = Duration::from_secs(2);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the connection was not made within {CONNECT_TIMEOUT:?}")]
    Timeout,
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error("cannot find the host, or agree on TLS with it")]
    Io(#[from] std::io::Error),
    #[error("cannot start HTTP on the connection")]
    Http(#[from] hyper::Error),
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    /// Looked up for new connections.
    Name(Box<str>, u16),
}

/// How to speak to it.
#[derive(Clone)]
pub(crate) enum Speech {
    Plain,
    /// HTTP/2 without TLS.
    H2c,
    Tls(Arc<ClientConfig>, ServerName<'static>),
}

struct Idle {
    sender: http1::SendRequest<RequestBody>,
    since: Instant,
}

/// One address with its connections.
pub(crate) struct Endpoint {
    pub(crate) place: Place,
    /// Of a place that is a name.
    name: Option<Arc<Name>>,
    speech: Speech,
    dialling: Dialling,
    outstanding: AtomicU32,
    /// Milliseconds since `born`.
    shunned_until: AtomicU64,
    born: Instant,
    threads: Box<[Mutex<Thread>]>,
}

#[derive(Default)]
struct Thread {
    idle: Vec<Idle>,
    h2: Option<http2::SendRequest<RequestBody>>,
    /// Counts the HTTP/2 connections that were made.
    made: u64,
}

/// A connection that can carry a request.
pub(crate) enum Connection {
    Http1 { sender: http1::SendRequest<RequestBody>, reused: bool },
    Http2 { sender: http2::SendRequest<RequestBody>, number: u64 },
}

/// Counts a request against its endpoint for as long as it lives.
pub(crate) struct Outstanding(Arc<Endpoint>);

impl Drop for Outstanding {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection in use. Dropped, the connection is closed; given back, it serves the next request.
pub(crate) struct Lease {
    sender: Option<http1::SendRequest<RequestBody>>,
    thread: usize,
    outstanding: Outstanding,
}

impl Lease {
    pub(crate) fn new(
        sender: Option<http1::SendRequest<RequestBody>>,
        thread: usize,
        outstanding: Outstanding,
    ) -> Self {
        Self { sender, thread, outstanding }
    }

    /// The exchange is whole: the connection may serve another.
    pub(crate) fn give_back(self) {
        if let Some(sender) = self.sender {
            self.outstanding.0.put(self.thread, sender);
        }
    }
}

impl Endpoint {
    pub(crate) fn new(place: Place, speech: Speech, dialling: Dialling, threads: usize) -> Self {
        let name = match &place {
            Place::Address(_) => None,
            Place::Name(host, port) => Some(Name::new(host, *port)),
        };
        Self {
            place,
            name,
            speech,
            dialling,
            outstanding: AtomicU32::new(0),
            shunned_until: AtomicU64::new(0),
            born: Instant::now(),
            threads: (0..threads).map(|_| Mutex::default()).collect(),
        }
    }

    pub(crate) fn is_h2c(&self) -> bool {
        matches!(self.speech, Speech::H2c)
    }

    pub(crate) fn load(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    pub(crate) fn enter(self: &Arc<Self>) -> Outstanding {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(self.clone())
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn shunned(&self) -> bool {
        let until = self.shunned_until.load(Ordering::Relaxed);
        until != 0 && self.age_ms() < until
    }

    pub(crate) fn shun(&self) {
        let for_ms = u64::try_from(SHUN.as_millis()).unwrap_or(u64::MAX);
        self.shunned_until.store(self.age_ms().saturating_add(for_ms), Ordering::Relaxed);
    }

    fn thread(&self, thread: usize) -> std::sync::MutexGuard<'_, Thread> {
        // Poison would mean a panic between two statements that cannot panic; the stack is sound either way.
        self.threads[thread].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, thread: usize, sender: http1::SendRequest<RequestBody>) {
        if sender.is_closed() {
            return;
        }
        let mut kept = self.thread(thread);
        let now = lately();
        let old = kept.idle.iter().take_while(|idle| now.saturating_duration_since(idle.since) > IDLE).count();
        kept.idle.drain(..old);
        if kept.idle.len() < MAX_IDLE {
            kept.idle.push(Idle { sender, since: now });
        }
    }

    fn take(&self, thread: usize) -> Option<http1::SendRequest<RequestBody>> {
        let now = lately();
        let mut kept = self.thread(thread);
        while let Some(idle) = kept.idle.pop() {
            if idle.sender.is_ready() && now.saturating_duration_since(idle.since) < IDLE {
                return Some(idle.sender);
            }
        }
        None
    }

    /// A connection: for a request that has failed on a kept one, a new one.
    pub(crate) async fn connection(&self, thread: usize, wanted: Wanted) -> Result<Connection, ConnectError> {
        if self.is_h2c() && wanted != Wanted::Upgrade {
            return self.shared(thread).await;
        }
        if wanted == Wanted::Any
            && let Some(sender) = self.take(thread)
        {
            return Ok(Connection::Http1 { sender, reused: true });
        }
        let sender = self.start(wanted == Wanted::Upgrade).await?;
        Ok(Connection::Http1 { sender, reused: false })
    }

    async fn shared(&self, thread: usize) -> Result<Connection, ConnectError> {
        let kept = {
            let kept = self.thread(thread);
            kept.h2.clone().map(|sender| (sender, kept.made))
        };
        if let Some((sender, number)) = kept.filter(|(sender, _)| !sender.is_closed()) {
            return Ok(Connection::Http2 { sender, number });
        }
        let sender = self.start_h2().await?;
        let mut kept = self.thread(thread);
        kept.made += 1;
        kept.h2 = Some(sender.clone());
        Ok(Connection::Http2 { sender, number: kept.made })
    }

    /// An HTTP/2 connection takes no requests any more; a newer one stays.
    pub(crate) fn retire(&self, thread: usize, number: u64) {
        let mut kept = self.thread(thread);
        if kept.made == number {
            kept.h2 = None;
        }
    }

    async fn start_h2(&self) -> Result<http2::SendRequest<RequestBody>, ConnectError> {
        let work = async {
            let stream = self.dial().await?;
            let (sender, connection) = http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
                .handshake(TokioIo::new(stream))
                .await?;
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "an HTTP/2 connection to an upstream ended early");
                }
            });
            Ok(sender)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, work).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn start(&self, upgrades: bool) -> Result<http1::SendRequest<RequestBody>, ConnectError> {
        let work = async {
            let stream = self.dial().await?;
            match &self.speech {
                Speech::Plain | Speech::H2c => handshake(TokioIo::new(stream), upgrades).await,
                Speech::Tls(config, name) => {
                    let connector = tokio_rustls::TlsConnector::from(config.clone());
                    handshake(TokioIo::new(connector.connect(name.clone(), stream).await?), upgrades).await
                }
            }
        };
        tokio::time::timeout(CONNECT_TIMEOUT, work).await.map_err(|_| ConnectError::Timeout)?
    }

    async fn dial(&self) -> Result<TcpStream, ConnectError> {
        let stream = match (&self.place, &self.name) {
            (Place::Address(address), _) => self.dialling.connect(*address).await?,
            (Place::Name(..), Some(name)) => {
                let addresses = name.addresses().await?;
                let made = names::first(&addresses, |address| self.dialling.connect(address)).await;
                made.unwrap_or_else(|| Err(DialError::Io(std::io::ErrorKind::NotFound.into())))?
            }
            (Place::Name(..), None) => return Err(std::io::Error::from(std::io::ErrorKind::NotFound).into()),
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// What kind of connection a request needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Fresh,
    /// A fresh one that may change its protocol.
    Upgrade,
}

async fn handshake<I>(io: TokioIo<I>, upgrades: bool) -> Result<http1::SendRequest<RequestBody>, ConnectError>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new().max_buf_size(READ_BUFFER).handshake(io).await?;
    let log = |result: Result<(), hyper::Error>| {
        if let Err(error) = result {
            tracing::debug!(%error, "a connection to an upstream ended early");
        }
    };
    match upgrades {
        true => tokio::spawn(async move { log(connection.with_upgrades().await) }),
        false => tokio::spawn(async move { log(connection.await) }),
    };
    Ok(sender)
}
