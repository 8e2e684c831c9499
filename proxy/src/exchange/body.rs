//! Bodies in both directions, as enums: nothing is boxed and nothing is gathered that can be passed on.
//! Which body a request gets is the pipeline's choice.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::Exchange;
use super::piece::{Flow, Piece};
pub(crate) use crate::cache::Keep;
use crate::integration::pool::Lease;
use crate::listen::Peer;

/// Whoever takes nothing of what it asked for is given up after this long.
pub(crate) const STALL: Duration = Duration::from_secs(30);
/// For so long a client's body is waited for, until the integration answers: of each [`UPLOAD_LEAST`] bytes.
const UPLOAD_STALL: Duration = Duration::from_secs(30);
/// The lowest rate of uploads is this much per [`UPLOAD_STALL`] of waiting: 273 bytes per second.
const UPLOAD_LEAST: u64 = 8 * 1024;
/// A stream (server-sent events, gRPC in either direction) may be quiet for this long, as AWS's response streams may.
const STREAM_IDLE: Duration = Duration::from_secs(300);

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("cannot read the body")]
    Read(#[from] hyper::Error),
    #[error("the body stopped arriving")]
    Stalled,
    #[error("the body is longer than allowed")]
    TooLarge,
}

/// A deadline that moves with each piece; armed only while waiting.
#[derive(Default)]
struct Quiet {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Quiet {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(STREAM_IDLE)));
        timer.as_mut().poll(cx)
    }

    fn progress(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + STREAM_IDLE);
        }
    }
}

/// How long a client is waited for. Only waiting counts: an upstream that takes its time is not the client's fault.
struct Pace {
    timer: Option<Pin<Box<Sleep>>>,
    /// Since when the client is waited for.
    waiting: Option<Instant>,
    /// Of the time for the next [`UPLOAD_LEAST`] bytes.
    left: Duration,
    bytes: u64,
}

impl Pace {
    fn new() -> Self {
        Self { timer: None, waiting: None, left: UPLOAD_STALL, bytes: 0 }
    }

    fn progress(&mut self, bytes: u64) {
        if let Some(since) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.bytes += bytes;
        if self.bytes >= UPLOAD_LEAST {
            self.bytes = 0;
            self.left = UPLOAD_STALL;
        }
    }

    /// Ready: the client has had its time. Once the integration has answered, both sides may be quiet for longer.
    fn poll(&mut self, cx: &mut Context<'_>, answered: bool) -> Poll<()> {
        let (since, began) = match self.waiting {
            Some(since) => (since, false),
            None => (*self.waiting.insert(Instant::now()), true),
        };
        let deadline = since + if answered { STREAM_IDLE } else { self.left };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if began || (answered && timer.deadline() < deadline) {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(cx)
    }
}

/// What becomes of a request's body, for whoever waits for the answer or sees the call fail because of it.
pub(crate) struct Fate {
    ended: AtomicU8,
    /// Whether more of the body is to come from the client.
    waiting: AtomicBool,
    /// Whether the integration has begun to answer.
    answered: AtomicBool,
    born: Instant,
    /// When some of it went on, in milliseconds since `born`.
    moved: AtomicU64,
}

impl Fate {
    const TOO_LARGE: u8 = 1;
    const STALLED: u8 = 2;
    const BROKEN: u8 = 3;

    pub(crate) fn new() -> Self {
        Self {
            ended: AtomicU8::new(0),
            waiting: AtomicBool::new(false),
            answered: AtomicBool::new(false),
            born: Instant::now(),
            moved: AtomicU64::new(0),
        }
    }

    fn end(&self, how: u8) {
        self.ended.store(how, Ordering::Relaxed);
    }

    fn waits(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    fn moves(&self) {
        self.waiting.store(false, Ordering::Relaxed);
        let at = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(at, Ordering::Relaxed);
    }

    pub(crate) fn too_large(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == Self::TOO_LARGE
    }

    pub(crate) fn stalled(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == Self::STALLED
    }

    pub(crate) fn broken(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == Self::BROKEN
    }

    /// The answer has begun.
    pub(crate) fn answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Until when an answer may take, which has `timeout` after the last piece of the request; a client that is waited for
    /// is not the integration's fault.
    pub(crate) fn until(&self, timeout: Duration) -> Instant {
        if self.waiting.load(Ordering::Relaxed) {
            return Instant::now() + timeout;
        }
        self.born + Duration::from_millis(self.moved.load(Ordering::Relaxed)) + timeout
    }
}

/// A request's body on its way to the upstream.
pub(crate) enum Outgoing {
    Empty,
    Stream(Box<Upload>),
}

/// A body that arrives while it is passed on.
pub(crate) struct Upload {
    incoming: Incoming,
    left: u64,
    pace: Pace,
    fate: Arc<Fate>,
    peer: Arc<Peer>,
}

impl Outgoing {
    pub(crate) fn stream(incoming: Incoming, limit: u64, fate: Arc<Fate>, peer: Arc<Peer>) -> Self {
        peer.turn.uploads(true);
        Self::Stream(Box::new(Upload { incoming, left: limit, pace: Pace::new(), fate, peer }))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.peer.turn.uploads(false);
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Stream(upload) = self.get_mut() else { return Poll::Ready(None) };
        match Pin::new(&mut upload.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                upload.fate.moves();
                // Trailers were not there when the request was judged: a field among them could be anything.
                let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
                let size = data.len() as u64;
                upload.pace.progress(size);
                if size > upload.left {
                    upload.fate.end(Fate::TOO_LARGE);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                upload.left -= size;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                upload.fate.end(Fate::BROKEN);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                upload.fate.moves();
                Poll::Ready(None)
            }
            Poll::Pending => {
                upload.fate.waits();
                ready!(upload.pace.poll(cx, upload.fate.answered.load(Ordering::Relaxed)));
                upload.fate.end(Fate::STALLED);
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Stream(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Stream(upload) => upload.incoming.size_hint(),
        }
    }
}

/// An answer's body on its way to the client. Dropping it records the exchange.
pub(crate) struct Body {
    kind: Kind,
    exchange: Option<Box<Exchange>>,
    /// Of an HTTP/2 stream.
    flow: Option<Arc<Flow>>,
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream(Box<Download>),
}

/// An upstream's body that is passed on as it arrives.
pub(crate) struct Download {
    incoming: Incoming,
    quiet: Quiet,
    /// Given back when the answer was read to its end, closed otherwise.
    lease: Option<Lease>,
    keep: Option<Box<Keep>>,
}

impl Body {
    /// No body: it is complete as it is, and nobody will ask for more of it.
    pub(crate) fn empty(exchange: Option<Box<Exchange>>) -> Self {
        let mut body = Self { kind: Kind::Empty, exchange, flow: None };
        body.complete();
        body
    }

    pub(crate) fn full(bytes: Bytes, exchange: Option<Box<Exchange>>) -> Self {
        Self { kind: Kind::Full(bytes), exchange, flow: None }
    }

    pub(crate) fn stream(
        incoming: Incoming,
        lease: Lease,
        keep: Option<Box<Keep>>,
        exchange: Option<Box<Exchange>>,
    ) -> Self {
        if incoming.is_end_stream() {
            lease.give_back();
            if let Some(keep) = keep {
                keep.finish();
            }
            return Self::empty(exchange);
        }
        let download = Download { incoming, quiet: Quiet::default(), lease: Some(lease), keep };
        Self { kind: Kind::Stream(Box::new(download)), exchange, flow: None }
    }

    /// Has its pieces counted until they have left.
    pub(crate) fn counted(mut self, flow: Option<Arc<Flow>>) -> Self {
        self.flow = flow;
        self
    }

    /// Answers HEAD: hyper sends the head and asks for nothing.
    pub(crate) fn head_only(mut self) -> Self {
        self.complete();
        self
    }

    fn count(&mut self, bytes: usize) {
        if let Some(exchange) = &mut self.exchange {
            exchange.sent += bytes as u64;
        }
    }

    fn complete(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.complete = true;
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // Its last piece was taken, and then it lay there.
        if let (Some(flow), Some(exchange)) = (&self.flow, &mut self.exchange)
            && flow.given_up()
        {
            exchange.complete = false;
        }
    }
}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.quiet.progress();
                if let (Some(keep), Some(data)) = (&mut self.keep, frame.data_ref())
                    && !keep.add(data)
                    && let Some(keep) = self.keep.take()
                {
                    keep.give_up();
                }
                // With a known length hyper asks no further after the last piece.
                if self.incoming.is_end_stream() {
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
                ready!(self.quiet.poll(cx));
                self.keep = None;
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn end(&mut self) {
        if let Some(lease) = self.lease.take() {
            lease.give_back();
        }
        if let Some(keep) = self.keep.take() {
            keep.finish();
        }
    }
}

impl http_body::Body for Body {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let this = self.get_mut();
        match &mut this.kind {
            Kind::Empty => {
                this.complete();
                Poll::Ready(None)
            }
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.kind = Kind::Empty;
                this.count(bytes.len());
                this.complete();
                Poll::Ready(Some(Ok(Frame::data(Piece::new(bytes, this.flow.as_ref())))))
            }
            Kind::Stream(download) => {
                let polled = ready!(download.poll(cx));
                let ended = polled.is_none() || download.incoming.is_end_stream();
                if let Some(Ok(frame)) = &polled {
                    let size = frame.data_ref().map_or(0, Bytes::len);
                    this.count(size);
                }
                if ended {
                    this.complete();
                }
                let flow = this.flow.as_ref();
                Poll::Ready(polled.map(|result| result.map(|frame| frame.map_data(|data| Piece::new(data, flow)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Full(_) => false,
            Kind::Stream(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Stream(download) => download.incoming.size_hint(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waited(pace: &mut Pace, seconds: u64) {
        pace.waiting = Instant::now().checked_sub(Duration::from_secs(seconds));
    }

    #[test]
    fn a_client_has_its_time_for_each_few_bytes_and_not_for_each_byte() {
        let mut pace = Pace::new();
        for _ in 0..4 {
            waited(&mut pace, 6);
            pace.progress(1);
        }
        assert!(pace.left <= Duration::from_secs(6) && pace.left > Duration::from_secs(5), "{:?}", pace.left);
        // What the upstream takes its time for is not counted.
        pace.progress(1);
        assert!(pace.left > Duration::from_secs(5), "{:?}", pace.left);
        pace.progress(UPLOAD_LEAST);
        assert_eq!(pace.left, UPLOAD_STALL);
    }

    #[tokio::test]
    async fn after_the_answer_has_begun_both_sides_may_be_quiet() {
        let mut pace = Pace::new();
        pace.left = Duration::from_millis(20);
        let mut early = std::pin::pin!(std::future::poll_fn(|cx| pace.poll(cx, false)));
        early.as_mut().await;
        let late = std::future::poll_fn(|cx| pace.poll(cx, true));
        tokio::time::timeout(Duration::from_millis(50), late).await.unwrap_err();
    }

    #[test]
    fn the_time_for_an_answer_begins_when_the_request_has_ended() {
        let timeout = Duration::from_secs(5);
        let fate = Fate::new();
        let at = fate.born;
        assert_eq!(fate.until(timeout), at + timeout);
        fate.moved.store(3_000, Ordering::Relaxed);
        assert_eq!(fate.until(timeout), at + Duration::from_secs(3) + timeout);
        fate.waits();
        assert!(fate.until(Duration::from_secs(60)) >= at + Duration::from_secs(60));
    }
}
