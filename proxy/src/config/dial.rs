//! Connecting to the operator: one HTTP/2 connection, over TLS, or in the clear to this machine only.
//! What travels on it is in `subscribe`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::body::Body;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
/// A first delta is large: windows that let it come at full speed.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why the operator cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the operator's address {0} must be https://HOST:PORT, or http://HOST:PORT on this machine")]
    Address(Uri),
    #[error("cannot connect to the operator at {host}")]
    Connect {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("connecting to the operator took longer than {} s", CONNECT_DEADLINE.as_secs())]
    Deadline,
    #[error("http:// is for this machine only, and {0} is elsewhere")]
    NotLoopback(String),
    #[error("cannot read the operator's certificate authority {path}")]
    Authority {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("cannot prepare TLS to the operator")]
    Tls(#[from] rustls::Error),
    #[error("cannot speak HTTP/2 to the operator")]
    Http(#[from] hyper::Error),
}

/// Opens a connection; its driver ends with it.
pub(super) async fn dial<B>(url: &Uri, authority: Option<&Path>) -> Result<SendRequest<B>, DialError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    tokio::time::timeout(CONNECT_DEADLINE, open(url, authority)).await.map_err(|_| DialError::Deadline)?
}

async fn open<B>(url: &Uri, authority: Option<&Path>) -> Result<SendRequest<B>, DialError>
where
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bad = || DialError::Address(url.clone());
    let tls = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad()),
    };
    let host = url.host().ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let failed = |source| DialError::Connect { host: format!("{host}:{port}"), source };
    let stream = TcpStream::connect((bare, port)).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    if !tls {
        if !stream.peer_addr().map_err(failed)?.ip().is_loopback() {
            return Err(DialError::NotLoopback(host.to_owned()));
        }
        return speak(TokioIo::new(stream)).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
    let config = tls_config(authority)?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.map_err(failed)?;
    speak(TokioIo::new(stream)).await
}

async fn speak<B, I>(io: I) -> Result<SendRequest<B>, DialError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    B: Body + Send + Unpin + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (sender, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_EVERY)
        .keep_alive_while_idle(true)
        .handshake(io)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            let error = sluice_daemon::logging::chain(&error);
            tracing::debug!(error, "the connection to the operator ended");
        }
    });
    Ok(sender)
}

/// Read anew at each connect, so that a rotated authority needs no restart.
fn tls_config(authority: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, DialError> {
    let mut roots = rustls::RootCertStore::empty();
    match authority {
        Some(path) => {
            let failed = |source| DialError::Authority { path: path.to_owned(), source };
            for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
                roots.add(certificate.map_err(failed)?)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}
