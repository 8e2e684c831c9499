//! Sockets: accepting, TLS, protocol, limits of a connection, draining. Each worker thread has listeners of its own.
//! What becomes of a request is the pipeline's business.

pub(crate) mod admission;
mod patience;
mod streams;
pub(crate) mod tls;

use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::deadline::Timer;
use crate::exchange::body::STALL;
use crate::gateway::Gateway;
use crate::headers::Origin;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::{Metrics, StageMetrics};
use crate::pipeline;
use patience::{Patient, Turn};
use streams::{Streams, TICK, Verdict, Watch};

/// A head that has begun must be whole within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is kept must ask again within this time: more than the minute for which load balancers keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection must begin to speak within this time.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// Of the whole proxy.
const MAX_CONNECTIONS: usize = 10_000;
/// Request line and headers; admission counts more exactly.
const HEAD_BUFFER: usize = 32 * 1024;
/// The same with HTTP/2, where each field counts 32 bytes more (RFC 9113, 6.5.2).
const HEAD_BUFFER_2: u32 = 32 * 1024;
const MAX_STREAMS: u32 = 128;
/// What HTTP/2 keeps of an answer that the client does not take, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// What the kernel keeps of an answer beyond what is on the wire. Without a bound it takes megabytes at once and then
/// nothing for minutes, and a slow reader looks like one that has stopped: with it, the lowest rate is half of this per
/// [`STALL`], about 2 KiB per second.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;
const BACKLOG: i32 = 4096;

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) gateway: Arc<ArcSwap<Gateway>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) log: AccessLog,
    /// Where requests without a stage are counted.
    pub(crate) nowhere: Arc<StageMetrics>,
    pub(crate) connections: AtomicUsize,
    pub(crate) draining: watch::Receiver<bool>,
    /// The same in a form that costs nothing to look at; set first.
    pub(crate) ending: Arc<AtomicBool>,
}

/// A thread's own handle on the gateway: counting references to it touches no memory of other threads.
pub(crate) struct Pin {
    pub(crate) gateway: Arc<Gateway>,
}

/// One thread.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pin: Mutex<Arc<Pin>>,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, index: usize) -> Self {
        let pin = Mutex::new(Arc::new(Pin { gateway: shared.gateway.load_full() }));
        Self { shared, index, pin }
    }

    /// The configuration in force. Called once for each request.
    pub(crate) fn pin(&self) -> Arc<Pin> {
        let current = self.shared.gateway.load();
        let mut pin = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&pin.gateway, &current) {
            *pin = Arc::new(Pin { gateway: Arc::clone(&current) });
        }
        pin.clone()
    }
}

/// What is known of a connection.
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    /// Of HTTP/1.1.
    pub(crate) turn: Turn,
}

/// Binds one of several listeners on the same address.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?; // accepted sockets inherit it
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until draining starts.
pub(crate) async fn accept(worker: Arc<Worker>, listener: TcpListener, tls: Option<Arc<ServerConfig>>) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut draining = worker.shared.draining.clone();
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = draining.wait_for(|draining| *draining) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(open) = Open::enter(&worker.shared) else {
            worker.shared.metrics.connections_refused.inc();
            continue;
        };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let source = address.ip().to_canonical();
        let text = HeaderValue::try_from(source.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let origin = Origin { source: text, port: HeaderValue::from(port), tls: acceptor.is_some() };
        let peer = Arc::new(Peer { origin, turn: Turn::new() });
        tokio::spawn(connection(worker.clone(), stream, acceptor.clone(), peer, open));
    }
}

/// One open connection; dropping it makes room for another.
pub(crate) struct Open(Arc<Shared>);

impl Open {
    /// One more, where there is room.
    fn enter(shared: &Arc<Shared>) -> Option<Self> {
        let before = shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.metrics.connections.inc();
        let open = Self(shared.clone());
        (before < MAX_CONNECTIONS).then_some(open)
    }

    /// A connection that was let in and now lives on as a tunnel.
    pub(crate) fn stay(shared: &Arc<Shared>) -> Self {
        shared.connections.fetch_add(1, Ordering::Relaxed);
        shared.metrics.connections.inc();
        Self(shared.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.connections.dec();
    }
}

async fn connection(worker: Arc<Worker>, stream: TcpStream, tls: Option<TlsAcceptor>, peer: Arc<Peer>, open: Open) {
    let mut draining = worker.shared.draining.clone();
    tokio::select! {
        biased;
        begun = begin(stream, tls) => match begun {
            Ok(Begun::Plain(stream, Speech::Http1)) => http1(worker, stream, peer).await,
            Ok(Begun::Plain(stream, Speech::Http2)) => Box::pin(http2(worker, stream, peer)).await,
            Ok(Begun::Tls(stream, Speech::Http1)) => http1(worker, stream, peer).await,
            Ok(Begun::Tls(stream, Speech::Http2)) => Box::pin(http2(worker, stream, peer)).await,
            Err(error) => tracing::debug!(%error, "a client connection ended before its first request"),
        },
        // A client that has said nothing yet loses nothing.
        () = drained(&mut draining) => {}
    }
    drop(open);
}

/// A connection of which it is known what it speaks.
enum Begun {
    Plain(TcpStream, Speech),
    Tls(Box<TlsStream<TcpStream>>, Speech),
}

enum Speech {
    Http1,
    Http2,
}

/// Waits until a client has begun to speak: each connection that says nothing is let go.
async fn begin(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Begun> {
    let Some(acceptor) = tls else {
        let speech = tokio::time::timeout(FIRST_BYTE, preface(&stream)).await??;
        return Ok(Begun::Plain(stream, speech));
    };
    let mut stream = Box::new(tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await??);
    if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        // A head is waited for below.
        return Ok(Begun::Tls(stream, Speech::Http1));
    }
    tokio::time::timeout(FIRST_BYTE, stream.fill_buf()).await??;
    Ok(Begun::Tls(stream, Speech::Http2))
}

/// Looks for the preface of HTTP/2 (RFC 9113, 3.4) without taking it from the socket.
async fn preface(stream: &TcpStream) -> io::Result<Speech> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = [0; PREFACE.len()];
    loop {
        let size = stream.peek(&mut seen).await?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(seen.get(..size).unwrap_or_default()) {
            return Ok(Speech::Http1);
        }
        if size == PREFACE.len() {
            return Ok(Speech::Http2);
        }
        // A preface in pieces. The socket counts as readable all the time: it is looked at again in a moment.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The guard that `wait_for` gives must not be held while a connection ends.
async fn drained(draining: &mut watch::Receiver<bool>) {
    drop(draining.wait_for(|draining| *draining).await);
}

async fn http1<S>(worker: Arc<Worker>, stream: S, peer: Arc<Peer>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    // hyper's own bound of 100 headers is ours; asked for by number it would cost memory for each request. Its time for a
    // head begins with the end of the answer before.
    builder.timer(Timer).header_read_timeout(IDLE_TIMEOUT).max_buf_size(HEAD_BUFFER);
    let shared = worker.shared.clone();
    let mut draining = shared.draining.clone();
    let io = TokioIo::new(Patient::new(stream, peer.clone(), STALL));
    let at = peer.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        peer.turn.request();
        pipeline::serve(worker.clone(), peer.clone(), None, request)
    });
    let connection = builder.serve_connection(io, service).with_upgrades();
    tokio::pin!(connection);
    let drained = drained(&mut draining);
    tokio::pin!(drained);
    let (mut asked, mut told) = (false, false);
    let mut head = None;
    let served = poll_fn(|cx| {
        // Asked once, the end wakes this task; until then it is not asked again for each request.
        if !told && (!asked || shared.ending.load(Ordering::Relaxed)) {
            asked = true;
            if drained.as_mut().poll(cx).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
        let polled = connection.as_mut().poll(cx);
        // Most heads come in one piece, and then a request has begun by now.
        if polled.is_ready() || !at.turn.in_head() {
            head = None;
            return polled;
        }
        let timer = head.get_or_insert_with(|| Box::pin(tokio::time::sleep(HEAD_TIMEOUT)));
        timer.as_mut().poll(cx).map(|()| Ok(()))
    });
    ended(served.await);
}

async fn http2<S>(worker: Arc<Worker>, stream: S, peer: Arc<Peer>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = Streams::default();
    let mut builder = hyper::server::conn::http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(HEAD_BUFFER_2)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(SEND_BUFFER);
    let mut draining = worker.shared.draining.clone();
    let begun = streams.clone();
    let io = TokioIo::new(Patient::new(stream, peer.clone(), STALL));
    let service = service_fn(move |request: Request<Incoming>| {
        pipeline::serve(worker.clone(), peer.clone(), Some(begun.begin()), request)
    });
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + TICK, TICK);
    let mut watch = Watch::default();
    let mut told = false;
    loop {
        tokio::select! {
            result = connection.as_mut() => return ended(result),
            () = drained(&mut draining), if !told => {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
            _ = ticks.tick() => match watch.tick(&streams) {
                Verdict::Stay => {}
                Verdict::Farewell => connection.as_mut().graceful_shutdown(),
                Verdict::Leave => return,
            },
        }
    }
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a client connection ended early");
    }
}
