//! Sockets: accepting, TLS, protocol, limits of a connection, draining. Each worker thread has listeners of its own.
//! What becomes of a request is the pipeline's business.

pub(crate) mod admission;
mod patience;
pub(crate) mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::exchange::body::STALL;
use crate::gateway::Gateway;
use crate::headers::Origin;
use crate::observe::access_log::AccessLog;
use crate::observe::metrics::{Metrics, StageMetrics};
use crate::pipeline;
use patience::Patient;

/// A head must be whole, and an idle connection must ask again, within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const TLS_TIMEOUT: Duration = Duration::from_secs(10);
/// Of the whole proxy.
const MAX_CONNECTIONS: usize = 10_000;
/// Request line and headers; admission counts more exactly.
const HEAD_BUFFER: usize = 32 * 1024;
const MAX_STREAMS: u32 = 128;
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
    pub(crate) address: SocketAddr,
    pub(crate) origin: Origin,
}

/// Binds one of several listeners on the same address.
pub(crate) fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
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
        let peer = Arc::new(Peer { address: SocketAddr::new(source, address.port()), origin });
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
    match tls {
        None => http(worker, stream, peer, auto::Builder::new(TokioExecutor::new())).await,
        Some(acceptor) => match tokio::time::timeout(TLS_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let builder = auto::Builder::new(TokioExecutor::new());
                let builder = if h2 { builder.http2_only() } else { builder.http1_only() };
                http(worker, stream, peer, builder).await;
            }
            Ok(Err(error)) => tracing::debug!(%error, "a TLS handshake failed"),
            Err(_) => tracing::debug!("a TLS handshake took too long"),
        },
    }
    drop(open);
}

async fn http<S>(worker: Arc<Worker>, stream: S, peer: Arc<Peer>, mut builder: auto::Builder<TokioExecutor>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(128)
        .max_buf_size(HEAD_BUFFER)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(16 * 1024)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024);
    let mut draining = worker.shared.draining.clone();
    let service = service_fn(move |request: Request<Incoming>| pipeline::serve(worker.clone(), peer.clone(), request));
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(Patient::new(stream, STALL)), service);
    tokio::pin!(connection);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        // The guard that `wait_for` gives must not be held while the connection ends.
        () = async { drop(draining.wait_for(|draining| *draining).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a client connection ended early");
    }
}
