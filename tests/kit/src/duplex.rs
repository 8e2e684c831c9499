//! The server of a stream of messages in both directions over one HTTP/2 request. A message is a length of four bytes, big
//! endian, and JSON.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use http::{Request, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use crate::tls::{Issued, server_config};
use crate::wait::SOON;

/// One stream as the server sees it. The stream ends when this is dropped.
#[derive(Debug)]
pub struct Duplex {
    /// The path of the request.
    pub path: String,
    /// The header `authorization`.
    pub authorization: Option<String>,
    incoming: mpsc::Receiver<Bytes>,
    buffer: Vec<u8>,
    outgoing: mpsc::Sender<Bytes>,
}

impl Duplex {
    /// The next message.
    ///
    /// # Panics
    ///
    /// When none arrives in time, the stream ends, or the message is of another type.
    pub async fn receive<T: DeserializeOwned>(&mut self) -> T {
        tokio::time::timeout(SOON, self.message()).await.expect("a message arrives in time")
    }

    async fn message<T: DeserializeOwned>(&mut self) -> T {
        loop {
            if let Some((length, rest)) = self.buffer.split_first_chunk::<4>() {
                let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
                if let Some(text) = rest.get(..length) {
                    let message = serde_json::from_slice(text).unwrap();
                    self.buffer.drain(..4 + length);
                    return message;
                }
            }
            let bytes = self.incoming.recv().await.expect("the stream goes on");
            self.buffer.extend_from_slice(&bytes);
        }
    }

    /// Sends a message in two pieces, as a network may.
    ///
    /// # Panics
    ///
    /// When the client has ended the stream.
    pub async fn send<T: Serialize>(&self, message: &T) {
        let text = serde_json::to_vec(message).unwrap();
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        let bytes = Bytes::from([length.to_vec(), text].concat());
        let (one, two) = (bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..));
        self.outgoing.send(one).await.unwrap();
        self.outgoing.send(two).await.unwrap();
    }
}

/// Listens, and returns the streams that clients open.
///
/// # Panics
///
/// When no port is free.
pub async fn listen(tls: Option<&Issued>) -> (SocketAddr, mpsc::Receiver<Duplex>) {
    let tls = tls.map(|issued| TlsAcceptor::from(Arc::new(server_config(issued, &["h2"]))));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (opened, queue) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let opened = opened.clone();
            let service = service_fn(move |request| accept(request, opened.clone()));
            let tls = tls.clone();
            tokio::spawn(async move {
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                match tls {
                    None => drop(http.serve_connection(TokioIo::new(stream), service).await),
                    Some(tls) => {
                        let Ok(stream) = tls.accept(stream).await else { return };
                        drop(http.serve_connection(TokioIo::new(stream), service).await);
                    }
                }
            });
        }
    });
    (address, queue)
}

type Pieces = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

async fn accept(request: Request<Incoming>, opened: mpsc::Sender<Duplex>) -> Result<Response<Pieces>, Infallible> {
    let (received, incoming) = mpsc::channel(16);
    let (outgoing, to_send) = mpsc::channel::<Bytes>(16);
    let (head, mut body) = request.into_parts();
    tokio::spawn(async move {
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(bytes) = frame.into_data()
                && received.send(bytes).await.is_err()
            {
                return;
            }
        }
    });
    let authorization = head.headers.get(header::AUTHORIZATION).map(|value| value.to_str().unwrap().to_owned());
    let path = head.uri.path().to_owned();
    opened.send(Duplex { path, authorization, incoming, buffer: Vec::new(), outgoing }).await.unwrap();
    let pieces = futures::stream::unfold(to_send, |mut queue| async move { Some((queue.recv().await?, queue)) });
    Ok(Response::new(StreamBody::new(pieces.map(|bytes| Ok(Frame::data(bytes))).boxed())))
}
