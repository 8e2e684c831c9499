//! The stream server: HTTP/2 over TLS, one path. `stream` serves each stream.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use sluice_daemon::logging::LogLimit;
use sluice_daemon::{Place, Places};
use sluice_wire::STREAM_PATH;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio::time::error::Elapsed;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Rejection};
use crate::publish::admission::Admission;
use crate::publish::certificate::{self, Certificate, CertificateError, CertificateFiles};
use crate::publish::configuration::Current;
use crate::publish::key_uses::KeyUses;
use crate::publish::proxies::Proxies;
use crate::publish::reviewer::Reviewer;
use crate::publish::stream::{self, Services};
use crate::publish::token_review::AuthError;

/// Connections with an authenticated stream; further streams get 503.
const MAX_MEMBERS: usize = 1024;
/// Connections without one. They have places of their own: clients that are not proxies take none of the proxies'.
const MAX_NEWCOMERS: usize = 1024;
/// Timeout of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Timeout of the first request, from the beginning of the connection.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(8);
/// Timeout of the first authenticated stream, from the beginning of the connection: a token review may take some seconds.
const SETUP_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout for sending the response to a client that was not authenticated.
const LINGER: Duration = Duration::from_secs(1);
/// The number of frames that wait for a proxy to read.
const QUEUE: usize = 4;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is in use, or not of this machine.
    #[error("cannot listen on {address} for proxies")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// Without authentication, anybody on the network could read keys.
    #[error(
        "proxies on {0} would not be authenticated: set --stream-secret-file, or --proxy-token-audience with \
         --proxy-service-account, or listen on a loopback address"
    )]
    Unprotected(SocketAddr),
}

/// A bound server.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    admission: Admission,
    metrics: Metrics,
    certificate: Certificate,
    reviewer: Reviewer,
    key_uses: KeyUses,
}

impl Server {
    /// Binds the address and reads the certificate.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn bind(
        address: SocketAddr,
        certificate: CertificateFiles,
        admission: Admission,
        metrics: Metrics,
    ) -> Result<Self, ServerError> {
        if matches!(admission, Admission::Open) && !address.ip().is_loopback() {
            return Err(ServerError::Unprotected(address));
        }
        let certificate = Certificate::load(certificate, b"h2").await?;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| ServerError::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| ServerError::Listen { address, source })?;
        let (reviewer, key_uses) = (Reviewer::none(), KeyUses::default());
        Ok(Self { listener, address, admission, metrics, certificate, reviewer, key_uses })
    }

    /// With access reviews, on behalf of proxies.
    #[must_use]
    pub fn with_reviewer(mut self, reviewer: Reviewer) -> Self {
        self.reviewer = reviewer;
        self
    }

    /// Where uses of access keys are collected that proxies report.
    #[must_use]
    pub fn with_key_uses(mut self, key_uses: KeyUses) -> Self {
        self.key_uses = key_uses;
        self
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves streams until `stop`.
    pub async fn serve(
        self,
        current: watch::Receiver<Option<Arc<Current>>>,
        proxies: Proxies,
        stop: CancellationToken,
    ) {
        let (members, newcomers) = (Arc::new(Semaphore::new(MAX_MEMBERS)), Places::new(MAX_NEWCOMERS));
        let log = Arc::new(RejectionLog::default());
        let mut reload = certificate::reload_interval();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                _ = reload.tick() => {
                    self.reload().await;
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    // Usually there is no file descriptor.
                    tracing::warn!(%error, "cannot accept a proxy's connection");
                    newcomers.evict();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let acceptor = self.certificate.acceptor();
            let connection = Connection {
                source: sluice_daemon::source_of(address),
                admission: self.admission.clone(),
                current: current.clone(),
                proxies: proxies.clone(),
                metrics: self.metrics.clone(),
                reviewer: self.reviewer.clone(),
                key_uses: self.key_uses.clone(),
                log: log.clone(),
                members: members.clone(),
                membership: Arc::default(),
                progress: watch::Sender::new(Progress::Silent),
                stop: stop.clone(),
            };
            tokio::spawn(connection.serve(stream, acceptor, newcomers.take(address)));
        }
    }

    async fn reload(&self) {
        self.admission.reload().await;
        self.certificate.reload().await;
    }
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    /// It has no request yet.
    Silent,
    /// Its first request is being authenticated.
    Requested,
    /// It was not authenticated.
    Rejected,
    /// It has an authenticated stream, and remains a proxy's whatever its further requests are.
    Admitted,
}

/// The limits of log lines about clients.
#[derive(Debug, Default)]
struct RejectionLog {
    /// About those that were not authenticated.
    rejected: LogLimit,
    /// About those for which there was no place.
    full: LogLimit,
}

#[derive(Clone)]
struct Connection {
    source: u128,
    admission: Admission,
    current: watch::Receiver<Option<Arc<Current>>>,
    proxies: Proxies,
    metrics: Metrics,
    reviewer: Reviewer,
    key_uses: KeyUses,
    log: Arc<RejectionLog>,
    /// The places of connections with an authenticated stream.
    members: Arc<Semaphore>,
    /// This connection's own, until it ends.
    membership: Arc<OnceLock<OwnedSemaphorePermit>>,
    progress: watch::Sender<Progress>,
    stop: CancellationToken,
}

impl Connection {
    /// Serves a connection, which keeps `place` until a proxy is authenticated.
    async fn serve(self, stream: TcpStream, acceptor: TlsAcceptor, place: Place) {
        // Frames are small and must be sent at once; without this option they are only slower.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let opened = Instant::now();
        let handshake = tokio::select! {
            handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)) => handshake,
            () = place.evicted() => return self.reject(Rejection::Evicted),
        };
        let tls = match handshake {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => {
                tracing::debug!(%error, "TLS handshake of a proxy failed");
                return self.reject(Rejection::TlsHandshake);
            }
            Err(_) => return self.reject(Rejection::Timeout),
        };
        let (stop, own) = (self.stop.clone(), self.clone());
        let service = service_fn(move |request| {
            let connection = self.clone();
            async move { Ok::<_, Infallible>(connection.respond(request).await) }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(4)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(tls), service));
        tokio::select! {
            ended = &mut serving => return log(ended),
            () = stop.cancelled() => return,
            () = place.evicted() => return own.reject(Rejection::Evicted),
            admitted = own.admitted(opened) => match admitted {
                Ok(true) => drop(place),
                // The response is on its way.
                Ok(false) => {
                    serving.as_mut().graceful_shutdown();
                    if let Ok(ended) = tokio::time::timeout(LINGER, serving).await {
                        log(ended);
                    }
                    return;
                }
                Err(Elapsed { .. }) => return own.reject(Rejection::Timeout),
            },
        }
        tokio::select! {
            ended = serving => log(ended),
            () = stop.cancelled() => {}
        }
    }

    /// Whether the first request was authenticated, once that is known.
    async fn admitted(&self, opened: Instant) -> Result<bool, Elapsed> {
        let mut progress = self.progress.subscribe();
        let mut at_least = async |least, timeout| {
            let reached = progress.wait_for(|progress| *progress >= least);
            // The sender is not dropped: this is one.
            let reached = tokio::time::timeout_at(opened + timeout, reached).await?;
            Ok(reached.map_or(Progress::Rejected, |progress| *progress))
        };
        at_least(Progress::Requested, REQUEST_TIMEOUT).await?;
        Ok(at_least(Progress::Rejected, SETUP_TIMEOUT).await? == Progress::Admitted)
    }

    fn reject(&self, why: Rejection) {
        self.metrics.rejected_connection(why);
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<FrameBody> {
        let advance = |to: Progress| {
            self.progress.send_if_modified(|progress| {
                let before = std::mem::replace(progress, to.max(*progress));
                before < to
            });
        };
        advance(Progress::Requested);
        let (status, why) = match self.open(request).await {
            Ok(response) => {
                advance(Progress::Admitted);
                return response;
            }
            Err(rejected) => rejected,
        };
        self.reject(why);
        advance(Progress::Rejected);
        empty_response(status)
    }

    /// Opens the stream of an authenticated request.
    async fn open(&self, request: Request<Incoming>) -> Result<Response<FrameBody>, (StatusCode, Rejection)> {
        if request.uri().path() != STREAM_PATH {
            return Err((StatusCode::NOT_FOUND, Rejection::Request));
        }
        if request.method() != Method::POST {
            return Err((StatusCode::METHOD_NOT_ALLOWED, Rejection::Request));
        }
        let credential = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let admitted = self.admission.admit(credential, self.source).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            // Any client that reaches the port causes this line.
            if let Some(suppressed) = self.log.rejected.next() {
                tracing::warn!(%error, cause, log.suppressed = suppressed, "rejected a proxy");
            }
            match error {
                AuthError::Timeout | AuthError::Busy | AuthError::Review(_) => {
                    (StatusCode::SERVICE_UNAVAILABLE, Rejection::NotReviewed)
                }
                _ => (StatusCode::UNAUTHORIZED, Rejection::Unauthenticated),
            }
        })?;
        if self.membership.get().is_none() {
            let permit = self.members.clone().try_acquire_owned().map_err(|_| {
                if let Some(suppressed) = self.log.full.next() {
                    tracing::warn!(
                        limit = MAX_MEMBERS,
                        log.suppressed = suppressed,
                        "limit of connected proxies reached; rejected a proxy"
                    );
                }
                (StatusCode::SERVICE_UNAVAILABLE, Rejection::Full)
            })?;
            drop(self.membership.set(permit)); // a stream at the same moment may have set one
        }
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (current, proxies, stop) = (self.current.clone(), self.proxies.clone(), self.stop.clone());
        let services = Services { reviewer: self.reviewer.clone(), key_uses: self.key_uses.clone() };
        let gone = sender.clone();
        tokio::spawn(async move {
            let running = stream::run(request.into_body(), sender, current, proxies, admitted, services);
            tokio::select! {
                ended = running => tracing::debug!(reason = %ended, "stream ended"),
                () = gone.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Response::new(FrameBody(Some(receiver))))
    }
}

fn empty_response(status: StatusCode) -> Response<FrameBody> {
    let mut response = Response::new(FrameBody(None));
    *response.status_mut() = status;
    response
}

fn log(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "connection of a proxy failed");
    }
}

/// A body of frames; none: empty.
struct FrameBody(Option<mpsc::Receiver<Bytes>>);

impl http_body::Body for FrameBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut self.0 {
            None => Poll::Ready(None),
            Some(receiver) => receiver.poll_recv(cx).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}
