//! HTTP/1.1 connections of an endpoint: idle ones are kept for each worker thread and used again, last in, first out.

use std::time::{Duration, Instant};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::body::{Payload, SendBody};
use super::dial::Socket;
use super::error::ConnectError;

/// Read buffer: a response of 64 KiB with its head is read at once and written at once.
const READ_BUFFER: usize = 128 * 1024;

struct Idle<B: SendBody> {
    sender: SendRequest<Payload<B>>,
    since: Instant,
}

/// The idle connections of one worker thread.
pub(super) struct IdleConnections<B: SendBody>(Vec<Idle<B>>);

impl<B: SendBody> Default for IdleConnections<B> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<B: SendBody> IdleConnections<B> {
    pub(super) fn put(&mut self, sender: SendRequest<Payload<B>>, now: Instant, timeout: Duration, limit: usize) {
        let old = self.0.iter().take_while(|idle| now.saturating_duration_since(idle.since) > timeout).count();
        self.0.drain(..old);
        if self.0.len() < limit {
            self.0.push(Idle { sender, since: now });
        }
    }

    pub(super) fn take(&mut self, now: Instant, timeout: Duration) -> Option<SendRequest<Payload<B>>> {
        while let Some(idle) = self.0.pop() {
            if idle.sender.is_ready() && now.saturating_duration_since(idle.since) < timeout {
                return Some(idle.sender);
            }
        }
        None
    }
}

/// Whether the connection may change its protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Upgrades {
    Yes,
    No,
}

/// Starts HTTP/1.1 on a connection.
pub(super) async fn start<B: SendBody>(
    socket: Socket,
    upgrades: Upgrades,
) -> Result<SendRequest<Payload<B>>, ConnectError> {
    match socket {
        Socket::Plain(stream) => handshake(TokioIo::new(stream), upgrades).await,
        Socket::Tls(stream) => handshake(TokioIo::new(*stream), upgrades).await,
    }
}

async fn handshake<B, I>(io: TokioIo<I>, upgrades: Upgrades) -> Result<SendRequest<Payload<B>>, ConnectError>
where
    B: SendBody,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut builder = http1::Builder::new();
    // White space between a header's name and the colon is removed, as a proxy must do in responses (RFC 9112, 5.1).
    builder.max_buf_size(READ_BUFFER).allow_spaces_after_header_name_in_responses(true);
    let (sender, connection) = builder.handshake(io).await?;
    let log = |result: Result<(), hyper::Error>| {
        if let Err(error) = result {
            tracing::debug!(%error, "HTTP/1.1 connection to an upstream failed");
        }
    };
    match upgrades {
        Upgrades::Yes => tokio::spawn(async move { log(connection.with_upgrades().await) }),
        Upgrades::No => tokio::spawn(async move { log(connection.await) }),
    };
    Ok(sender)
}
