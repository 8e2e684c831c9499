//! Calls the servers that authorizers need: issuers for their documents, and endpoints that decide about credentials.
//! Verified TLS, no redirects, capped in size and time.
//! Addresses that the egress policy denies are not connected to, also after a name is resolved.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Empty;
use rustls::pki_types::ServerName;
use sluice_wire::{KeySetError, MAX_KEY_SET_BYTES, PartName};

use super::service_pools::{Servers, ServicePools};
use crate::transport::{
    self, CallKind, CollectError, ConnectError, Context, Failures, Http, Payload, Pool, Tls, TlsTarget, Transport,
    call, collect_capped,
};

const DEADLINE: Duration = Duration::from_secs(5);
const MAX_BYTES: usize = MAX_KEY_SET_BYTES;

/// Why a document cannot be fetched.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("{0:?} is not an http or https URL")]
    Url(String),
    #[error("{0} has no address that is allowed as a destination")]
    Address(String),
    #[error("cannot connect to {host}")]
    Connect {
        host: String,
        #[source]
        source: Arc<ConnectError>,
    },
    #[error("the HTTP exchange with the server failed")]
    Call(#[source] transport::Error),
    #[error("cannot read the server's response")]
    Read(#[source] hyper::Error),
    #[error("cannot build the request")]
    Request(#[from] http::Error),
    #[error("the server responded with {0}")]
    Status(StatusCode),
    #[error("the response is longer than {0} bytes")]
    TooLong(usize),
    #[error("the server did not respond within {0:?}")]
    Deadline(Duration),
    #[error("the document is not valid JSON of the expected form")]
    Json(#[from] serde_json::Error),
    #[error("the discovery document is for another issuer")]
    OtherIssuer,
    #[error("the discovery document has no jwks_uri that is allowed")]
    NoKeySet,
    #[error("the document {0}")]
    KeySet(#[from] KeySetError),
}

/// Gets documents. A trait, so that tests can count fetches.
pub(crate) trait Fetch: Send + Sync + 'static {
    /// The body of a successful response.
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchError>>;
}

/// Calls servers over the network.
#[derive(Clone)]
pub(crate) struct Fetcher {
    tls: Arc<Tls>,
    transport: Context,
    services: Arc<ServicePools>,
}

impl Fetcher {
    pub(crate) fn new(tls: Arc<Tls>, transport: Context) -> Self {
        let transport = Context { threads: 1, ..transport };
        Self { tls, services: Arc::new(ServicePools::new(transport.clone())), transport }
    }

    /// A server that is called often: connections to it are kept. `tenant` is the namespace that calls it.
    pub(super) fn endpoint(&self, url: &str, tenant: &str) -> Result<Endpoint, FetchError> {
        let target = Target::parse(url)?;
        let pool = Arc::new(self.pool(&target, tenant)?);
        Ok(Endpoint { resource: target.resource, pool })
    }

    /// The endpoints of a Service, called with this header `host` and this path.
    pub(super) fn service(&self, part: &PartName, host: &str, path: &str) -> Result<Endpoint, FetchError> {
        let resource = Target::parse(&format!("http://{host}{path}"))?.resource;
        Ok(Endpoint { resource, pool: self.services.get_or_new(part) })
    }

    /// The Services that are called.
    pub(super) fn services(&self) -> &ServicePools {
        &self.services
    }

    fn pool(&self, target: &Target, tenant: &str) -> Result<Servers, FetchError> {
        let tls = match target.secure {
            true => {
                let host = &target.resource.host;
                let name = ServerName::try_from(host.clone()).map_err(|_| FetchError::Url(host.clone()))?;
                Some(TlsTarget { tls: self.tls.clone(), name })
            }
            false => None,
        };
        let pool = Pool::new(Failures::unlogged(), self.transport.clone());
        pool.update_name(&target.resource.host, target.port, tenant, &Transport { tls, http: Http::Alpn });
        Ok(pool)
    }

    async fn exchange(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let target = Target::parse(url)?;
        // Documents are fetched every few minutes: their connections are not kept. A host of which names are never resolved
        // delays no key set of another host.
        let pool = self.pool(&target, &format!("issuer {}", target.resource.host))?;
        let request = target.resource.request(Method::GET).body(Payload::from(Empty::new()))?;
        Ok(target.resource.call(&pool, request, DEADLINE, MAX_BYTES).await?.1.to_vec())
    }
}

/// A server that is called often.
pub(super) struct Endpoint {
    resource: Resource,
    pool: Arc<Servers>,
}

impl Endpoint {
    /// Host and port, as in the header `host`.
    pub(super) fn authority(&self) -> &str {
        &self.resource.authority
    }

    pub(super) fn path(&self) -> &str {
        &self.resource.path
    }

    /// The body of the response to a form.
    pub(super) async fn post(
        &self,
        form: Bytes,
        authorization: Option<&HeaderValue>,
        deadline: Duration,
        max_bytes: usize,
    ) -> Result<Bytes, FetchError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(value) = authorization {
            headers.insert(header::AUTHORIZATION, value.clone());
        }
        Ok(self.exchange(form, headers, deadline, max_bytes).await?.1)
    }

    /// The headers and the body of the response to JSON.
    pub(super) async fn post_json(
        &self,
        json: Bytes,
        headers: &HeaderMap,
        deadline: Duration,
        max_bytes: usize,
    ) -> Result<(HeaderMap, Bytes), FetchError> {
        let mut headers = headers.clone();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self.exchange(json, headers, deadline, max_bytes).await
    }

    /// A call must have no effect: it is repeated where a connection is lost that was kept since an earlier call.
    async fn exchange(
        &self,
        body: Bytes,
        headers: HeaderMap,
        deadline: Duration,
        max_bytes: usize,
    ) -> Result<(HeaderMap, Bytes), FetchError> {
        let once = async || {
            let mut request = self
                .resource
                .request(Method::POST)
                .header(header::CONTENT_LENGTH, body.len())
                .body(Payload::in_memory(body.clone()))?;
            request.headers_mut().extend(headers.clone());
            self.resource.call(&self.pool, request, deadline, max_bytes).await
        };
        let both = async {
            match once().await {
                Err(FetchError::Call(transport::Error::Http(_))) => once().await,
                result => result,
            }
        };
        tokio::time::timeout(deadline, both).await.map_err(|_| FetchError::Deadline(deadline))?
    }
}

/// A URL, taken apart.
struct Target {
    secure: bool,
    port: u16,
    resource: Resource,
}

/// What is called of a server.
struct Resource {
    host: String,
    authority: String,
    path: String,
}

impl Target {
    fn parse(url: &str) -> Result<Self, FetchError> {
        let bad = || FetchError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().filter(|a| !a.as_str().contains('@')).ok_or_else(bad)?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { secure, port, resource: Resource { host, authority: authority.as_str().to_owned(), path } })
    }
}

impl Resource {
    fn request(&self, method: Method) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(&self.path)
            .header(header::HOST, &self.authority)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("sluice/", env!("CARGO_PKG_VERSION")))
    }

    /// The headers and the body of a response with status 200.
    async fn call(
        &self,
        pool: &Servers,
        request: Request<Payload<Empty<Bytes>>>,
        deadline: Duration,
        max_bytes: usize,
    ) -> Result<(HeaderMap, Bytes), FetchError> {
        let received = call(pool, 0, Box::new(request), CallKind::Plain, deadline, || None).await;
        let failed = |error| match error {
            transport::Error::Connect(source) => match &*source {
                ConnectError::Forbidden(_) => FetchError::Address(self.host.clone()),
                _ => FetchError::Connect { host: self.host.clone(), source },
            },
            error => FetchError::Call(error),
        };
        let transport::Received { response, connection } = received.map_err(failed)?;
        // Redirects are not followed.
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let (head, body) = response.into_parts();
        match collect_capped(body, max_bytes).await {
            Ok(body) => {
                connection.release();
                Ok((head.headers, body))
            }
            Err(CollectError::TooLong(_)) => Err(FetchError::TooLong(max_bytes)),
            Err(CollectError::Read(error)) => Err(FetchError::Read(error)),
        }
    }
}

impl Fetch for Fetcher {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchError>> {
        Box::pin(async move {
            let exchange = tokio::time::timeout(DEADLINE, self.exchange(url));
            exchange.await.map_err(|_| FetchError::Deadline(DEADLINE))?
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use rustls::pki_types::CertificateDer;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;
    use crate::timeouts::UpstreamTimeouts;
    use crate::transport::{Egress, NameFiles, PoolLimits, Resolver};

    /// An issuer that sends the same response to every request.
    async fn issuer(response: String) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                drop(stream.read(&mut request).await);
                drop(stream.write_all(response.as_bytes()).await);
            }
        });
        address
    }

    fn fetcher(allow_loopback: bool) -> Fetcher {
        trusting(Vec::new(), allow_loopback)
    }

    fn trusting(roots: Vec<CertificateDer<'static>>, allow_loopback: bool) -> Fetcher {
        let (egress, timeouts) = (Egress::new(allow_loopback), UpstreamTimeouts::default());
        let resolver = Resolver::new(NameFiles::default(), tokio::runtime::Handle::current());
        let context = Context { egress, resolver, timeouts, limits: PoolLimits::default(), threads: 1 };
        Fetcher::new(Tls::new(roots).unwrap(), context)
    }

    #[tokio::test]
    async fn responses_that_are_documents() {
        let head =
            |status: &str, more: &str, len: usize| format!("HTTP/1.1 {status}\r\n{more}content-length: {len}\r\n\r\n");
        let long = MAX_BYTES + 1;
        for (response, expected) in [
            (head("200 OK", "", 2) + "{}", Ok(b"{}".to_vec())),
            (head("200 OK", "", long) + &" ".repeat(long), Err("longer than")),
            (head("302 Found", "location: http://127.0.0.1:1/\r\n", 0), Err("responded with 302")),
            (head("500 Internal Server Error", "", 0), Err("responded with 500")),
            (head("200 OK", "", 10) + "{}", Err("cannot read the server's response")),
            ("no HTTP at all\r\n\r\n".to_owned(), Err("the HTTP exchange with the server failed")),
        ] {
            let address = issuer(response).await;
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
    async fn only_certificates_of_known_roots_are_trusted() {
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
                let mut request = [0; 4096];
                drop(stream.read(&mut request).await);
                drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await);
            }
        });
        let url = format!("https://localhost:{port}/keys");
        for (extra_roots, trusted) in [(vec![], false), (vec![ours.cert.der().clone()], true)] {
            let fetcher = trusting(extra_roots, true);
            match fetcher.get(&url).await {
                Ok(body) => assert!(trusted && body == b"{}"),
                Err(error) => assert!(!trusted && matches!(error, FetchError::Connect { .. }), "{error}"),
            }
        }
    }
}
