//! Sockets: accepting, TLS, protocol, limits of a connection, draining. Each worker thread has its own listeners.
//! A [`Handler`] serves the requests.

pub(crate) mod relief;
mod streams;
pub(crate) mod tls;
mod write_timeout;

use std::convert::Infallible;
use std::future::{Future as _, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderValue, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client::{Connections, Flow, OpenConnection, Orders, Origin, Peer, TrackedBytes};
use crate::deadline::Timer;
use crate::overload::Load;
use crate::timeouts::Timeouts;
use streams::{StreamCheck, Streams, Watch};
use write_timeout::WriteTimeout;

/// Request line and headers; admission counts more exactly.
const HEAD_BUFFER: usize = 32 * 1024;
/// The same with HTTP/2, where each field counts 32 bytes more (RFC 9113, 6.5.2).
const HEAD_BUFFER_2: u32 = 32 * 1024;
/// Bytes of a response that HTTP/2 buffers while the client reads nothing, per stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Bytes of a response that the kernel buffers beyond those in flight. Without a limit it takes megabytes at once and then
/// nothing for minutes, and a slow reader looks like one that has stopped: with it, the minimum rate is half of this per
/// write timeout, about 2 KiB per second.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;
const BACKLOG: i32 = 4096;
/// A connection that is to be closed is closed after this time without a request. A request that has arrived is served.
const CLOSE_IDLE: Duration = Duration::from_millis(20);
/// The same with HTTP/2: the client acknowledges the end.
const CLOSE_IDLE_2: Duration = Duration::from_secs(1);
/// And before the first byte.
const CLOSE_NEW: Duration = Duration::from_millis(500);

/// Serves the requests of connections.
pub(crate) trait Handler: Clone + Send + 'static {
    /// Of responses.
    type Body: http_body::Body<Data = TrackedBytes, Error: std::error::Error + Send + Sync> + Send + 'static;

    /// Serves a request of `peer`; `flow` counts the bytes of an HTTP/2 response.
    fn handle(
        &self,
        peer: Arc<Peer>,
        flow: Option<Arc<Flow>>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Infallible>> + Send + use<Self>;
}

/// What the listeners of all worker threads share.
pub(crate) struct ListenContext {
    pub(crate) connections: Arc<Connections>,
    pub(crate) load: Arc<Load>,
    pub(crate) timeouts: Arc<Timeouts>,
    /// Concurrent HTTP/2 streams of a connection.
    pub(crate) streams: u32,
    /// File descriptors from here on are not for clients.
    pub(crate) reserved_from: usize,
    /// Whether no connections are accepted any more.
    pub(crate) closed: watch::Receiver<bool>,
}

/// Binds one of several listeners on the same address.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT)?; // accepted sockets inherit it
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts connections until the listeners are closed; `handler` serves their requests.
pub(crate) async fn accept(
    shared: Arc<ListenContext>,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    handler: impl Handler,
) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut closed = shared.closed.clone();
    let acceptor = tls.map(TlsAcceptor::from);
    loop {
        let accepted = tokio::select! {
            biased; // connections that have arrived are accepted
            accepted = listener.accept() => accepted,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                shared.connections.evict_idle(128); // most likely there is no file descriptor left
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        if usize::try_from(stream.as_raw_fd()).is_ok_and(|descriptor| descriptor >= shared.reserved_from) {
            shared.connections.reject();
            continue;
        }
        let Some(open) = shared.connections.open(address.ip(), shared.load.clock()) else { continue };
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let source = address.ip().to_canonical();
        let text = HeaderValue::try_from(source.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let origin = Origin { source: text, port: HeaderValue::from(port), tls: acceptor.is_some() };
        tokio::spawn(connection(shared.clone(), stream, acceptor.clone(), origin, open, handler.clone()));
    }
}

async fn connection(
    shared: Arc<ListenContext>,
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    origin: Origin,
    open: OpenConnection,
    handler: impl Handler,
) {
    let peer = Peer::new(origin, shared.timeouts.clone(), shared.load.clone(), open);
    let unused = peer.clone();
    tokio::select! {
        biased;
        begun = begin(stream, tls, &shared.timeouts) => match begun {
            Ok(Begun::Plain(stream, Protocol::Http1)) => http1(shared, stream, peer, handler).await,
            Ok(Begun::Plain(stream, Protocol::Http2)) => Box::pin(http2(shared, stream, peer, handler)).await,
            Ok(Begun::Tls(stream, Protocol::Http1)) => http1(shared, stream, peer, handler).await,
            Ok(Begun::Tls(stream, Protocol::Http2)) => Box::pin(http2(shared, stream, peer, handler)).await,
            Err(error) => tracing::debug!(%error, "client connection closed before its first request"),
        },
        // A client that has sent nothing yet loses nothing.
        () = closed_unused(&unused) => {}
    }
}

/// Waits until a connection before its first byte is to be closed.
async fn closed_unused(peer: &Peer) {
    peer.connection.ordered(Orders::CLOSE).await;
    if !peer.connection.is_evicted() {
        tokio::time::sleep(CLOSE_NEW).await;
    }
}

/// A connection whose protocol is known.
enum Begun {
    Plain(TcpStream, Protocol),
    Tls(Box<TlsStream<TcpStream>>, Protocol),
}

enum Protocol {
    Http1,
    Http2,
}

/// Waits for the first bytes of a client.
async fn begin(stream: TcpStream, tls: Option<TlsAcceptor>, timeouts: &Timeouts) -> io::Result<Begun> {
    let Some(acceptor) = tls else {
        let protocol = tokio::time::timeout(timeouts.first_byte, preface(&stream)).await??;
        return Ok(Begun::Plain(stream, protocol));
    };
    let mut stream = Box::new(tokio::time::timeout(timeouts.tls_handshake, acceptor.accept(stream)).await??);
    tokio::time::timeout(timeouts.first_byte, stream.fill_buf()).await??;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Begun::Tls(stream, if http2 { Protocol::Http2 } else { Protocol::Http1 }))
}

/// Looks for the preface of HTTP/2 (RFC 9113, 3.4) without taking it from the socket.
async fn preface(stream: &TcpStream) -> io::Result<Protocol> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = [0; PREFACE.len()];
    loop {
        let size = stream.peek(&mut seen).await?;
        if size == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if !PREFACE.starts_with(seen.get(..size).unwrap_or_default()) {
            return Ok(Protocol::Http1);
        }
        if size == PREFACE.len() {
            return Ok(Protocol::Http2);
        }
        // A part of the preface. The socket stays readable, so it is polled after a pause.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn http1<S>(shared: Arc<ListenContext>, stream: S, peer: Arc<Peer>, handler: impl Handler)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = hyper::server::conn::http1::Builder::new();
    // hyper's default limit of 100 headers is ours too; set explicitly it would cost memory per request. Its timeout for a
    // head begins at the end of the response before.
    builder.timer(Timer).header_read_timeout(shared.timeouts.idle).max_buf_size(HEAD_BUFFER);
    let io = TokioIo::new(WriteTimeout::new(stream, peer.clone(), shared.timeouts.write));
    let at = peer.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        peer.state.request_began();
        handler.handle(peer.clone(), None, request)
    });
    let connection = builder.serve_connection(io, service).with_upgrades();
    tokio::pin!(connection);
    let (mut orders, mut watched, mut shut_down) = (Orders::default(), false, false);
    let mut closing = None;
    let mut head = None;
    let served = poll_fn(|cx| {
        // Orders wake this task, so that it does not register for each request.
        if !watched || orders != at.connection.orders() {
            watched = true;
            at.connection.watch(cx);
            orders = at.connection.orders();
            if orders.contain(Orders::ABORT) || at.may_be_dropped() {
                return Poll::Ready(Ok(()));
            }
        }
        let mut polled = connection.as_mut().poll(cx);
        // hyper would drop a head that has arrived in part.
        if orders.contain(Orders::CLOSE) && !shut_down && polled.is_pending() && !at.state.is_reading_head() {
            let timer = closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_IDLE)));
            if timer.as_mut().poll(cx).is_ready() {
                shut_down = true;
                connection.as_mut().graceful_shutdown();
                polled = connection.as_mut().poll(cx);
            }
        }
        // Most heads arrive in one piece, and then a request has begun by now.
        if polled.is_ready() || !at.state.is_reading_head() {
            head = None;
            return polled;
        }
        let timer = head.get_or_insert_with(|| Box::pin(tokio::time::sleep(shared.timeouts.head)));
        timer.as_mut().poll(cx).map(|()| Ok(()))
    });
    ended(served.await);
}

async fn http2<S>(shared: Arc<ListenContext>, stream: S, peer: Arc<Peer>, handler: impl Handler)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = Streams::new(shared.streams);
    let mut builder = hyper::server::conn::http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(shared.streams)
        .max_header_list_size(HEAD_BUFFER_2)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(SEND_BUFFER);
    let begun = streams.clone();
    let io = TokioIo::new(WriteTimeout::new(stream, peer.clone(), shared.timeouts.write));
    let at = peer.clone();
    let service =
        service_fn(move |request: Request<Incoming>| handler.handle(peer.clone(), Some(begun.begin()), request));
    let connection = builder.serve_connection(io, service);
    tokio::pin!(connection);
    let every = shared.timeouts.http2_check;
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
    let mut watch = Watch::default();
    let (mut orders, mut watched, mut shut_down) = (Orders::default(), false, false);
    let mut closing = None;
    let served = poll_fn(|cx| {
        let mut check = ticks.poll_tick(cx).is_ready();
        if check {
            // Registers for the next tick, which is not due yet.
            check = ticks.poll_tick(cx).is_pending();
        }
        if !watched || orders != at.connection.orders() {
            check |= watched;
            watched = true;
            at.connection.watch(cx);
            orders = at.connection.orders();
            if orders.contain(Orders::ABORT) {
                streams.abort();
                return Poll::Ready(Ok(()));
            }
        }
        if check {
            match watch.check(&streams) {
                StreamCheck::Keep => {}
                StreamCheck::Shutdown => connection.as_mut().graceful_shutdown(),
                StreamCheck::Close => return Poll::Ready(Ok(())),
            }
        }
        if orders.contain(Orders::CLOSE) {
            let timer = closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_IDLE_2)));
            while timer.as_mut().poll(cx).is_ready() {
                if at.connection.active() == 0 {
                    return Poll::Ready(Ok(()));
                }
                timer.as_mut().reset(tokio::time::Instant::now() + CLOSE_IDLE_2);
            }
        }
        let polled = connection.as_mut().poll(cx);
        // A client that gets GOAWAY before its first response may give up: a new connection serves one request at least.
        let end = orders.contain(Orders::CLOSE) || (orders.contain(Orders::ANNOUNCE) && streams.have_begun());
        if end && !shut_down && polled.is_pending() {
            shut_down = true;
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(cx);
        }
        polled
    });
    ended(served.await);
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "client connection failed");
    }
}
