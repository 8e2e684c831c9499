//! Bodies in both directions, as enums: nothing is boxed and nothing is gathered that can be passed on.
//! Which body a request gets is the pipeline's choice.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::Exchange;
use crate::cache;
use crate::integration::pool::Lease;

/// A body that sends nothing for this long is given up.
pub(crate) const STALL: Duration = Duration::from_secs(30);

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
struct Stall {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Stall {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(STALL)));
        timer.as_mut().poll(cx)
    }

    fn progress(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + STALL);
        }
    }
}

/// What became of a request's body, for whoever sees the call fail because of it.
#[derive(Default)]
pub(crate) struct Fate(AtomicU8);

impl Fate {
    const TOO_LARGE: u8 = 1;
    const STALLED: u8 = 2;
    const BROKEN: u8 = 3;

    pub(crate) fn too_large(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::TOO_LARGE
    }

    pub(crate) fn stalled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::STALLED
    }

    pub(crate) fn broken(&self) -> bool {
        self.0.load(Ordering::Relaxed) == Self::BROKEN
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
    stall: Stall,
    fate: Arc<Fate>,
}

impl Outgoing {
    pub(crate) fn stream(incoming: Incoming, limit: u64, fate: Arc<Fate>) -> Self {
        Self::Stream(Box::new(Upload { incoming, left: limit, stall: Stall::default(), fate }))
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Stream(upload) = self.get_mut() else { return Poll::Ready(None) };
        match Pin::new(&mut upload.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                upload.stall.progress();
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                if size > upload.left {
                    upload.fate.0.store(Fate::TOO_LARGE, Ordering::Relaxed);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                upload.left -= size;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                upload.fate.0.store(Fate::BROKEN, Ordering::Relaxed);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                ready!(upload.stall.poll(cx));
                upload.fate.0.store(Fate::STALLED, Ordering::Relaxed);
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
}

enum Kind {
    Empty,
    Full(Bytes),
    Stream(Box<Download>),
}

/// An upstream's body that is passed on as it arrives.
pub(crate) struct Download {
    incoming: Incoming,
    stall: Stall,
    /// Given back when the answer was read to its end, closed otherwise.
    lease: Option<Lease>,
    keep: Option<Box<Keep>>,
}

/// The copy of an answer that will be cached once it is whole.
pub(crate) struct Keep {
    lead: cache::Lead,
    head: cache::Head,
    chunks: Vec<Bytes>,
    size: usize,
}

impl Body {
    pub(crate) fn empty(exchange: Option<Box<Exchange>>) -> Self {
        Self { kind: Kind::Empty, exchange }
    }

    pub(crate) fn full(bytes: Bytes, exchange: Option<Box<Exchange>>) -> Self {
        Self { kind: Kind::Full(bytes), exchange }
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
            return Self { kind: Kind::Empty, exchange };
        }
        let download = Download { incoming, stall: Stall::default(), lease: Some(lease), keep };
        Self { kind: Kind::Stream(Box::new(download)), exchange }
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

impl Keep {
    pub(crate) fn new(lead: cache::Lead, head: cache::Head) -> Self {
        Self { lead, head, chunks: Vec::new(), size: 0 }
    }

    fn add(&mut self, data: &Bytes) -> bool {
        self.size += data.len();
        self.chunks.push(data.clone());
        self.size <= cache::MAX_BODY_BYTES
    }

    /// Too long: for a while requests for this answer do not wait for each other.
    fn give_up(self) {
        self.lead.pass(std::time::Instant::now());
    }

    fn finish(self) {
        let body = match <[Bytes; 1]>::try_from(self.chunks) {
            Ok([only]) => only,
            Err(chunks) => Bytes::from(chunks.concat()),
        };
        self.lead.keep(self.head.with_body(body));
    }
}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                self.stall.progress();
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
                ready!(self.stall.poll(cx));
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
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
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
                Poll::Ready(Some(Ok(Frame::data(bytes))))
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
                Poll::Ready(polled)
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
