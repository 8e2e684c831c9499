//! Connections that changed their protocol (WebSocket): bytes are copied in both directions until one side ends.
//! The request passed the same checks as every other.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::exchange::Exchange;
use crate::client::Orders;
use crate::integration::UpstreamConnection;

/// Of each direction.
const BUFFER: usize = 16 * 1024;
/// Both sides have agreed to switch already.
const SWITCH: Duration = Duration::from_secs(10);

/// Two sides that have agreed to switch.
pub(crate) struct Ends {
    pub(crate) client: OnUpgrade,
    pub(crate) server: OnUpgrade,
    pub(crate) connection: UpstreamConnection,
}

impl Ends {
    /// Joins both sides; the exchange is recorded when the tunnel ends.
    pub(crate) fn join(self, exchange: Box<Exchange>) {
        tokio::spawn(copy(self, exchange));
    }
}

async fn copy(ends: Ends, mut exchange: Box<Exchange>) {
    let Ends { client, server: upstream, connection } = ends;
    let both = tokio::time::timeout(SWITCH, futures::future::try_join(client, upstream)).await;
    let Ok(Ok((client, upstream))) = both else {
        tracing::debug!("protocol upgrade was not completed");
        return;
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_upstream, to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let timeouts = exchange.peer.timeouts.clone();
    let (up, down) = (Way::new(timeouts.write), Way::new(timeouts.write));
    // Each direction by itself: one that is full does not delay the other.
    let both = futures::future::try_join(up.carry(from_client, to_upstream), down.carry(from_upstream, to_client));
    tokio::select! {
        ended = both => if let Err(error) = ended {
            tracing::debug!(%error, "tunnel failed");
        },
        () = idle(&up, &down, timeouts.tunnel_idle) => tracing::debug!("tunnel closed by its idle timeout"),
        () = tokio::time::sleep_until((exchange.started + timeouts.stream_age).into()) => {
            tracing::debug!("tunnel closed because of its age");
        }
        () = exchange.peer.connection.ordered(Orders::ABORT) => tracing::debug!("tunnel closed to free memory"),
    }
    exchange.sent += down.bytes.load(Ordering::Relaxed);
    exchange.complete = true;
    drop(connection);
    drop(exchange);
}

/// One direction.
struct Way {
    bytes: AtomicU64,
    write_timeout: Duration,
}

impl Way {
    fn new(write_timeout: Duration) -> Self {
        Self { bytes: AtomicU64::new(0), write_timeout }
    }

    /// Copies until the reading side ends, and then closes the other.
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let size = from.read(&mut buffer).await?;
            if size == 0 {
                return to.shutdown().await;
            }
            self.bytes.fetch_add(size as u64, Ordering::Relaxed);
            let stalled = |_| io::Error::new(io::ErrorKind::TimedOut, "the other side takes nothing");
            tokio::time::timeout(self.write_timeout, to.write_all(&buffer[..size])).await.map_err(stalled)??;
        }
    }
}

/// Returns when nothing was copied in either direction for `timeout`, give or take a tenth.
async fn idle(up: &Way, down: &Way, timeout: Duration) {
    let copied = || (up.bytes.load(Ordering::Relaxed), down.bytes.load(Ordering::Relaxed));
    let (mut last, mut unchanged) = (copied(), 0);
    while unchanged < 10 {
        tokio::time::sleep(timeout / 10).await;
        let now = copied();
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
    }
}
