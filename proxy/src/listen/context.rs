//! What connections need: the settings of the listeners, and the [`Handler`] of requests.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use tokio::sync::watch;

use crate::client::{Connections, Flow, Origin, Peer, TrackedBytes};
use crate::overload::Load;
use crate::reject::Reject;
use crate::source::{Networks, Trusted};
use crate::timeouts::Timeouts;

/// What HTTP/1.1 requests may look like where programs read them differently.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strictness {
    /// One reading only: no `Content-Length` beside `Transfer-Encoding` or another `Content-Length`, no bare LF, no white
    /// space in chunk sizes.
    #[default]
    Strict,
    /// Requests of old clients are repaired: `Transfer-Encoding` decides, equal lengths are one, LF ends a line.
    Lenient,
}

/// Serves the requests of connections.
pub(crate) trait Handler: Clone + Send + Sync + 'static {
    /// Of responses.
    type Body: http_body::Body<Data = TrackedBytes, Error: std::error::Error + Send + Sync> + Send + 'static;

    /// Serves a request of `peer`; `flow` counts the bytes of an HTTP/2 response.
    fn handle(
        &self,
        peer: Arc<Peer>,
        flow: Option<Arc<Flow>>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Self::Body>, Infallible>> + Send + use<Self>;

    /// The response to a request whose head is not valid. Records it.
    fn reject(&self, peer: Arc<Peer>, request: EarlyRequest, reject: &Reject) -> Response<Bytes>;

    /// Records a connection, or a stream of one, that is closed without a response; `host` is empty if it is not known.
    fn reject_connection(&self, peer: &Arc<Peer>, protocol: &'static str, host: &str, reject: &Reject);
}

/// What can be read of a request whose head is not valid.
pub(crate) struct EarlyRequest {
    /// Method, version, and the headers that determine the response: `Host` and `Origin`.
    pub(crate) parts: Parts,
    /// As the client wrote it.
    pub(crate) path: String,
}

/// The method of a request that has none.
pub(super) fn unknown_method() -> Method {
    Method::from_bytes(b"-").unwrap_or_default()
}

/// What the listeners of all worker threads share.
pub(crate) struct ListenContext {
    pub(crate) connections: Arc<Connections>,
    pub(crate) load: Arc<Load>,
    pub(crate) timeouts: Arc<Timeouts>,
    pub(crate) strictness: Strictness,
    /// Proxies in front of this one.
    pub(crate) trusted: Arc<Trusted>,
    /// Load balancers that terminate TLS.
    pub(crate) tls_terminators: Networks,
    /// Concurrent HTTP/2 streams of a connection.
    pub(crate) streams: u32,
    /// File descriptors from here on are not for clients.
    pub(crate) reserved_from: usize,
    /// Whether no connections are accepted any more.
    pub(crate) closed: watch::Receiver<bool>,
}

impl ListenContext {
    /// Where a connection comes from, without TLS.
    pub(super) fn origin(&self, address: IpAddr, port: HeaderValue) -> Origin {
        Origin {
            address,
            source: HeaderValue::try_from(address.to_string()).unwrap_or_else(|_| HeaderValue::from_static("unknown")),
            behind: self.trusted.contains(address).then(|| self.trusted.clone()),
            port,
            tls: None,
            terminates_tls: self.tls_terminators.contains(address),
        }
    }
}
