//! Sockets with a write timeout: a client that reads nothing of its response is disconnected, and the kernel forgets what it
//! has not read. Timeouts of request heads are in `http1`, of request bodies in `body`, between requests in hyper.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;

use crate::client::Peer;

/// A socket that can be closed without the kernel sending the bytes that it has buffered.
pub(super) trait Reset {
    /// Makes closing the socket a reset: otherwise the kernel keeps the buffered bytes for minutes.
    fn reset_on_close(&self);
}

impl Reset for TcpStream {
    fn reset_on_close(&self) {
        if let Err(error) = SockRef::from(self).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "cannot reset a client connection");
        }
    }
}

impl Reset for DuplexStream {
    fn reset_on_close(&self) {}
}

impl<S: Reset> Reset for TlsStream<S> {
    fn reset_on_close(&self) {
        self.get_ref().0.reset_on_close();
    }
}

impl<S: Reset> Reset for Box<S> {
    fn reset_on_close(&self) {
        (**self).reset_on_close();
    }
}

/// A stream on which a write that makes no progress for a while fails.
pub(super) struct WriteTimeout<S: Reset> {
    stream: S,
    peer: Arc<Peer>,
    timeout: Duration,
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
}

/// While the proxy is under pressure, a tenth of the timeout applies.
const UNDER_PRESSURE: u32 = 10;

impl<S: Reset> Drop for WriteTimeout<S> {
    fn drop(&mut self) {
        if self.peer.state.is_slow() {
            self.stream.reset_on_close();
        }
    }
}

impl<S: Reset> WriteTimeout<S> {
    pub(super) fn new(stream: S, peer: Arc<Peer>, timeout: Duration) -> Self {
        Self { stream, peer, timeout, timer: None, waiting: false }
    }

    fn check<T>(&mut self, cx: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        let deadline = Instant::now() + self.timeout;
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if !self.waiting {
            self.waiting = true;
            timer.as_mut().reset(deadline);
        }
        // Under pressure, the connection is polled every second.
        let pressed = self.peer.load.is_pressed() && timer.deadline() < deadline - self.timeout / UNDER_PRESSURE;
        match timer.as_mut().poll(cx) {
            Poll::Pending if !pressed => Poll::Pending,
            _ => {
                self.peer.state.set_slow();
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing")))
            }
        }
    }
}

impl<S: Reset + AsyncRead + Unpin> AsyncRead for WriteTimeout<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        // While the client reads a response slowly, its next head may have arrived and must wait.
        if buffer.filled().len() > before && !this.waiting {
            this.peer.state.bytes_read();
        }
        polled
    }
}

impl<S: Reset + AsyncWrite + Unpin> AsyncWrite for WriteTimeout<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.check(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bytes);
        this.check(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(cx) {
            // A flush with nothing to write is no progress of the client.
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => this.check(cx, Poll::Pending),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(cx);
        this.check(cx, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::client::testing;

    #[tokio::test]
    async fn a_client_that_stops_reading_is_disconnected_and_one_that_reads_is_not() {
        let (near, mut far) = tokio::io::duplex(16);
        let mut socket = WriteTimeout::new(near, testing::peer(), Duration::from_millis(50));
        let writing = tokio::spawn(async move {
            let result = socket.write_all(&[1; 64]).await;
            (result, socket)
        });
        let mut all = [0; 64];
        far.read_exact(&mut all).await.unwrap();
        let (result, mut socket) = writing.await.unwrap();
        result.unwrap();
        let error = socket.write_all(&[1; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
