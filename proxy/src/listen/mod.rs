//! Sockets: accepting, TLS, protocol, limits of a connection, draining. Each worker thread has its own listeners.
//! A [`Handler`] serves the requests.

mod context;
mod early;
mod http1;
mod http2;
mod in_memory;
mod proxy_protocol;
pub(crate) mod relief;
mod streams;
pub(crate) mod tls;
mod write_timeout;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::server::TlsStream;

use crate::client::{OpenConnection, Orders, Origin, Peer};
use crate::reject::Reject;
use crate::timeouts::Timeouts;
use proxy_protocol::Opened;
use tls::{HandshakeError, Shown, TlsServer};

pub(crate) use context::{EarlyRequest, Handler, ListenContext};
pub(crate) use in_memory::explain;

pub use context::Strictness;

/// Bytes of a response that the kernel buffers beyond those in flight. Without a limit it takes megabytes at once and then
/// nothing for minutes, and a slow reader looks like one that has stopped: with it, the minimum rate is half of this per
/// write timeout, about 2 KiB per second.
#[cfg(target_os = "linux")]
const UNSENT: u32 = 128 * 1024;
const BACKLOG: i32 = 4096;
/// A connection that is to be closed is closed after this time before its first byte.
const CLOSE_NEW: Duration = Duration::from_millis(500);

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

/// What the connections of a listener begin with.
#[derive(Clone)]
pub(crate) struct Opening {
    /// A header of the PROXY protocol.
    pub(crate) proxy_protocol: bool,
    /// A TLS handshake.
    pub(crate) tls: Option<Arc<TlsServer>>,
}

/// Accepts connections until the listeners are closed; `handler` serves their requests.
pub(crate) async fn accept(shared: Arc<ListenContext>, listener: TcpListener, opening: Opening, handler: impl Handler) {
    let port = listener.local_addr().map_or(0, |address| address.port());
    let mut closed = shared.closed.clone();
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
        let origin = shared.origin(address.ip().to_canonical(), HeaderValue::from(port));
        tokio::spawn(connection(shared.clone(), stream, opening.clone(), origin, open, handler.clone()));
    }
}

async fn connection(
    shared: Arc<ListenContext>,
    mut stream: TcpStream,
    opening: Opening,
    mut origin: Origin,
    mut open: OpenConnection,
    handler: impl Handler,
) {
    if opening.proxy_protocol {
        let client = tokio::select! {
            biased;
            client = proxied(&shared, &mut stream, &origin) => client,
            () = closed_unused(&open) => return,
        };
        match client {
            Ok(Opened::Closed) => return,
            Ok(Opened::ForItself) => {}
            Ok(Opened::ForClient(address)) => {
                // Its place is that of the client from now on.
                drop(open);
                let Some(opened) = shared.connections.open(address, shared.load.clock()) else { return };
                open = opened;
                origin = shared.origin(address, origin.port);
            }
            Err(error) => {
                tracing::debug!(%error, "connection without a valid header of the PROXY protocol");
                let peer = Peer::new(origin, shared.timeouts.clone(), shared.load.clone(), open);
                handler.reject_connection(&peer, "PROXY", "", &Reject::ProxyProtocol);
                return;
            }
        }
    }
    let begun = tokio::select! {
        biased;
        begun = begin(stream, opening.tls, &shared.timeouts) => begun,
        // A client that has sent nothing yet loses nothing.
        () = closed_unused(&open) => return,
    };
    if let Ok(Begun::Tls(_, shown, _)) = &begun {
        origin.tls = Some(shown.clone());
    }
    let peer = Peer::new(origin, shared.timeouts.clone(), shared.load.clone(), open);
    match begun {
        Ok(Begun::Plain(stream, first, Protocol::Http1)) => http1::serve(shared, stream, first, peer, handler).await,
        Ok(Begun::Plain(stream, first, Protocol::Http2)) => {
            Box::pin(http2::serve(shared, stream, first, peer, handler)).await;
        }
        Ok(Begun::Tls(stream, _, Protocol::Http1)) => http1::serve(shared, stream, Bytes::new(), peer, handler).await,
        Ok(Begun::Tls(stream, _, Protocol::Http2)) => {
            Box::pin(http2::serve(shared, stream, Bytes::new(), peer, handler)).await;
        }
        Ok(Begun::NoTls(mut stream)) => {
            let head = http1::read_head(&mut stream, shared.timeouts.head).await;
            early::respond(stream, peer, head, &Reject::HttpOnTlsPort, &handler).await;
        }
        Err(BeginError::Closed(error)) => tracing::debug!(%error, "client connection closed before its first request"),
        Err(BeginError::Handshake(HandshakeError { error, host, rejected })) => {
            tracing::debug!(%error, host, "TLS handshake failed");
            let reject = rejected.map_or(Reject::TlsHandshake, Reject::ClientCertificateInvalid);
            handler.reject_connection(&peer, "TLS", &host, &reject);
        }
    }
}

/// For whom a load balancer has opened a connection. A header from others means nothing.
async fn proxied(shared: &ListenContext, stream: &mut TcpStream, origin: &Origin) -> io::Result<Opened> {
    if origin.behind.is_none() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "the address is not a trusted proxy"));
    }
    tokio::time::timeout(shared.timeouts.first_byte, proxy_protocol::read(stream)).await?
}

/// Waits until a connection before its first byte is to be closed.
async fn closed_unused(connection: &OpenConnection) {
    connection.ordered(Orders::CLOSE).await;
    if !connection.is_evicted() {
        tokio::time::sleep(CLOSE_NEW).await;
    }
}

/// A connection whose protocol is known.
enum Begun {
    /// With the bytes that were read to find its protocol.
    Plain(TcpStream, Bytes, Protocol),
    Tls(Box<TlsStream<TcpStream>>, Arc<Shown>, Protocol),
    /// HTTP where a TLS handshake is needed.
    NoTls(TcpStream),
}

enum Protocol {
    Http1,
    Http2,
}

/// Why a connection ends before its first request.
enum BeginError {
    /// The client sent nothing.
    Closed(io::Error),
    Handshake(HandshakeError),
}

impl From<io::Error> for BeginError {
    fn from(error: io::Error) -> Self {
        Self::Closed(error)
    }
}

impl From<tokio::time::error::Elapsed> for BeginError {
    fn from(error: tokio::time::error::Elapsed) -> Self {
        Self::Closed(error.into())
    }
}

/// Waits for the first bytes of a client.
async fn begin(mut stream: TcpStream, tls: Option<Arc<TlsServer>>, timeouts: &Timeouts) -> Result<Begun, BeginError> {
    let Some(server) = tls else {
        let (protocol, first) = tokio::time::timeout(timeouts.first_byte, preface(&mut stream)).await??;
        return Ok(Begun::Plain(stream, first, protocol));
    };
    let mut first = [0];
    if tokio::time::timeout(timeouts.tls_handshake, stream.peek(&mut first)).await?? == 0 {
        return Err(BeginError::Closed(io::ErrorKind::UnexpectedEof.into()));
    }
    // The first byte of a TLS record is below 32 (RFC 8446, 5.1), that of a method is a letter.
    if first[0].is_ascii_alphabetic() {
        return Ok(Begun::NoTls(stream));
    }
    let accepted = tokio::time::timeout(timeouts.tls_handshake, server.accept(stream)).await;
    let (stream, shown) = match accepted {
        Ok(accepted) => accepted.map_err(BeginError::Handshake)?,
        Err(elapsed) => {
            return Err(BeginError::Handshake(io::Error::from(elapsed).into()));
        }
    };
    let mut stream = Box::new(stream);
    tokio::time::timeout(timeouts.first_byte, stream.fill_buf()).await??;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Begun::Tls(stream, shown, if http2 { Protocol::Http2 } else { Protocol::Http1 }))
}

/// Looks for the preface of HTTP/2 (RFC 9113, 3.4). Takes nothing from the socket unless only a part has arrived: a socket
/// with unread bytes cannot be waited for.
async fn preface(stream: &mut TcpStream) -> io::Result<(Protocol, Bytes)> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = [0; PREFACE.len()];
    let mut size = stream.peek(&mut seen).await?;
    let mut taken = 0;
    loop {
        let bytes = seen.get(..size).unwrap_or_default();
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let first = || Bytes::copy_from_slice(bytes.get(..taken).unwrap_or_default());
        if !PREFACE.starts_with(bytes) {
            return Ok((Protocol::Http1, first()));
        }
        if size == PREFACE.len() {
            return Ok((Protocol::Http2, first()));
        }
        match stream.read(seen.get_mut(taken..).unwrap_or_default()).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => taken += more,
        }
        size = taken;
    }
}
