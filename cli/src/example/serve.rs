//! Serving HTTP/1.1 and h2c for the example servers: a listener, a cap on connections and on bodies, an orderly end.
//! What is answered is each server's.

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

/// More connections than this wait.
const MAX_CONNECTIONS: usize = 1024;
/// A longer request body is answered with 413.
const MAX_BODY_BYTES: usize = 64 << 10;
/// How long a client may take for a request's head, and for its body.
const PATIENCE: Duration = Duration::from_secs(30);

/// A request whose body has been read.
pub(crate) type Call = Request<Bytes>;
/// What a server answers.
pub(crate) type Answer = Response<Full<Bytes>>;

/// What answers the requests of a server.
pub(crate) trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn answer(&self, call: &Call) -> Answer;
}

/// A running server; it ends when this is dropped, after the requests that are being answered.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Listens on `address` and lets `handler` answer.
    pub(crate) async fn start(address: SocketAddr, handler: impl Handler) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::new(handler), stopped));
        Ok(Self { address, stop, accepting })
    }

    /// Where it listens.
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
            builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            // Its result refers to the channel, which must not be held while the connection ends.
            let asked_to_stop = async { drop(stopped.wait_for(|stop| *stop).await) };
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = asked_to_stop => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(error, "a connection ended early");
            }
            drop(permit);
        });
    }
}

async fn respond(handler: Arc<impl Handler>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    // Limited caps the body, as the ban on `collect` asks for.
    #[allow(clippy::disallowed_methods, reason = "the body is wrapped in Limited")]
    let read = tokio::time::timeout(PATIENCE, Limited::new(body, MAX_BODY_BYTES).collect()).await;
    Ok(match read {
        Ok(Ok(body)) => handler.answer(&Request::from_parts(head, body.to_bytes())),
        Ok(Err(_)) => text(StatusCode::PAYLOAD_TOO_LARGE, "the body is too long or ended early\n"),
        Err(_) => text(StatusCode::REQUEST_TIMEOUT, "the body took too long\n"),
    })
}

/// A response in plain text.
pub(crate) fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, HeaderValue::from_static("text/plain; charset=utf-8"), body.into())
}

/// A response in JSON.
pub(crate) fn json(status: StatusCode, body: &serde_json::Value) -> Answer {
    with_type(status, HeaderValue::from_static("application/json"), format!("{body}\n").into())
}

fn with_type(status: StatusCode, kind: HeaderValue, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
