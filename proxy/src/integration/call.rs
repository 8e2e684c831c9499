//! One call to an upstream: choosing, connecting, sending, and trying again where nothing can have happened twice.
//! What is sent and how the answer is changed is the pipeline's.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HOST, TE};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;

use super::balance::Upstream;
use super::pool::{Connection, Endpoint, Lease};
use crate::exchange::Reject;
use crate::exchange::body::Outgoing;

/// Attempts to connect, over different endpoints.
const ATTEMPTS: usize = 3;

/// An answer's head, its body still on the connection.
pub(crate) struct Answer {
    pub(crate) response: Response<Incoming>,
    pub(crate) lease: Lease,
}

/// Whether the connection may change its protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Upgrade,
}

/// Sends `request` and waits for the head of the answer, for at most `timeout`.
pub(crate) async fn call(
    upstream: &Upstream,
    thread: usize,
    request: Request<Outgoing>,
    kind: Kind,
    timeout: Duration,
) -> Result<Answer, Reject> {
    match tokio::time::timeout(timeout, attempts(upstream, thread, request, kind)).await {
        Ok(result) => result,
        Err(_) => Err(Reject::Timeout),
    }
}

async fn attempts(
    upstream: &Upstream,
    thread: usize,
    mut request: Request<Outgoing>,
    kind: Kind,
) -> Result<Answer, Reject> {
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut refused = Reject::NoEndpoints;
    let mut replayed = false;
    while tried.len() < ATTEMPTS {
        let Some(endpoint) = upstream.pick(&tried) else { break };
        let outstanding = endpoint.enter();
        let connection = match kind {
            Kind::Plain => endpoint.connection(thread).await,
            Kind::Upgrade => endpoint.fresh().await,
        };
        let connection = match connection {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(error = %error, "cannot connect to an upstream");
                endpoint.shun();
                refused = Reject::ConnectFailed;
                tried.push(endpoint);
                continue;
            }
        };
        match connection {
            Connection::Http2(mut sender) => {
                let response = sender.send_request(for_http2(request)?).await.map_err(failed)?;
                return Ok(Answer { response, lease: Lease::new(None, thread, outstanding) });
            }
            Connection::Http1 { mut sender, reused } => {
                // The server may close a kept connection at the moment it is used: what may be repeated is repeated, once.
                let copy = if reused && !replayed { replay(&request) } else { None };
                match sender.try_send_request(request).await {
                    Ok(response) => {
                        let sender = (kind == Kind::Plain).then_some(sender);
                        return Ok(Answer { response, lease: Lease::new(sender, thread, outstanding) });
                    }
                    Err(mut error) => {
                        let unsent = error.take_message();
                        let error = error.into_error();
                        let lost =
                            error.is_closed() || error.is_canceled() || error.is_incomplete_message() || is_io(&error);
                        match (unsent, copy) {
                            // Never left the proxy: not an attempt. Kept connections are used up, so this ends.
                            (Some(back), _) if reused => request = back,
                            (Some(back), _) => {
                                request = back;
                                tried.push(endpoint);
                                refused = Reject::ConnectFailed;
                            }
                            (None, Some(copy)) if lost => {
                                replayed = true;
                                request = copy;
                            }
                            _ => return Err(failed(error)),
                        }
                    }
                }
            }
        }
    }
    Err(refused)
}

/// HTTP/2 names the host in the target.
fn for_http2(mut request: Request<Outgoing>) -> Result<Request<Outgoing>, Reject> {
    let bad = || Reject::Malformed("The host is not a host name.");
    let host = request.headers_mut().remove(HOST).ok_or_else(bad)?;
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(Scheme::HTTP);
    target.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| bad())?);
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| bad())?;
    *request.version_mut() = Version::HTTP_2;
    // gRPC servers want to hear that trailers arrive; they do, where the client speaks HTTP/2.
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// A copy of a request that may be sent twice: idempotent (RFC 9110, 9.2.2) and without a body.
fn replay(request: &Request<Outgoing>) -> Option<Request<Outgoing>> {
    let idempotent =
        matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE);
    if !idempotent || !matches!(request.body(), Outgoing::Empty) {
        return None;
    }
    let mut copy = Request::new(Outgoing::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn failed(error: hyper::Error) -> Reject {
    tracing::debug!(%error, "a call to an upstream failed");
    Reject::BadAnswer
}
