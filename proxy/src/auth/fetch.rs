//! Fetching an issuer's documents: one GET, verified TLS, no redirects, capped in size and time.
//! Link-local addresses and this machine are never asked, whatever a name resolves to.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use crate::dialling::{DialError, Dialling};

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = 256 << 10;

/// Why a document cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    #[error("{0} has no address that may be asked")]
    Address(String),
    #[error("cannot connect to {host}")]
    Connect {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot exchange HTTP with the issuer")]
    Http(#[from] hyper::Error),
    #[error("cannot write the request")]
    Request(#[from] http::Error),
    #[error("the issuer answered {0}")]
    Status(StatusCode),
    #[error("the document is longer than {MAX_BYTES} bytes")]
    TooLong,
    #[error("the issuer took longer than {} s", DEADLINE.as_secs())]
    Deadline,
    #[error("the document is not the JSON it should be")]
    Json(#[from] serde_json::Error),
    #[error("the discovery document names another issuer")]
    OtherIssuer,
    #[error("the discovery document names no key set that may be fetched")]
    NoKeySet,
    #[error("the key set has no key that can confirm a signature")]
    NoUsableKey,
}

/// Gets documents. A trait, so that tests count what is asked for.
pub(crate) trait Fetch: Send + Sync + 'static {
    /// The body of a successful answer.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchError>>;
}

/// How to fetch.
#[derive(Clone, Debug, Default)]
pub(crate) struct FetcherSettings {
    /// Believed beside the system's roots.
    pub(crate) extra_roots: Vec<CertificateDer<'static>>,
    /// Where issuers may be.
    pub(crate) dialling: Dialling,
}

/// Gets documents over the network.
pub(crate) struct Fetcher {
    tls: tokio_rustls::TlsConnector,
    dialling: Dialling,
}

impl Fetcher {
    /// Reads the system's roots.
    ///
    /// # Errors
    /// The crypto library lacks what TLS needs.
    pub(crate) fn new(settings: FetcherSettings) -> Result<Self, rustls::Error> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        for root in settings.extra_roots {
            roots.add(root)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { tls: tokio_rustls::TlsConnector::from(Arc::new(config)), dialling: settings.dialling })
    }

    async fn exchange(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let bad = || FetchError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(bad)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let stream = self.connect(host, port).await?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())?;
        if !tls {
            return get(TokioIo::new(stream), request).await;
        }
        let name = ServerName::try_from(host.to_owned()).map_err(|_| bad())?;
        let failed = |source| FetchError::Connect { host: host.to_owned(), source };
        let stream = self.tls.connect(name, stream).await.map_err(failed)?;
        get(TokioIo::new(stream), request).await
    }

    /// Connects to an address that was checked after it was resolved, so that a name cannot point elsewhere in between.
    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, FetchError> {
        let failed = |source| FetchError::Connect { host: host.to_owned(), source };
        let resolved = tokio::net::lookup_host((host, port)).await.map_err(failed)?;
        let mut last = FetchError::Address(host.to_owned());
        for address in resolved {
            match self.dialling.connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(DialError::Forbidden(_)) => {}
                Err(DialError::Io(source)) => last = failed(source),
            }
        }
        Err(last)
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchError>> {
        Box::pin(
            async move { tokio::time::timeout(DEADLINE, self.exchange(url)).await.map_err(|_| FetchError::Deadline)? },
        )
    }
}

async fn get<I>(io: I, request: Request<Empty<Bytes>>) -> Result<Vec<u8>, FetchError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    let driver = tokio::spawn(connection);
    let result = read(&mut sender, request).await;
    driver.abort();
    result
}

async fn read(
    sender: &mut hyper::client::conn::http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<Vec<u8>, FetchError> {
    let answer = sender.send_request(request).await?;
    // A redirect is an answer like any other failure: nothing leads elsewhere.
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let mut body = answer.into_body();
    let mut out = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            if out.len() + data.len() > MAX_BYTES {
                return Err(FetchError::TooLong);
            }
            out.extend_from_slice(data);
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use tokio::net::TcpListener;

    use super::*;

    /// An issuer that gives one answer to everybody.
    async fn issuer(answer: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut asked = [0; 4096];
                drop(stream.read(&mut asked).await);
                drop(stream.write_all(answer.as_bytes()).await);
            }
        });
        address
    }

    #[tokio::test]
    async fn what_an_issuer_may_answer() {
        let fetcher = |allow_loopback| {
            Fetcher::new(FetcherSettings { dialling: Dialling::new(allow_loopback), ..Default::default() }).unwrap()
        };
        let head =
            |status: &str, more: &str, len: usize| format!("HTTP/1.1 {status}\r\n{more}content-length: {len}\r\n\r\n");
        let long = MAX_BYTES + 1;
        for (answer, expected) in [
            (head("200 OK", "", 2) + "{}", Ok(b"{}".to_vec())),
            (head("200 OK", "", long) + &" ".repeat(long), Err("longer than")),
            (head("302 Found", "location: http://127.0.0.1:1/\r\n", 0), Err("answered 302")),
            (head("500 Internal Server Error", "", 0), Err("answered 500")),
            (head("200 OK", "", 10) + "{}", Err("cannot exchange HTTP")),
            ("no HTTP at all\r\n\r\n".to_owned(), Err("cannot exchange HTTP")),
        ] {
            let address = issuer(answer).await;
            match (fetcher(true).get(&format!("http://{address}/keys")).await, expected) {
                (Ok(body), Ok(expected)) => assert_eq!(body, expected),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (got, expected) => panic!("{got:?} instead of {expected:?}"),
            }
        }
        let address = issuer(head("200 OK", "", 0)).await;
        let port = address.port();
        for url in [
            format!("http://{address}/"),
            format!("http://localhost:{port}/"),
            format!("http://[::ffff:127.0.0.1]:{port}/"),
        ] {
            assert!(matches!(fetcher(false).get(&url).await, Err(FetchError::Address(_))), "{url}");
        }
        for url in ["ftp://idp.example", "idp.example", "http://user@idp.example", "http://", ""] {
            assert!(matches!(fetcher(true).get(url).await, Err(FetchError::Url(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn only_certificates_of_known_roots_are_believed() {
        let names = vec!["localhost".to_owned()];
        let ours = rcgen::generate_simple_self_signed(names).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(ours.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![ours.cert.der().clone()], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut asked = [0; 4096];
                drop(stream.read(&mut asked).await);
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await);
            }
        });
        let url = format!("https://localhost:{port}/keys");
        for (extra_roots, believed) in [(vec![], false), (vec![ours.cert.der().clone()], true)] {
            let fetcher = Fetcher::new(FetcherSettings { extra_roots, dialling: Dialling::new(true) }).unwrap();
            match fetcher.get(&url).await {
                Ok(body) => assert!(believed && body == b"{}"),
                Err(error) => assert!(!believed && matches!(error, FetchError::Connect { .. }), "{error}"),
            }
        }
    }

    #[test]
    fn addresses_that_are_never_asked() {
        let fetcher = |allow_loopback| {
            Fetcher::new(FetcherSettings { dialling: Dialling::new(allow_loopback), ..Default::default() }).unwrap()
        };
        let (strict, dev) = (fetcher(false), fetcher(true));
        for (address, by_strict, by_dev) in [
            ("10.0.0.1", true, true),
            ("93.184.215.14", true, true),
            ("127.0.0.1", false, true),
            ("127.8.8.8", false, true),
            ("::1", false, true),
            ("::ffff:127.0.0.1", false, true),
            ("169.254.169.254", false, false),
            ("::ffff:169.254.169.254", false, false),
            ("fe80::1", false, false),
            ("0.0.0.0", false, false),
            ("::", false, false),
            ("224.0.0.1", false, false),
        ] {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(
                (strict.dialling.permits(address), dev.dialling.permits(address)),
                (by_strict, by_dev),
                "{address}"
            );
        }
    }
}
