//! The socket of an HTTP/1.1 connection as hyper sees it. [`Framing`] looks at the bytes that arrive. hyper's own response to a
//! head that it cannot parse is held back, so that `early` can send a better one. A client that has closed its side of the
//! connection still gets its response.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::framing::Framing;
use crate::client::Peer;
use crate::listen::context::Strictness;

/// A socket for hyper.
pub(super) struct Http1Io<S> {
    socket: S,
    peer: Arc<Peer>,
    framing: Framing,
    /// Bytes that were read before hyper began.
    first: Bytes,
    /// What hyper gets instead of bytes that it must not get.
    instead: &'static [u8],
    /// hyper's response to a head that it cannot parse, unless hyper goes on.
    held: Vec<u8>,
    /// The client has closed its side; the request in progress may take this long.
    closed: Option<Pin<Box<Sleep>>>,
}

/// What is left of a connection that hyper does not use any more.
pub(super) struct Left<S> {
    pub(super) socket: S,
    pub(super) framing: Framing,
}

impl<S> Http1Io<S> {
    pub(super) fn new(socket: S, peer: Arc<Peer>, first: Bytes, strictness: Strictness) -> Self {
        let framing = Framing::new(strictness);
        Self { socket, peer, framing, first, instead: &[], held: Vec::new(), closed: None }
    }

    pub(super) fn into_left(self) -> Left<S> {
        Left { socket: self.socket, framing: self.framing }
    }

    /// Gives hyper as much as fits of what it gets instead.
    fn put_instead(&mut self, buffer: &mut ReadBuf<'_>) {
        let (now, later) = self.instead.split_at(self.instead.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.instead = later;
    }

    /// The end of the stream. It does not end a request whose last byte has arrived: the client can still read its response.
    /// Most clients that close are gone, and under pressure their requests are not served.
    fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.framing.is_between_messages() || !self.peer.state.is_serving() || self.peer.load.is_pressed() {
            return Poll::Ready(Ok(()));
        }
        let timeout = self.peer.timeouts.half_closed;
        self.closed.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout))).as_mut().poll(cx).map(Ok)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http1Io<S> {
    /// Sends what was held back if hyper has not ended the connection.
    fn poll_held(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.held.is_empty() && self.peer.state.is_released() {
            let size = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.held))?;
            if size == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.held.drain(..size);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Http1Io<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if !this.instead.is_empty() {
            this.put_instead(buffer);
            return Poll::Ready(Ok(()));
        }
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.socket).poll_read(cx, buffer))?;
        } else {
            let size = this.first.len().min(buffer.remaining());
            buffer.put_slice(&this.first.split_to(size));
        }
        let bytes = buffer.filled().get(before..).unwrap_or_default();
        if bytes.is_empty() && buffer.remaining() > 0 {
            return this.poll_closed(cx);
        }
        if let Err(violation) = this.framing.look(bytes, this.peer.state.begun()) {
            buffer.set_filled(before + violation.at);
            this.instead = violation.instead;
            this.put_instead(buffer);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Http1Io<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        let Some(start) = own_response(bytes) else { return Pin::new(&mut this.socket).poll_write(cx, bytes) };
        let (before, response) = bytes.split_at(start);
        if !before.is_empty() {
            return Pin::new(&mut this.socket).poll_write(cx, before);
        }
        this.held = response.to_vec();
        this.peer.state.hold();
        Poll::Ready(Ok(response.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let last = bytes.iter().rposition(|slice| !slice.is_empty());
        match last.and_then(|at| Some((at, bytes.get(at)?))) {
            Some((0, only)) => self.poll_write(cx, only),
            Some((at, last)) if own_response(last).is_some() => {
                let this = self.get_mut();
                ready!(this.poll_held(cx))?;
                Pin::new(&mut this.socket).poll_write_vectored(cx, bytes.get(..at).unwrap_or_default())
            }
            _ => {
                let this = self.get_mut();
                ready!(this.poll_held(cx))?;
                Pin::new(&mut this.socket).poll_write_vectored(cx, bytes)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        Pin::new(&mut this.socket).poll_flush(cx)
    }

    /// With a response held back, the socket is needed for another one.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_held(cx))?;
        if this.held.is_empty() { Pin::new(&mut this.socket).poll_shutdown(cx) } else { Poll::Ready(Ok(())) }
    }
}

/// Where hyper's response to a head that it cannot parse begins, if the bytes end with one. Whether it is one is certain only
/// when hyper has ended the connection with an error.
#[inline]
fn own_response(bytes: &[u8]) -> Option<usize> {
    // Of the responses that end without a body, few are rejections.
    if bytes.ends_with(b" GMT\r\n\r\n") { own_response_at(bytes) } else { None }
}

#[inline(never)]
fn own_response_at(bytes: &[u8]) -> Option<usize> {
    const FIELDS: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\ndate: ";
    const DATE: usize = "Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n".len();
    /// The longest status line: 431.
    const LINE: usize = "HTTP/1.1 431 Request Header Fields Too Large".len();
    let rest = bytes.get(..bytes.len().checked_sub(DATE)?)?.strip_suffix(FIELDS)?;
    let from = rest.len().saturating_sub(LINE);
    let line = |at: &usize| rest.get(*at..).is_some_and(|rest| rest.starts_with(b"HTTP/1.1 4"));
    (from..rest.len()).find(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_responses_of_hyper_are_recognized() {
        let date = "Thu, 26 Nov 2026 06:02:37 GMT";
        let text = |line: &str| format!("{line}\r\nconnection: close\r\ncontent-length: 0\r\ndate: {date}\r\n\r\n");
        for line in
            ["HTTP/1.1 400 Bad Request", "HTTP/1.1 414 URI Too Long", "HTTP/1.1 431 Request Header Fields Too Large"]
        {
            let text = text(line);
            assert_eq!(own_response(text.as_bytes()), Some(0));
            assert_eq!(own_response(format!("the end of another{text}").as_bytes()), Some(18));
            assert_eq!(own_response(format!("{text}x").as_bytes()), None);
        }
        for other in [
            text("HTTP/1.1 200 OK"),
            format!("HTTP/1.1 400 Bad Request\r\nx-request-id: 1\r\ncontent-length: 0\r\ndate: {date}\r\n\r\n"),
            format!("\r\nconnection: close\r\ncontent-length: 0\r\ndate: {date}\r\n\r\n"),
        ] {
            assert_eq!(own_response(other.as_bytes()), None, "{other}");
        }
    }
}
