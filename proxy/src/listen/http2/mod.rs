//! Serves an HTTP/2 connection with hyper, and records what h2 rejects.

mod frames;

use std::error::Error as _;
use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::context::{Handler, ListenContext};
use super::streams::{StreamCheck, Streams, Watch};
use super::write_timeout::{Reset, WriteTimeout};
use crate::client::{Orders, Peer};
use crate::reject::Reject;
use frames::{FromClient, Opened, ToClient};

/// Request line and headers, where each field counts 32 bytes more (RFC 9113, 6.5.2); admission counts more exactly.
const HEAD_BUFFER: u32 = 32 * 1024;
/// Bytes of a response that HTTP/2 buffers while the client reads nothing, per stream.
const SEND_BUFFER: usize = 64 * 1024;

/// A connection that is to be closed is closed after this time without a request: the client acknowledges the end.
const CLOSE_IDLE: Duration = Duration::from_secs(1);

/// Serves a connection whose first bytes may have been read already.
pub(super) async fn serve<S>(
    shared: Arc<ListenContext>,
    stream: S,
    first: Bytes,
    peer: Arc<Peer>,
    handler: impl Handler,
) where
    S: Reset + AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let streams = Streams::new(shared.streams);
    let mut builder = hyper::server::conn::http2::Builder::new(streams.clone());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(shared.streams)
        .max_header_list_size(HEAD_BUFFER)
        .max_pending_accept_reset_streams(32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(10))
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .max_send_buf_size(SEND_BUFFER);
    let begun = streams.clone();
    let opened = Arc::new(Opened::default());
    let socket = WriteTimeout::new(stream, peer.clone(), shared.timeouts.write);
    let io = TokioIo::new(Http2Io::new(socket, first, opened.clone()));
    let (at, recorder, accepted) = (peer.clone(), handler.clone(), opened.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        accepted.begin();
        handler.handle(peer.clone(), Some(begun.begin()), request)
    });
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
                StreamCheck::Reset => {
                    at.state.set_slow();
                    return Poll::Ready(Ok(()));
                }
            }
        }
        if orders.contain(Orders::CLOSE) {
            let timer = closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_IDLE)));
            while timer.as_mut().poll(cx).is_ready() {
                if at.connection.active() == 0 {
                    return Poll::Ready(Ok(()));
                }
                timer.as_mut().reset(tokio::time::Instant::now() + CLOSE_IDLE);
            }
        }
        let polled = connection.as_mut().poll(cx);
        for reject in opened.rejected() {
            recorder.reject_connection(&at, "HTTP/2", "", &reject);
        }
        // A client that gets GOAWAY before its first response may give up: a new connection serves one request at least.
        let end = orders.contain(Orders::CLOSE) || (orders.contain(Orders::ANNOUNCE) && streams.have_begun());
        if end && !shut_down && polled.is_pending() {
            shut_down = true;
            connection.as_mut().graceful_shutdown();
            return connection.as_mut().poll(cx);
        }
        polled
    });
    if let Err(error) = served.await {
        tracing::debug!(%error, "client connection failed");
        if is_violation(&error) {
            recorder.reject_connection(&at, "HTTP/2", "", &Reject::Malformed(""));
        }
    }
}

/// Whether h2 ended the connection because the client violated the protocol.
fn is_violation(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
    error.is_some_and(|error| error.is_go_away() && error.is_library() && error.reason() != Some(h2::Reason::NO_ERROR))
}

/// The socket of a connection as hyper sees it.
struct Http2Io<S> {
    socket: S,
    /// Bytes that were read before hyper began.
    first: Bytes,
    opened: Arc<Opened>,
    from_client: FromClient,
    to_client: ToClient,
}

impl<S> Http2Io<S> {
    fn new(socket: S, first: Bytes, opened: Arc<Opened>) -> Self {
        Self { socket, first, opened, from_client: FromClient::new(), to_client: ToClient::default() }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Http2Io<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
        } else {
            let size = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first.split_to(size));
        }
        this.from_client.look(buffer.filled().get(before..).unwrap_or_default(), &this.opened);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Http2Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let size = ready!(Pin::new(&mut this.socket).poll_write(cx, bytes))?;
        this.to_client.look(bytes.get(..size).unwrap_or_default(), &this.opened);
        Poll::Ready(Ok(size))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let size = ready!(Pin::new(&mut this.socket).poll_write_vectored(cx, bytes))?;
        let mut rest = size;
        for slice in bytes {
            let taken = rest.min(slice.len());
            this.to_client.look(slice.get(..taken).unwrap_or_default(), &this.opened);
            rest -= taken;
        }
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
