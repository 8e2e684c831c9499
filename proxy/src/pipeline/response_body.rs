//! A response's body on its way to the client. Dropping it drops the exchange, which records the request.

use std::future::{Future as _, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::exchange::Exchange;
use crate::body::BodyError;
use crate::cache::Fill;
use crate::client::{Flow, TrackedBytes};
use crate::deadline::lately;
use crate::headers;
use crate::integration::UpstreamConnection;
use crate::timeouts::Timeouts;
use crate::transport::Cause;

/// A timeout that each frame starts again; a timer is set only while waiting. It never ends later than the exchange may.
struct IdleTimeout {
    timer: Option<Pin<Box<Sleep>>>,
    timeout: Duration,
    /// The end of the exchange.
    end: Instant,
}

impl IdleTimeout {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = || (Instant::now() + self.timeout).min(self.end);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until())));
        timer.as_mut().poll(cx)
    }

    fn progress(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset((Instant::now() + self.timeout).min(self.end));
        }
    }
}

/// A response's body.
pub(crate) struct ResponseBody {
    kind: BodyKind,
    exchange: Option<Box<Exchange>>,
    /// With HTTP/2.
    flow: Option<Arc<Flow>>,
}

enum BodyKind {
    Empty,
    Full(Bytes),
    Stream(Box<Download>),
}

/// What of an upstream's body has arrived when its response is received. A body that is malformed from its beginning is
/// known before anything is sent to the client.
pub(crate) enum First {
    /// It has not arrived.
    Nothing,
    Data(Bytes),
    Trailers(Box<HeaderMap>),
    /// The body has ended.
    End,
}

impl First {
    /// Reads what has arrived, without waiting for it.
    pub(crate) async fn of(incoming: &mut Incoming) -> Result<Self, hyper::Error> {
        if incoming.is_end_stream() {
            return Ok(Self::Nothing);
        }
        std::future::poll_fn(|cx| {
            Poll::Ready(match Pin::new(&mut *incoming).poll_frame(cx) {
                Poll::Pending => Ok(Self::Nothing),
                Poll::Ready(None) => Ok(Self::End),
                Poll::Ready(Some(frame)) => frame.map(|frame| match frame.into_data() {
                    Ok(data) => Self::Data(data),
                    Err(frame) => Self::Trailers(Box::new(frame.into_trailers().unwrap_or_default())),
                }),
            })
        })
        .await
    }

    pub(crate) fn length(&self) -> u64 {
        if let Self::Data(data) = self { data.len() as u64 } else { 0 }
    }

    fn take(&mut self) -> Option<Frame<Bytes>> {
        match std::mem::replace(self, Self::Nothing) {
            Self::Nothing | Self::End => None,
            Self::Data(data) => Some(Frame::data(data)),
            Self::Trailers(fields) => Some(Frame::trailers(*fields)),
        }
    }
}

/// An upstream's body that is forwarded as it arrives.
struct Download {
    first: First,
    incoming: Incoming,
    idle: IdleTimeout,
    /// Released when the response was read to its end, closed otherwise.
    connection: Option<UpstreamConnection>,
    keep: Option<Box<Fill>>,
}

impl ResponseBody {
    /// No body: it is complete, and nothing will poll it.
    pub(crate) fn empty(exchange: Option<Box<Exchange>>) -> Self {
        let mut body = Self { kind: BodyKind::Empty, exchange, flow: None };
        body.complete();
        body
    }

    pub(crate) fn full(bytes: Bytes, exchange: Option<Box<Exchange>>) -> Self {
        Self { kind: BodyKind::Full(bytes), exchange, flow: None }
    }

    pub(crate) fn stream(
        first: First,
        incoming: Incoming,
        connection: UpstreamConnection,
        keep: Option<Box<Fill>>,
        exchange: Box<Exchange>,
    ) -> Self {
        if matches!(first, First::End) || (matches!(first, First::Nothing) && incoming.is_end_stream()) {
            connection.release();
            if let Some(keep) = keep {
                keep.finish();
            }
            return Self::empty(Some(exchange));
        }
        let timeouts = &exchange.peer.timeouts;
        let end = (exchange.started + timeouts.stream_age).into();
        let idle = IdleTimeout { timer: None, timeout: timeouts.stream_idle, end };
        let download = Download { first, incoming, idle, connection: Some(connection), keep };
        Self { kind: BodyKind::Stream(Box::new(download)), exchange: Some(exchange), flow: None }
    }

    /// Counts the bytes of an HTTP/2 response until they are sent.
    pub(crate) fn tracked(mut self, flow: Option<Arc<Flow>>) -> Self {
        self.flow = flow;
        self
    }

    /// Responds to HEAD: hyper sends the head and does not poll the body.
    pub(crate) fn head_only(mut self) -> Self {
        self.complete();
        self
    }

    fn count(&mut self, bytes: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.sent += bytes as u64;
        }
    }

    fn fail(&mut self, error: &BodyError) {
        if let Some(exchange) = &mut self.exchange {
            exchange.upstream_error = match error {
                BodyError::Read(error) => Some(Cause::of_exchange(error)),
                BodyError::Stalled => Some(Cause::Stalled),
                // Limits of the proxy.
                BodyError::TooOld | BodyError::TooLarge => None,
            };
        }
    }

    fn complete(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.complete = true;
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        // The connection took the last bytes, and the client did not.
        if let (Some(flow), Some(exchange)) = (&self.flow, &mut self.exchange)
            && flow.is_aborted()
        {
            exchange.complete = false;
        }
    }
}

/// Reads a response to its end and stores it: its client has it already.
pub(crate) fn fill(
    first: First,
    incoming: Incoming,
    connection: UpstreamConnection,
    keep: Option<Box<Fill>>,
    timeouts: &Timeouts,
) {
    let idle = IdleTimeout { timer: None, timeout: timeouts.stream_idle, end: Instant::now() + timeouts.stream_age };
    let mut download = Download { first, incoming, idle, connection: Some(connection), keep };
    if matches!(download.first, First::End) || download.is_end_stream() {
        return download.end();
    }
    drop(tokio::spawn(async move {
        // Nothing else needs it.
        while download.keep.is_some() && matches!(poll_fn(|cx| download.poll(cx)).await, Some(Ok(_))) {}
    }));
}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match self.first.take() {
            Some(first) => Poll::Ready(Some(Ok(first))),
            None => Pin::new(&mut self.incoming).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(mut frame))) => {
                if lately() > self.idle.end.into_std() {
                    self.keep = None;
                    return Poll::Ready(Some(Err(BodyError::TooOld)));
                }
                self.idle.progress();
                // Trailers are the end (RFC 9112, 7.1.2): hyper does not poll again after them.
                if let Some(fields) = frame.trailers_mut() {
                    headers::strip_trailers(fields);
                    self.end();
                }
                if let (Some(keep), Some(data)) = (&mut self.keep, frame.data_ref())
                    && !keep.add(data)
                    && let Some(keep) = self.keep.take()
                {
                    keep.give_up();
                }
                // hyper does not poll again after the last bytes of a known length, and after trailers.
                if self.incoming.is_end_stream() || frame.is_trailers() {
                    self.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.keep = None;
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.idle.poll(cx));
                self.keep = None;
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self.first, First::Nothing) && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.incoming.size_hint();
        let first = self.first.length();
        if first > 0 {
            match hint.exact() {
                Some(rest) => hint.set_exact(rest + first),
                None => hint.set_lower(hint.lower() + first),
            }
        }
        hint
    }

    fn end(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.release();
        }
        if let Some(keep) = self.keep.take() {
            keep.finish();
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = TrackedBytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<TrackedBytes>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.kind {
            BodyKind::Empty => {
                this.complete();
                Poll::Ready(None)
            }
            BodyKind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = BodyKind::Empty;
                this.count(bytes.len());
                this.complete();
                Poll::Ready(Some(Ok(Frame::data(TrackedBytes::new(bytes, this.flow.as_ref())))))
            }
            BodyKind::Stream(download) => {
                let polled = ready!(download.poll(cx));
                let ended = download.incoming.is_end_stream();
                match &polled {
                    Some(Ok(frame)) => {
                        let size = frame.data_ref().map_or(0, Bytes::len);
                        let ended = ended || frame.is_trailers();
                        this.count(size);
                        if ended {
                            this.complete();
                        }
                    }
                    Some(Err(error)) => this.fail(error),
                    None => this.complete(),
                }
                let flow = this.flow.as_ref();
                Poll::Ready(
                    polled.map(|result| result.map(|frame| frame.map_data(|data| TrackedBytes::new(data, flow)))),
                )
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            BodyKind::Empty => true,
            BodyKind::Full(_) => false,
            BodyKind::Stream(download) => download.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            BodyKind::Empty => SizeHint::with_exact(0),
            BodyKind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            BodyKind::Stream(download) => download.size_hint(),
        }
    }
}
