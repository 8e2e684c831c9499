//! Sockets whose other side must keep taking what it asked for, and must end a head that it has begun: a client that stops
//! reading, or writes its head too slowly, is let go. Clients that stop sending a body, or say nothing between requests, are
//! the body's and hyper's timers' business.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::Peer;

/// Where an HTTP/1.1 connection stands: its requests, the stream and whoever waits for a head share it.
pub(crate) struct Turn {
    at: AtomicU8,
    /// A request's body may still be coming when its answer is gone.
    uploading: AtomicBool,
}

impl Turn {
    const BETWEEN: u8 = 0;
    const HEAD: u8 = 1;
    const REQUEST: u8 = 2;

    /// A new connection, which must begin with a head.
    pub(crate) const fn new() -> Self {
        Self { at: AtomicU8::new(Self::HEAD), uploading: AtomicBool::new(false) }
    }

    /// Bytes have come.
    fn arrived(&self) {
        if self.at.load(Ordering::Relaxed) == Self::BETWEEN && !self.uploading.load(Ordering::Relaxed) {
            self.at.store(Self::HEAD, Ordering::Relaxed);
        }
    }

    /// A head is whole.
    pub(crate) fn request(&self) {
        self.at.store(Self::REQUEST, Ordering::Relaxed);
    }

    /// A body is passed on, until it is whole or given up.
    pub(crate) fn uploads(&self, uploading: bool) {
        self.uploading.store(uploading, Ordering::Relaxed);
    }

    /// An answer is gone.
    pub(crate) fn over(&self) {
        self.at.store(Self::BETWEEN, Ordering::Relaxed);
    }

    /// Whether a head has begun and is not whole.
    pub(crate) fn in_head(&self) -> bool {
        self.at.load(Ordering::Relaxed) == Self::HEAD
    }
}

/// A stream on which a write that makes no progress for a while fails.
pub(crate) struct Patient<S> {
    stream: S,
    peer: Arc<Peer>,
    patience: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, peer: Arc<Peer>, patience: Duration) -> Self {
        Self { stream, peer, patience, timer: None, waiting: false }
    }

    fn judge<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        let deadline = Instant::now() + self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(deadline);
        }
        match timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        // While the client takes an answer slowly its next head may have come and must wait.
        if buffer.filled().len() > before && !this.waiting {
            this.peer.turn.arrived();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.judge(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.judge(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(cx) {
            // A flush with nothing in the way says nothing about the client.
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => this.judge(cx, Poll::Pending),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.judge(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_stops_is_let_go_and_one_that_reads_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let one = || http::HeaderValue::from_static("1");
        let origin = crate::headers::Origin { source: one(), port: one(), tls: false };
        let peer = Arc::new(Peer { origin, turn: Turn::new() });
        let mut patient = Patient::new(near, peer, Duration::from_millis(50));
        let writing = tokio::spawn(async move {
            let result = patient.write_all(&[1; 64]).await;
            (result, patient)
        });
        let mut all = [0; 64];
        far.read_exact(&mut all).await.unwrap();
        let (result, mut patient) = writing.await.unwrap();
        result.unwrap();
        let error = patient.write_all(&[1; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
