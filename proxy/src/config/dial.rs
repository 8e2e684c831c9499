//! The connection to the operator: HTTP/2 over TLS, or without TLS to this machine only.
//! `stream` opens the stream on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper::client::conn::http2::SendRequest;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};

use crate::transport::{
    ConnectError, Dedicated, Dialer, Http, Name, NameFiles, Reach, Resolver, SendBody, ServerAddress, Tls, TlsTarget,
    Transport, dedicated,
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
const PING: Duration = Duration::from_secs(10);
/// The first configuration is large: this window lets it arrive at full speed.
const WINDOW_BYTES: u32 = 4 << 20;

/// Why there is no connection to the operator.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error("the operator's address {0} must be https://HOST:PORT, or http://HOST:PORT on this machine")]
    Address(Uri),
    #[error("cannot connect to the operator at {host}")]
    Connect {
        host: String,
        #[source]
        source: ConnectError,
    },
    #[error("http:// is allowed for loopback addresses only, and {0} is not one")]
    NotLoopback(String),
    #[error("cannot read the CA certificate {path}")]
    Authority {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("cannot configure TLS to the operator")]
    Tls(#[from] rustls::Error),
}

/// Opens a connection. It ends with its sender and streams.
pub(super) async fn dial<B: SendBody>(url: &Uri, authority: Option<&Path>) -> Result<SendRequest<B>, DialError> {
    let bad = || DialError::Address(url.clone());
    let secure = match url.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad()),
    };
    let host = url.host().ok_or_else(bad)?;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tls = match secure {
        true => {
            let name = ServerName::try_from(bare.to_owned()).map_err(|_| bad())?;
            Some(TlsTarget { tls: tls(authority)?, name })
        }
        false => None,
    };
    // The operator's address comes from the proxy's flags: the egress policy for what users configure does not apply.
    let reach = if secure { Reach::Any } else { Reach::Loopback };
    // The files of the resolver are read for each connection, as the certificate is.
    let resolver = Resolver::new(NameFiles::default(), tokio::runtime::Handle::current());
    let place = ServerAddress::Name(Name::new(bare, port, &resolver, "operator"));
    let dialer = Dialer::new(place, Transport { tls, http: Http::H2 }, reach);
    let settings = Dedicated { connect: CONNECT_DEADLINE, window: WINDOW_BYTES, ping: PING };
    dedicated(&dialer, settings).await.map_err(|source| match source {
        ConnectError::Forbidden(_) => DialError::NotLoopback(host.to_owned()),
        source => DialError::Connect { host: format!("{host}:{port}"), source },
    })
}

/// The pinned certificate authority is read for each connection, so that it can be replaced without a restart.
fn tls(authority: Option<&Path>) -> Result<Arc<Tls>, DialError> {
    let Some(path) = authority else { return Ok(Tls::new(Vec::new())?) };
    let mut roots = RootCertStore::empty();
    let failed = |source| DialError::Authority { path: path.to_owned(), source };
    for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
        roots.add(certificate.map_err(failed)?)?;
    }
    Ok(Tls::trusting(roots)?)
}
