//! Connections to one endpoint: made, kept per thread, given out and taken back only after a whole exchange.
//! Which endpoint is chosen is balance's business.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;

use crate::exchange::body::Outgoing;

/// From the look-up of a name to a connection (and its TLS handshake) that can be used.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Shorter than what most servers keep idle connections, so that few die under a request.
const IDLE: Duration = Duration::from_secs(50);
/// Per thread and endpoint.
const MAX_IDLE: usize = 256;
/// An endpoint that could not be reached is tried last for this long.
const SHUN: Duration = Duration::from_secs(2);

/// Which addresses may be dialled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dialling {
    pub(crate) allow_loopback: bool,
}

impl Dialling {
    /// Link-local addresses hold cloud metadata; the proxy's own loopback holds what trusts the pod.
    pub(crate) fn permits(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let nowhere = address.is_unspecified() || address.is_multicast();
        !link_local && !nowhere && (self.allow_loopback || !address.is_loopback())
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the connection was not made within {CONNECT_TIMEOUT:?}")]
    Timeout,
    #[error("the address {0} is not allowed as a destination")]
    Forbidden(IpAddr),
    #[error("cannot find or reach the host")]
    Io(#[from] std::io::Error),
    #[error("cannot start HTTP on the connection")]
    Http(#[from] hyper::Error),
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    /// Looked up at each new connection.
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
    sender: http1::SendRequest<Outgoing>,
    since: Instant,
}

/// One address with its connections.
pub(crate) struct Endpoint {
    pub(crate) place: Place,
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
    h2: Option<http2::SendRequest<Outgoing>>,
}

/// A connection that can carry a request.
pub(crate) enum Connection {
    Http1 { sender: http1::SendRequest<Outgoing>, reused: bool },
    Http2(http2::SendRequest<Outgoing>),
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
    sender: Option<http1::SendRequest<Outgoing>>,
    thread: usize,
    outstanding: Outstanding,
}

impl Lease {
    pub(crate) fn new(sender: Option<http1::SendRequest<Outgoing>>, thread: usize, outstanding: Outstanding) -> Self {
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
        Self {
            place,
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

    fn put(&self, thread: usize, sender: http1::SendRequest<Outgoing>) {
        if sender.is_closed() {
            return;
        }
        let mut kept = self.thread(thread);
        let now = Instant::now();
        let old = kept.idle.iter().take_while(|idle| now.duration_since(idle.since) > IDLE).count();
        kept.idle.drain(..old);
        if kept.idle.len() < MAX_IDLE {
            kept.idle.push(Idle { sender, since: now });
        }
    }

    fn take(&self, thread: usize) -> Option<http1::SendRequest<Outgoing>> {
        let mut kept = self.thread(thread);
        while let Some(idle) = kept.idle.pop() {
            if idle.sender.is_ready() && idle.since.elapsed() < IDLE {
                return Some(idle.sender);
            }
        }
        None
    }

    /// A kept connection, or a new one.
    pub(crate) async fn connection(&self, thread: usize) -> Result<Connection, ConnectError> {
        if self.is_h2c() {
            let kept = self.thread(thread).h2.clone();
            if let Some(sender) = kept.filter(|sender| !sender.is_closed()) {
                return Ok(Connection::Http2(sender));
            }
            let sender = self.start_h2().await?;
            self.thread(thread).h2 = Some(sender.clone());
            return Ok(Connection::Http2(sender));
        }
        if let Some(sender) = self.take(thread) {
            return Ok(Connection::Http1 { sender, reused: true });
        }
        let sender = self.start(Upgrades::No).await?;
        Ok(Connection::Http1 { sender, reused: false })
    }

    /// A new connection that may change its protocol.
    pub(crate) async fn fresh(&self) -> Result<Connection, ConnectError> {
        let sender = self.start(Upgrades::Yes).await?;
        Ok(Connection::Http1 { sender, reused: false })
    }

    async fn start_h2(&self) -> Result<http2::SendRequest<Outgoing>, ConnectError> {
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

    async fn start(&self, upgrades: Upgrades) -> Result<http1::SendRequest<Outgoing>, ConnectError> {
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
        let stream = match &self.place {
            Place::Address(address) => self.dial_address(*address).await?,
            Place::Name(host, port) => {
                let host = host.trim_start_matches('[').trim_end_matches(']');
                let mut last = ConnectError::Io(std::io::Error::other("the name has no address"));
                let mut found = None;
                for address in tokio::net::lookup_host((host, *port)).await? {
                    match self.dial_address(address).await {
                        Ok(stream) => {
                            found = Some(stream);
                            break;
                        }
                        Err(error) => last = error,
                    }
                }
                found.ok_or(last)?
            }
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    async fn dial_address(&self, address: SocketAddr) -> Result<TcpStream, ConnectError> {
        if !self.dialling.permits(address.ip()) {
            return Err(ConnectError::Forbidden(address.ip()));
        }
        Ok(TcpStream::connect(address).await?)
    }
}

#[derive(Clone, Copy)]
enum Upgrades {
    Yes,
    No,
}

async fn handshake<I>(io: TokioIo<I>, upgrades: Upgrades) -> Result<http1::SendRequest<Outgoing>, ConnectError>
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http1::Builder::new().max_headers(100).max_buf_size(64 * 1024).handshake(io).await?;
    let log = |result: Result<(), hyper::Error>| {
        if let Err(error) = result {
            tracing::debug!(%error, "a connection to an upstream ended early");
        }
    };
    match upgrades {
        Upgrades::Yes => tokio::spawn(async move { log(connection.with_upgrades().await) }),
        Upgrades::No => tokio::spawn(async move { log(connection.await) }),
    };
    Ok(sender)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_addresses_and_loopback_are_not_dialled() {
        let strict = Dialling { allow_loopback: false };
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fe80::1",
            "127.0.0.1",
            "::1",
            "::ffff:127.0.0.1",
            "0.0.0.0",
            "::",
            "224.0.0.1",
        ] {
            assert!(!strict.permits(bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.0.0.1", "93.184.216.34", "fd00::1"] {
            assert!(strict.permits(good.parse().unwrap()), "{good}");
        }
        assert!(Dialling { allow_loopback: true }.permits("127.0.0.1".parse().unwrap()));
    }
}
