//! Serves an HTTP/1.1 connection with hyper, and rejects what hyper cannot parse.

mod chunks;
mod explain;
mod framing;
mod io;

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

use super::context::{EarlyRequest, Handler, ListenContext};
use super::early;
use super::write_timeout::{Reset, WriteTimeout};
use crate::client::{Orders, Peer};
use crate::deadline::Timer;
use crate::reject::Reject;
use explain::{Explained, Head};
use io::{Http1Io, Left};

/// Request line and headers; admission counts more exactly.
const HEAD_BUFFER: usize = 32 * 1024;

/// A connection that is to be closed is closed after this time without a request. A request that has arrived is served.
const CLOSE_IDLE: Duration = Duration::from_millis(20);

/// Why a connection ended.
enum Ended {
    /// By hyper.
    Served(hyper::Result<()>),
    /// A head took too long.
    HeadTimeout,
}

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
    let mut builder = hyper::server::conn::http1::Builder::new();
    // hyper's default limit of 100 headers is ours too; set explicitly it would cost memory per request. Its timeout for a
    // head begins at the end of the response before.
    builder.timer(Timer).header_read_timeout(shared.timeouts.idle).max_buf_size(HEAD_BUFFER);
    let socket = WriteTimeout::new(stream, peer.clone(), shared.timeouts.write);
    let io = TokioIo::new(Http1Io::new(socket, peer.clone(), first, shared.strictness));
    let at = peer.clone();
    let serving = handler.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        peer.state.request_began();
        serving.handle(peer.clone(), None, request)
    });
    let mut connection = builder.serve_connection(io, service).with_upgrades();
    let (mut orders, mut watched, mut shut_down) = (Orders::default(), false, false);
    let mut closing = None;
    let mut head = None;
    let ended = poll_fn(|cx| {
        // Orders wake this task, so that it does not register for each request.
        if !watched || orders != at.connection.orders() {
            watched = true;
            at.connection.watch(cx);
            orders = at.connection.orders();
            if orders.contain(Orders::ABORT) || at.may_be_dropped() {
                return Poll::Ready(Ended::Served(Ok(())));
            }
        }
        let mut polled = Pin::new(&mut connection).poll(cx);
        if polled.is_pending() && at.state.release() {
            // hyper goes on: what was held back was a part of a response.
            polled = Pin::new(&mut connection).poll(cx);
        }
        // hyper would drop a head that has arrived in part.
        if orders.contain(Orders::CLOSE) && !shut_down && polled.is_pending() && !at.state.is_reading_head() {
            let timer = closing.get_or_insert_with(|| Box::pin(tokio::time::sleep(CLOSE_IDLE)));
            if timer.as_mut().poll(cx).is_ready() {
                shut_down = true;
                Pin::new(&mut connection).graceful_shutdown();
                polled = Pin::new(&mut connection).poll(cx);
            }
        }
        // Most heads arrive in one piece, and then a request has begun by now.
        if polled.is_ready() || !at.state.is_reading_head() {
            head = None;
            return polled.map(Ended::Served);
        }
        let timer = head.get_or_insert_with(|| Box::pin(tokio::time::sleep(shared.timeouts.head)));
        timer.as_mut().poll(cx).map(|()| Ended::HeadTimeout)
    });
    let ended = ended.await;
    let error = match ended {
        Ended::Served(Ok(())) => return,
        Ended::Served(Err(error)) => Some(error),
        Ended::HeadTimeout => None,
    };
    tracing::debug!(error = error.as_ref().map(tracing::field::display), "client connection failed");
    // None: it is a tunnel.
    let Some(parts) = connection.into_parts() else { return };
    let Left { socket, framing } = parts.io.into_inner().into_left();
    let begun = at.state.begun();
    let (head, why) = framing.unparsed(begun);
    let head = Head::new(head);
    let reject = match &error {
        None => Explained::Reject(Reject::HeadTimeout),
        Some(error) if error.is_parse() => match why {
            Some(why) => Explained::Reject(Reject::Malformed(why)),
            None => head.explain(error.is_parse_too_large(), begun == 0),
        },
        Some(error) if error.is_incomplete_message() && framing.is_within_head() => {
            Explained::Reject(Reject::Malformed("The request ended within its head."))
        }
        Some(_) => return,
    };
    match reject {
        Explained::Reject(reject) => early::respond(socket, at, head.request(), &reject, &handler).await,
        Explained::OtherProtocol => handler.reject_connection(&at, "HTTP/1.1", "", &Reject::Malformed("")),
    }
}

/// What can be read of a request, which is not served.
pub(super) async fn read_head(stream: &mut (impl AsyncRead + Unpin), timeout: Duration) -> EarlyRequest {
    let mut head = Vec::new();
    let read = async {
        let mut limited = stream.take(HEAD_BUFFER as u64);
        while !head.ends_with(b"\r\n\r\n") && limited.read_buf(&mut head).await? > 0 {}
        std::io::Result::Ok(())
    };
    // Whatever has arrived is used.
    drop(tokio::time::timeout(timeout, read).await);
    Head::new(&head).request()
}
