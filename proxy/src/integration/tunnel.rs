//! Connections that changed their protocol (WebSocket): bytes are copied both ways until one side ends.
//! Whether a request may do so was decided like for every other request.

use std::time::Duration;

use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::pool::Lease;
use crate::exchange::Exchange;
use crate::listen::Open;

/// A tunnel through which nothing passes in either direction for this long is closed (AWS: 10 minutes).
const IDLE: Duration = Duration::from_secs(600);
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
    let (mut from_client, mut to_client) = tokio::io::split(TokioIo::new(client));
    let (mut from_upstream, mut to_upstream) = tokio::io::split(TokioIo::new(upstream));
    let mut up = vec![0; 16 * 1024];
    let mut down = vec![0; 16 * 1024];
    let (mut up_open, mut down_open) = (true, true);
    while up_open || down_open {
        let step = tokio::select! {
            read = from_client.read(&mut up), if up_open => match read {
                Ok(0) => { up_open = false; to_upstream.shutdown().await }
                Ok(size) => write(&mut to_upstream, &up[..size]).await,
                Err(error) => Err(error),
            },
            read = from_upstream.read(&mut down), if down_open => match read {
                Ok(0) => { down_open = false; to_client.shutdown().await }
                Ok(size) => { exchange.sent += size as u64; write(&mut to_client, &down[..size]).await }
                Err(error) => Err(error),
            },
            () = tokio::time::sleep(IDLE) => break,
        };
        if let Err(error) = step {
            tracing::debug!(%error, "a tunnel ended early");
            break;
        }
    }
    exchange.complete = true;
    drop(lease);
    drop(exchange);
}

async fn write<W: tokio::io::AsyncWrite + Unpin>(to: &mut W, bytes: &[u8]) -> std::io::Result<()> {
    let stalled = || std::io::Error::new(std::io::ErrorKind::TimedOut, "the other side takes nothing");
    tokio::time::timeout(crate::exchange::body::STALL, to.write_all(bytes)).await.map_err(|_| stalled())?
}
