//! A client of the proxies: one request at a time, on a connection of its own or one that is kept.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longer than any route's timeout in the cases.
const PATIENCE: Duration = Duration::from_secs(40);
/// A page of metrics of many routes is the longest.
const MAX_BODY: usize = 16 << 20;

/// What came back.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON; null when it is none.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }

    /// A header's value; empty when it is absent.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A request to be sent to one or several proxies.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
}

/// `GET path` at a host.
pub(crate) fn get(host: &str, path: &str) -> Call {
    Call { method: Method::GET, host: host.to_owned(), path: path.to_owned(), headers: Vec::new() }
}

impl Call {
    /// The same with another method.
    pub(crate) fn method(mut self, method: Method) -> Self {
        self.method = method;
        self
    }

    /// The same with a header.
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Sends it on a connection of its own.
    pub(crate) async fn send(&self, proxy: SocketAddr) -> anyhow::Result<Answer> {
        Session::open(proxy).await?.send(self).await
    }

    fn request(&self) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(&self.method).uri(&self.path).header("host", &self.host);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        Ok(request.body(Full::new(Bytes::new()))?)
    }
}

/// A connection that is kept.
pub(crate) struct Session {
    sender: SendRequest<Full<Bytes>>,
}

impl Session {
    /// Connects.
    pub(crate) async fn open(proxy: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(proxy).await.with_context(|| format!("cannot connect to {proxy}"))?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // A failure shows at the request that it hits.
        tokio::spawn(async move { connection.await.ok() });
        Ok(Self { sender })
    }

    /// Whether another request can be sent.
    pub(crate) async fn usable(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn send(&mut self, call: &Call) -> anyhow::Result<Answer> {
        let request = call.request()?;
        let answer = async {
            let response = self.sender.send_request(request).await.context("no answer")?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_BODY);
            #[expect(clippy::disallowed_methods, reason = "the body is limited")]
            let body = body.collect().await.map_err(|error| anyhow::anyhow!("the body broke off: {error}"))?;
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
        };
        tokio::time::timeout(PATIENCE, answer).await.context("no answer in time")?
    }
}
