//! The proxy's end of the configuration stream: dials the operator, says what it has, takes deltas, acknowledges them, and
//! dials again. While the operator is away the version in force stays in force.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom as _;
use bytes::Bytes;
use futures::{SinkExt as _, channel::mpsc};
use http::{Request, StatusCode, Uri, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use sluice_wire::codec::{self, CodecError, Decoder};
use sluice_wire::{Delta, Down, Hello, Outcome, STREAM_PATH, Up};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::store::Store;
use super::{Apply, Holder};

/// Connecting, TLS and the answer's head, each.
const CONNECT: Duration = Duration::from_secs(10);
/// The operator pings every 10 s: longer silence means that the stream is lost.
const SILENCE: Duration = Duration::from_secs(30);
const BACKOFF_MIN: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// A bearer token or shared secret is at most this long.
const MAX_CREDENTIAL_BYTES: u64 = 64 << 10;

/// Where the operator is and how to speak to it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://HOST:PORT`; `http://` is for loopback only.
    pub operator: Uri,
    /// Certificates the operator's must chain to, as PEM.
    pub authorities_pem: Option<Vec<u8>>,
    /// A file with the token or shared secret, read anew for each connection.
    pub credential: Option<PathBuf>,
    /// This proxy's name.
    pub proxy: String,
}

/// How far this proxy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Some version is in force.
    pub configured: bool,
    /// The operator is connected.
    pub connected: bool,
}

/// Why a connection to the operator ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The address cannot be used.
    #[error("the operator's address {0} cannot be used: write https://HOST:PORT, or http://127.0.0.1:PORT on one machine")]
    Address(Uri),
    /// The certificate authorities cannot be read.
    #[error("cannot read the operator's certificate authorities")]
    Authorities(#[source] rustls::pki_types::pem::Error),
    /// TLS cannot be set up.
    #[error("cannot set up TLS towards the operator")]
    Tls(#[source] rustls::Error),
    /// The credential cannot be read.
    #[error("cannot read the credential file {path}")]
    Credential {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The network.
    #[error("cannot reach the operator")]
    Connect(#[source] std::io::Error),
    /// The operator's answer.
    #[error("the operator answered {0}")]
    Status(StatusCode),
    /// HTTP/2.
    #[error("the stream broke")]
    Http(#[from] hyper::Error),
    /// A wait ended.
    #[error("no answer in {} s while {what}", .limit.as_secs())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        limit: Duration,
    },
    /// Frames.
    #[error("the stream carries something else than frames")]
    Codec(#[from] CodecError),
    /// A version was refused; a fresh start asks for everything that differs.
    #[error("a configuration was refused")]
    Refused,
    /// The operator closed the stream.
    #[error("the operator closed the stream")]
    Closed,
}

/// Serves the last known good, then follows the operator until the future is dropped.
pub async fn run<A: Apply>(settings: Settings, mut store: Option<Store>, holder: &mut Holder<A>, progress: watch::Sender<Progress>) {
    if let Some(store) = &mut store {
        let parts = store.load();
        if !parts.is_empty() {
            let ack = holder.take(&super::whole(parts));
            tracing::info!(config.version = %ack.version.short(), "serving the last known good configuration");
            progress.send_modify(|now| now.configured = true);
        }
    }
    let mut wait = BACKOFF_MIN;
    loop {
        let before = holder.version();
        let ended = follow(&settings, &mut store, holder, &progress).await;
        progress.send_modify(|now| now.connected = false);
        if holder.version() != before {
            wait = BACKOFF_MIN;
        }
        let pause = jittered(wait);
        if let Err(error) = ended {
            let error = anyhow::Error::new(error);
            tracing::warn!(operator = %settings.operator, error = format!("{error:#}"), retry.seconds = pause.as_secs_f64(), "no configuration stream");
        }
        tokio::time::sleep(pause).await;
        wait = (wait * 2).min(BACKOFF_MAX);
    }
}

/// One connection, until it ends.
async fn follow<A: Apply>(
    settings: &Settings,
    store: &mut Option<Store>,
    holder: &mut Holder<A>,
    progress: &watch::Sender<Progress>,
) -> Result<(), StreamError> {
    let (mut up, mut down) = open(settings).await?;
    let hello = Hello {
        proxy: settings.proxy.clone(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        parts: holder.hashes().clone(),
    };
    send(&mut up, &Up::Hello(hello)).await?;
    let mut frames = Decoder::<Down>::new();
    loop {
        let frame = within("waiting for the operator's ping", SILENCE, down.frame()).await?;
        let Some(frame) = frame.transpose()? else { return Err(StreamError::Closed) };
        let Ok(data) = frame.into_data() else { continue };
        frames.push(&data);
        while let Some(frame) = frames.next() {
            match frame? {
                Down::Ping => send(&mut up, &Up::Pong).await?,
                Down::Fleet { proxies } => holder.applier().set_fleet(proxies.max(1)),
                Down::Delta(delta) => {
                    let ack = take(holder, store, &delta);
                    let applied = ack.outcome == Outcome::Applied;
                    send(&mut up, &Up::Ack(ack)).await?;
                    if !applied {
                        return Err(StreamError::Refused);
                    }
                    progress.send_replace(Progress { configured: true, connected: true });
                }
            }
        }
    }
}

fn take<A: Apply>(holder: &mut Holder<A>, store: &mut Option<Store>, delta: &Delta) -> sluice_wire::Ack {
    let before: Vec<_> = if delta.base == sluice_wire::Hash::NONE { holder.hashes().keys().cloned().collect() } else { Vec::new() };
    let ack = holder.take(delta);
    if ack.outcome == Outcome::Applied
        && let Some(store) = store
    {
        let changed: Vec<_> = delta.upsert.iter().map(|part| part.name.clone()).collect();
        let gone = before.into_iter().chain(delta.remove.iter().cloned());
        let removed: Vec<_> = gone.filter(|name| !holder.hashes().contains_key(name)).collect();
        if (!changed.is_empty() || !removed.is_empty())
            && let Err(error) = store.keep(holder.parts(), &changed, &removed)
        {
            tracing::warn!(%error, "cannot write the last known good configuration; serving from memory");
        }
    }
    ack
}

type Sender = mpsc::Sender<Result<Frame<Bytes>, std::convert::Infallible>>;

async fn send(up: &mut Sender, frame: &Up) -> Result<(), StreamError> {
    let bytes = Bytes::from(codec::encode(frame)?);
    let sent = within("sending to the operator", CONNECT, up.send(Ok(Frame::data(bytes)))).await?;
    sent.map_err(|_| StreamError::Closed)
}

async fn within<T>(what: &'static str, limit: Duration, future: impl Future<Output = T>) -> Result<T, StreamError> {
    timeout(limit, future).await.map_err(|_| StreamError::Timeout { what, limit })
}

/// Dials, and returns both directions of the stream.
async fn open(settings: &Settings) -> Result<(Sender, hyper::body::Incoming), StreamError> {
    let bad = || StreamError::Address(settings.operator.clone());
    let host = settings.operator.host().ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let tls = match settings.operator.scheme_str() {
        Some("https") => true,
        Some("http") if bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()) => false,
        _ => return Err(bad()),
    };
    let port = settings.operator.port_u16().unwrap_or(9443);
    let stream = within("connecting", CONNECT, TcpStream::connect((bare, port))).await?.map_err(StreamError::Connect)?;
    stream.set_nodelay(true).map_err(StreamError::Connect)?;
    if !tls {
        return speak(settings, stream).await;
    }
    let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client_tls(settings)?));
    let stream = within("the TLS handshake", CONNECT, connector.connect(name, stream)).await?;
    speak(settings, stream.map_err(StreamError::Connect)?).await
}

fn client_tls(settings: &Settings) -> Result<rustls::ClientConfig, StreamError> {
    let mut roots = rustls::RootCertStore::empty();
    match &settings.authorities_pem {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.map_err(StreamError::Authorities)?).map_err(StreamError::Tls)?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(StreamError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

async fn speak<S>(settings: &Settings, stream: S) -> Result<(Sender, hyper::body::Incoming), StreamError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(4 << 20)
        .initial_connection_window_size(4 << 20)
        .keep_alive_interval(SILENCE / 3)
        .keep_alive_timeout(SILENCE)
        .handshake(TokioIo::new(stream))
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "the connection to the operator ended");
        }
    });
    let (up, frames) = mpsc::channel(16);
    let uri = format!("{}://{}{STREAM_PATH}", settings.operator.scheme_str().unwrap_or("https"), settings.operator.authority().map_or("", |a| a.as_str()));
    let mut request = Request::post(uri).header(header::CONTENT_TYPE, "application/vnd.sluice.frames");
    if let Some(path) = &settings.credential {
        let unreadable = |source| StreamError::Credential { path: path.clone(), source };
        if tokio::fs::metadata(path).await.map_err(unreadable)?.len() > MAX_CREDENTIAL_BYTES {
            return Err(unreadable(std::io::Error::other("it is longer than 64 KiB")));
        }
        let secret = tokio::fs::read_to_string(path).await.map_err(unreadable)?;
        let mut value = http::HeaderValue::try_from(format!("Bearer {}", secret.trim()))
            .map_err(|_| unreadable(std::io::Error::other("it is not one line of text")))?;
        value.set_sensitive(true);
        request = request.header(header::AUTHORIZATION, value);
    }
    let request = request.body(StreamBody::new(frames)).map_err(|_| StreamError::Address(settings.operator.clone()))?;
    let response = within("waiting for the operator's answer", CONNECT, client.send_request(request)).await??;
    if response.status() != StatusCode::OK {
        return Err(StreamError::Status(response.status()));
    }
    // The client handle keeps the connection open as long as the stream's body lives, which hyper sees to.
    Ok((up, response.into_body()))
}

/// Between half of `wait` and all of it, so that a fleet does not dial in step.
fn jittered(wait: Duration) -> Duration {
    let mut byte = [0; 1];
    if aws_lc_rs::rand::SystemRandom::new().fill(&mut byte).is_err() {
        return wait;
    }
    wait.mul_f64(0.5 + f64::from(byte[0]) / 510.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_before_the_next_try_is_spread_over_half_its_length() {
        for _ in 0..100 {
            let pause = jittered(Duration::from_secs(10));
            assert!(pause >= Duration::from_secs(5) && pause <= Duration::from_secs(10), "{pause:?}");
        }
    }

    #[tokio::test]
    async fn plain_http_is_for_loopback_only() {
        let settings = |operator: &'static str| Settings {
            operator: Uri::from_static(operator),
            authorities_pem: None,
            credential: None,
            proxy: "test".to_owned(),
        };
        for bad in ["http://192.0.2.1:9443", "ftp://127.0.0.1:1", "/path"] {
            assert!(matches!(open(&settings(bad)).await, Err(StreamError::Address(_))), "{bad}");
        }
    }
}
