//! HTTP/1.1 and h2c for the example servers: a listener, limits for connections and bodies, graceful shutdown.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// Further connections wait.
const MAX_CONNECTIONS: usize = 1024;
/// A longer request body gets 413.
const MAX_BODY_BYTES: usize = 64 << 10;
/// Timeout for a request's head, and for its body.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A request whose body has been read.
pub(crate) type Call = Request<Bytes>;
/// A response.
pub(crate) type Reply = Response<Full<Bytes>>;

/// The request handler of a server.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Handles one request.
    fn respond(&self, call: &Call) -> Reply;
}

impl<H: Handler> Handler for Arc<H> {
    fn respond(&self, call: &Call) -> Reply {
        (**self).respond(call)
    }
}

/// A running server. Dropping it stops the server after the requests in progress.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens on `address` and serves with `handler`.
    pub(crate) async fn start(address: SocketAddr, handler: impl Handler) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::new(handler), stopped));
        Ok(Self { address, stop, accepting })
    }

    /// The address that it listens on.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, handler: Arc<impl Handler>, stopped: watch::Receiver<bool>) {
    let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (handler, mut stopped) = (handler.clone(), stopped.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| respond(handler.clone(), request));
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder.http1().timer(TokioTimer::new()).header_read_timeout(READ_TIMEOUT);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            // `wait_for` returns a borrow of the channel, which must not be held while the connection shuts down.
            let asked_to_stop = async { drop(stopped.wait_for(|stop| *stop).await) };
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = asked_to_stop => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error, "a client connection failed");
            }
            drop(permit);
        });
    }
}

async fn respond(handler: Arc<impl Handler>, request: Request<Incoming>) -> Result<Reply, Infallible> {
    let (head, body) = request.into_parts();
    // Limited caps the body, as the ban on `collect` asks for.
    #[allow(clippy::disallowed_methods, reason = "the body is wrapped in Limited")]
    let read = tokio::time::timeout(READ_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    Ok(match read {
        Ok(Ok(body)) => handler.respond(&Request::from_parts(head, body.to_bytes())),
        Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or ended early\n"),
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
    })
}

/// A response in plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Reply {
    with_type(status, HeaderValue::from_static("text/plain; charset=utf-8"), body.into())
}

/// A response in JSON.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Reply {
    with_type(status, HeaderValue::from_static("application/json"), format!("{body}\n").into())
}

fn with_type(status: StatusCode, kind: HeaderValue, body: Bytes) -> Reply {
    let mut reply = Response::new(Full::new(body));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}
