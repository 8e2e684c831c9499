//! The stream server: HTTP/2 over TLS, one path. `stream` serves each stream.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sluice_wire::STREAM_PATH;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::publish::admission::{Admission, AuthError};
use crate::publish::configuration::Current;
use crate::publish::proxies::Proxies;
use crate::publish::stream;

/// Further connections are closed.
const MAX_CONNECTIONS: usize = 1024;
/// Timeout of the TLS handshake and of the first authenticated stream.
const SETUP_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the certificate files and the shared secret are read again.
const RELOAD_EVERY: Duration = Duration::from_secs(30);
/// The number of frames that wait for a proxy to read.
const QUEUE: usize = 4;

/// The files of the server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain as PEM.
    pub chain: PathBuf,
    /// The key as PEM.
    pub key: PathBuf,
}

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
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file has the wrong content.
    #[error("cannot use the certificate in {path}: a certificate chain and its private key are required, as PEM")]
    Certificate {
        /// The file.
        path: PathBuf,
    },
    /// The chain and the key do not match.
    #[error("cannot use the certificate for the stream")]
    Tls(#[from] rustls::Error),
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
    certificate: CertificateFiles,
    config: watch::Sender<Arc<rustls::ServerConfig>>,
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
    ) -> Result<Self, ServerError> {
        if matches!(admission, Admission::Open) && !address.ip().is_loopback() {
            return Err(ServerError::Unprotected(address));
        }
        let config = load(&certificate).await?;
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| ServerError::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| ServerError::Listen { address, source })?;
        Ok(Self { listener, address, admission, certificate, config: watch::Sender::new(Arc::new(config)) })
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
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut reload = tokio::time::interval(RELOAD_EVERY);
        reload.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                _ = reload.tick() => {
                    self.reload().await;
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a proxy's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                tracing::warn!(limit = MAX_CONNECTIONS, "connection limit of the stream reached; closing a connection");
                continue;
            };
            let acceptor = TlsAcceptor::from(self.config.borrow().clone());
            let connection = Connection {
                admission: self.admission.clone(),
                current: current.clone(),
                proxies: proxies.clone(),
                admitted: Arc::default(),
                stop: stop.clone(),
            };
            tokio::spawn(async move {
                connection.serve(stream, acceptor).await;
                drop(permit);
            });
        }
    }

    async fn reload(&self) {
        self.admission.reload().await;
        match load(&self.certificate).await {
            Ok(config) => drop(self.config.send_replace(Arc::new(config))),
            Err(error) => tracing::warn!(%error, "cannot reload the stream certificate; keeping the current one"),
        }
    }
}

async fn load(files: &CertificateFiles) -> Result<rustls::ServerConfig, ServerError> {
    let read = async |path: &PathBuf| {
        tokio::fs::read(path).await.map_err(|source| ServerError::Read { path: path.clone(), source })
    };
    let (chain_pem, key_pem) = (read(&files.chain).await?, read(&files.key).await?);
    let chain = CertificateDer::pem_slice_iter(&chain_pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| ServerError::Certificate { path: files.chain.clone() })?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem);
    let key = key.map_err(|_| ServerError::Certificate { path: files.key.clone() })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

#[derive(Clone)]
struct Connection {
    admission: Admission,
    current: watch::Receiver<Option<Arc<Current>>>,
    proxies: Proxies,
    admitted: Arc<AtomicBool>,
    stop: CancellationToken,
}

impl Connection {
    async fn serve(self, stream: TcpStream, acceptor: TlsAcceptor) {
        // Frames are small and must be sent at once; without this option they are only slower.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let opened = tokio::time::Instant::now();
        let tls = match tokio::time::timeout(SETUP_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake of a proxy failed"),
            Err(_) => return tracing::debug!("TLS handshake of a proxy timed out"),
        };
        let admitted = self.admitted.clone();
        let stop = self.stop.clone();
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
        let setup = tokio::time::sleep_until(opened + SETUP_TIMEOUT);
        tokio::select! {
            ended = &mut serving => return log(ended),
            () = stop.cancelled() => return,
            () = setup => {}
        }
        if !admitted.load(Ordering::Acquire) {
            return tracing::debug!("closed a connection without an authenticated stream");
        }
        tokio::select! {
            ended = serving => log(ended),
            () = stop.cancelled() => {}
        }
    }

    async fn respond(&self, request: Request<Incoming>) -> Response<FrameBody> {
        if request.uri().path() != STREAM_PATH {
            return empty_response(StatusCode::NOT_FOUND);
        }
        if request.method() != Method::POST {
            return empty_response(StatusCode::METHOD_NOT_ALLOWED);
        }
        let credential = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let admitted = match self.admission.admit(credential).await {
            Ok(admitted) => admitted,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "rejected a proxy");
                let unknown = matches!(error, AuthError::Timeout | AuthError::Busy | AuthError::Review(_));
                return empty_response(if unknown {
                    StatusCode::SERVICE_UNAVAILABLE
                } else {
                    StatusCode::UNAUTHORIZED
                });
            }
        };
        self.admitted.store(true, Ordering::Release);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (current, proxies, stop) = (self.current.clone(), self.proxies.clone(), self.stop.clone());
        let gone = sender.clone();
        tokio::spawn(async move {
            let running = stream::run(request.into_body(), sender, current, proxies, admitted);
            tokio::select! {
                ended = running => tracing::debug!(reason = %ended, "stream ended"),
                () = gone.closed() => {}
                () = stop.cancelled() => {}
            }
        });
        Response::new(FrameBody(Some(receiver)))
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
