//! Connections that changed their protocol (WebSocket): bytes are copied both ways until one side ends.
//! Whether a request may do so was decided like for every other request.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::pool::Lease;
use crate::exchange::Exchange;
use crate::exchange::body::STALL;
use crate::listen::Open;

/// A tunnel through which nothing passes in either direction for this long is closed (AWS: 10 minutes).
const IDLE: Duration = Duration::from_secs(600);
/// Of each direction.
const BUFFER: usize = 16 * 1024;
/// Both sides have agreed to switch already.
const SWITCH: Duration = Duration::from_secs(10);

/// Two sides that have agreed to switch.
pub(crate) struct Ends {
    pub(crate) client: OnUpgrade,
    pub(crate) server: OnUpgrade,
    pub(crate) lease: Lease,
}

impl Ends {
    /// Joins both sides; the exchange is recorded when they part.
    pub(crate) fn join(self, exchange: Box<Exchange>) {
        let open = Open::stay(&exchange.worker.shared);
        tokio::spawn(async move {
            copy(self, exchange).await;
            drop(open);
        });
    }
}

async fn copy(ends: Ends, mut exchange: Box<Exchange>) {
    let Ends { client, server: upstream, lease } = ends;
    let both = tokio::time::timeout(SWITCH, futures::future::try_join(client, upstream)).await;
    let Ok(Ok((client, upstream))) = both else {
        tracing::debug!("a protocol switch was not completed");
        return;
    };
    let (from_client, to_client) = tokio::io::split(TokioIo::new(client));
    let (from_upstream, to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let (up, down) = (Way::default(), Way::default());
    // Each way by itself: one that is full does not hold up the other.
    let both = futures::future::try_join(up.carry(from_client, to_upstream), down.carry(from_upstream, to_client));
    tokio::select! {
        ended = both => if let Err(error) = ended {
            tracing::debug!(%error, "a tunnel ended early");
        },
        () = idle(&up, &down) => tracing::debug!("a tunnel was idle for too long"),
    }
    exchange.sent += down.bytes.load(Ordering::Relaxed);
    exchange.complete = true;
    drop(lease);
    drop(exchange);
}

/// One direction.
#[derive(Default)]
struct Way {
    /// What it has carried.
    bytes: AtomicU64,
}

impl Way {
    /// Carries until the reading side ends, and says so to the other.
    async fn carry(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER];
        loop {
            let size = from.read(&mut buffer).await?;
            if size == 0 {
                return to.shutdown().await;
            }
            self.bytes.fetch_add(size as u64, Ordering::Relaxed);
            let stalled = |_| io::Error::new(io::ErrorKind::TimedOut, "the other side takes nothing");
            tokio::time::timeout(STALL, to.write_all(&buffer[..size])).await.map_err(stalled)??;
        }
    }
}

/// Returns when neither way has carried anything for [`IDLE`], give or take a tenth.
async fn idle(up: &Way, down: &Way) {
    let carried = || (up.bytes.load(Ordering::Relaxed), down.bytes.load(Ordering::Relaxed));
    let (mut seen, mut quiet) = (carried(), 0);
    while quiet < 10 {
        tokio::time::sleep(IDLE / 10).await;
        let now = carried();
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
}
