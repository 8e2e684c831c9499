//! HTTP/1.1 from async code: one request at a time, on a connection of its own or a kept one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::http1::Response;

/// Longer than any route's timeout in the tests.
const TIMEOUT: Duration = Duration::from_secs(40);
/// A page of metrics of many routes is the longest body.
pub(crate) const MAX_BODY: usize = 16 << 20;

/// A request that can be sent to one or several servers.
#[derive(Clone, Debug)]
pub struct Call {
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
}

/// `GET path` at a host.
#[must_use]
pub fn get(host: &str, path: &str) -> Call {
    Call { method: Method::GET, host: host.to_owned(), path: path.to_owned(), headers: Vec::new(), body: String::new() }
}

impl Call {
    /// The same with another method.
    #[must_use]
    pub fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The same with a body.
    #[must_use]
    pub fn body(mut self, body: impl Into<String>) -> Self {
        self.body = body.into();
        self
    }

    /// Sends it on a connection of its own.
    ///
    /// # Errors
    ///
    /// Where the connection fails or there is no response in time.
    pub async fn send(&self, server: SocketAddr) -> anyhow::Result<Response> {
        Session::open(server).await?.send(self).await
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(&self.method).uri(&self.path).header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(Bytes::from(self.body.clone())))?)
    }
}

/// A kept connection.
#[derive(Debug)]
pub struct Session {
    sender: SendRequest<Full<Bytes>>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If no server listens at the address.
    pub async fn open(server: SocketAddr) -> anyhow::Result<Self> {
        Self::over(connect(server).await?).await
    }

    /// Connects with TLS to a server of this name.
    ///
    /// # Errors
    ///
    /// If no server listens at the address, or its certificate is not valid.
    pub async fn open_tls(server: SocketAddr, name: &str, config: ClientConfig) -> anyhow::Result<Self> {
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from(name.to_owned())?, connect(server).await?).await?;
        Self::over(stream).await
    }

    async fn over(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> anyhow::Result<Self> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // A failure shows at the request that it hits.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender })
    }

    /// Whether another request can be sent.
    pub async fn usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and reads its response.
    ///
    /// # Errors
    ///
    /// Where the connection fails or there is no response in time.
    pub async fn send(&mut self, call: &Call) -> anyhow::Result<Response> {
        let request = call.request()?;
        let response = async {
            let response = self.sender.send_request(request).await.context("no response")?;
            read(response).await
        };
        tokio::time::timeout(TIMEOUT, response).await.context("no response in time")?
    }
}

async fn connect(server: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(server).await.with_context(|| format!("cannot connect to {server}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads a response of hyper's.
pub(crate) async fn read(response: http::Response<hyper::body::Incoming>) -> anyhow::Result<Response> {
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!("the body ended early: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect();
    Ok(Response { status: head.status.as_u16(), headers, body: text(&body.to_bytes()) })
}
