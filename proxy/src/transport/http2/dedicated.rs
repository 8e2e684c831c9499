//! An HTTP/2 connection that one caller uses alone, as the configuration stream does.

use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::transport::body::SendBody;
use crate::transport::dial::{Dialer, Http, Socket, in_time};
use crate::transport::error::ConnectError;

/// Settings of a connection that one caller has for itself.
pub(crate) struct Dedicated {
    /// From the look-up of the name to a connection that can be used.
    pub(crate) connect: Duration,
    /// Of the connection and of each stream.
    pub(crate) window: u32,
    pub(crate) ping: Duration,
}

/// A connection for one caller, over which it has a long conversation. It ends with the sender and its streams.
pub(crate) async fn dedicated<B: SendBody>(
    dialer: &Dialer,
    settings: Dedicated,
) -> Result<http2::SendRequest<B>, ConnectError> {
    in_time(settings.connect, async {
        let socket = dialer.open(Http::H2).await?;
        match socket {
            Socket::Tls(_) if !socket.chose_http2() => Err(ConnectError::NoHttp2),
            Socket::Plain(stream) => handshake(TokioIo::new(stream), settings).await,
            Socket::Tls(stream) => handshake(TokioIo::new(*stream), settings).await,
        }
    })
    .await
}

async fn handshake<B, I>(io: TokioIo<I>, settings: Dedicated) -> Result<http2::SendRequest<B>, ConnectError>
where
    B: SendBody,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.window)
        .initial_connection_window_size(settings.window)
        .keep_alive_interval(settings.ping)
        .keep_alive_timeout(settings.ping)
        .keep_alive_while_idle(true)
        .handshake(io)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            let error = sluice_daemon::logging::chain(&error);
            tracing::debug!(error, "dedicated HTTP/2 connection failed");
        }
    });
    Ok(sender)
}
