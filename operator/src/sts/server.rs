//! The listener of the token service: HTTP/1.1 over TLS, or without TLS on a loopback address. A connection serves one request.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sluice_daemon::Places;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::publish::{Certificate, CertificateError, reload_interval};
use crate::sts::fault::Fault;
use crate::sts::service::{TokenService, unreadable};

/// Connections at a time.
const MAX_CONNECTIONS: usize = 256;
/// From the connection to the end of the response.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Of the TLS handshake, and of the head of a request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Larger than the largest token that is accepted, encoded.
const MAX_BODY: usize = 64 * 1024;
/// Of the head of a request.
const MAX_HEAD: usize = 32 * 1024;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StsServerError {
    /// The address is in use, or not of this machine.
    #[error("cannot listen on {address} for the token service")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The cause.
        source: std::io::Error,
    },
    /// Tokens and credentials would travel in plain text.
    #[error("the token service on {0} needs a certificate")]
    Plain(SocketAddr),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

/// A bound server.
#[derive(Debug)]
pub struct StsServer {
    listener: TcpListener,
    address: SocketAddr,
    certificate: Option<Certificate>,
    metrics: Metrics,
}

impl StsServer {
    /// Binds the address; without a certificate it must be a loopback address.
    ///
    /// # Errors
    /// See [`StsServerError`].
    pub async fn bind(
        address: SocketAddr,
        certificate: Option<Certificate>,
        metrics: Metrics,
    ) -> Result<Self, StsServerError> {
        if certificate.is_none() && !address.ip().is_loopback() {
            return Err(StsServerError::Plain(address));
        }
        let bound = TcpListener::bind(address).await;
        let listener = bound.map_err(|source| StsServerError::Listen { address, source })?;
        let address = listener.local_addr().map_err(|source| StsServerError::Listen { address, source })?;
        Ok(Self { listener, address, certificate, metrics })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    pub async fn serve(self, service: TokenService, stop: CancellationToken) {
        let places = Places::new(MAX_CONNECTIONS);
        let mut reload = reload_interval();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                _ = reload.tick() => {
                    if let Some(certificate) = &self.certificate {
                        certificate.reload().await;
                    }
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            let (stream, address) = match accepted {
                Ok((stream, address)) => (stream, address.ip()),
                Err(error) => {
                    // Usually there is no file descriptor.
                    tracing::warn!(%error, "cannot accept a connection to the token service");
                    places.evict();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let acceptor = self.certificate.as_ref().map(Certificate::acceptor);
            // Each address alone: Pods of a node can have addresses of one network, and are clients of this service.
            let source = match address.to_canonical() {
                IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
                IpAddr::V6(address) => address.to_bits(),
            };
            let serving = connection(stream, acceptor, service.clone(), self.metrics.clone(), source);
            let (place, stop) = (places.take(address), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    ended = tokio::time::timeout(TIMEOUT, serving) => if ended.is_err() {
                        tracing::debug!("a connection to the token service took too long");
                    },
                    () = place.evicted() => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

async fn connection(
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    service: TokenService,
    metrics: Metrics,
    source: u128,
) {
    let Some(acceptor) = acceptor else { return serve(stream, service, metrics, source).await };
    match tokio::time::timeout(HEAD_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(tls)) => serve(tls, service, metrics, source).await,
        Ok(Err(error)) => tracing::debug!(%error, "TLS handshake with a client of the token service failed"),
        Err(_) => tracing::debug!("TLS handshake with a client of the token service took too long"),
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, service: TokenService, metrics: Metrics, source: u128) {
    let respond = service_fn(move |request: Request<Incoming>| {
        let (service, metrics) = (service.clone(), metrics.clone());
        async move { Ok::<_, Infallible>(respond(request, &service, &metrics, source).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).keep_alive(false).max_buf_size(MAX_HEAD);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), respond).await {
        tracing::debug!(%error, "connection to the token service failed");
    }
}

#[expect(clippy::disallowed_methods, reason = "Limited is the cap")]
async fn respond(
    request: Request<Incoming>,
    service: &TokenService,
    metrics: &Metrics,
    source: u128,
) -> Response<String> {
    let (parts, body) = request.into_parts();
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => service.respond(&parts, &body.to_bytes(), source).await,
        Err(_) => unreadable(metrics, &Fault::invalid("The request is longer than 64 KiB, or incomplete")),
    }
}
