//! HTTP/2 from a thread, on one connection, with TLS or without.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::Body;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;

/// A client with one connection.
#[derive(Debug)]
pub struct Http2 {
    sender: SendRequest<AnyBody>,
    runtime: Runtime,
}

/// Any request body.
pub type AnyBody = BoxBody<Bytes, Infallible>;

/// Status code, body and trailers.
pub type TextResponse = (u16, String, http::HeaderMap);

impl Http2 {
    /// Connects without TLS, as a client that knows that the server speaks HTTP/2.
    ///
    /// # Panics
    ///
    /// If no server listens at the address.
    pub fn connect(server: impl Into<SocketAddr>) -> Self {
        let runtime = runtime();
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(server.into()).await.unwrap();
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        Self { sender, runtime }
    }

    /// Connects with TLS to the server `name`; HTTP/2 must be agreed on by ALPN.
    ///
    /// # Errors
    ///
    /// Where the handshake fails or HTTP/2 was not agreed on.
    pub fn connect_tls(server: SocketAddr, name: &str, config: ClientConfig) -> anyhow::Result<Self> {
        let runtime = runtime();
        let name = ServerName::try_from(name.to_owned())?;
        let sender = runtime.block_on(async {
            let stream = TcpStream::connect(server).await?;
            let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
            anyhow::ensure!(stream.get_ref().1.alpn_protocol() == Some(b"h2"), "HTTP/2 was not agreed on");
            let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(sender)
        })?;
        Ok(Self { sender, runtime })
    }

    /// Whether the server has announced the end of the connection, or closed it.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// No body.
    #[must_use]
    pub fn empty() -> http_body_util::Empty<Bytes> {
        http_body_util::Empty::new()
    }

    /// Sends a request and reads its response.
    ///
    /// # Panics
    ///
    /// When the stream is reset or the connection ends.
    pub fn ask<B>(&self, request: http::Request<B>) -> TextResponse
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    {
        self.ask_all(vec![request]).remove(0)
    }

    /// Sends all requests at once and reads their responses.
    ///
    /// # Panics
    ///
    /// When a stream is reset or the connection ends.
    pub fn ask_all<B>(&self, requests: Vec<http::Request<B>>) -> Vec<TextResponse>
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + Sync + 'static,
    {
        let calls = requests.into_iter().map(|request| {
            let sent = self.sender.clone().send_request(request.map(AnyBody::new));
            async move {
                let response = sent.await.unwrap();
                let status = response.status().as_u16();
                let mut body = response.into_body();
                let (mut bytes, mut trailers) = (Vec::new(), http::HeaderMap::new());
                while let Some(frame) = body.frame().await {
                    match frame.unwrap().into_data() {
                        Ok(data) => bytes.extend_from_slice(&data),
                        Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
                    }
                }
                (status, String::from_utf8(bytes).unwrap(), trailers)
            }
        });
        self.runtime.block_on(futures::future::join_all(calls))
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}
