//! One call to an upstream: choosing, connecting, sending, and trying again where nothing can have happened twice.
//! What is sent and how the answer is changed is the pipeline's.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::balance::Upstream;
use super::pool::{Connection, Endpoint, Lease, Wanted};
use crate::body::{RequestBody, UploadState};
use crate::deadline::within;
use crate::reject::Reject;

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

/// Sends `request` and waits for the head of the answer: for at most `timeout` after the last piece of the request.
pub(crate) async fn call(
    upstream: &Upstream,
    thread: usize,
    request: Box<Request<RequestBody>>,
    kind: Kind,
    timeout: Duration,
    upload: Option<&UploadState>,
) -> Result<Answer, Reject> {
    let work = attempts(upstream, thread, request, kind);
    tokio::pin!(work);
    let mut until = Instant::now() + timeout;
    loop {
        if let Ok(result) = within(until.into_std(), work.as_mut()).await {
            return result;
        }
        // The time of the upload is the client's.
        match upload.map(|upload| upload.deadline(timeout)) {
            Some(later) if later > Instant::now() => until = later,
            _ => return Err(Reject::Timeout),
        }
    }
}

async fn attempts(
    upstream: &Upstream,
    thread: usize,
    mut request: Box<Request<RequestBody>>,
    kind: Kind,
) -> Result<Answer, Reject> {
    let mut tried: Vec<Arc<Endpoint>> = Vec::new();
    let mut refused = Reject::NoEndpoints;
    let mut wanted = if kind == Kind::Upgrade { Wanted::Upgrade } else { Wanted::Any };
    while tried.len() < ATTEMPTS {
        let Some(endpoint) = upstream.pick(&tried) else { break };
        let outstanding = endpoint.enter();
        let connection = match endpoint.connection(thread, wanted).await {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!(error = %error, "cannot connect to an upstream");
                endpoint.shun();
                refused = Reject::ConnectFailed;
                tried.push(endpoint);
                continue;
            }
        };
        let replayed = wanted == Wanted::Fresh;
        let sent = match connection {
            Connection::Http2 { sender, number } => {
                let retire = || endpoint.retire(thread, number);
                over_http2(sender, request, !replayed, retire).await.map(|response| (response, None))
            }
            Connection::Http1 { sender, reused } => over_http1(sender, request, reused && !replayed).await,
        };
        match sent {
            Ok((response, sender)) => {
                let sender = sender.filter(|_| kind == Kind::Plain);
                return Ok(Answer { response, lease: Lease::new(sender, thread, outstanding) });
            }
            // Never left the proxy, on a kept connection: not an attempt. Kept connections are used up, so this ends.
            Err(Failed::Unsent { back, kept: true }) => request = back,
            Err(Failed::Unsent { back, kept: false }) => {
                request = back;
                tried.push(endpoint);
                refused = Reject::ConnectFailed;
            }
            // What was lost on one kept connection may be lost on the next one too.
            Err(Failed::Lost(copy)) => {
                request = copy;
                wanted = Wanted::Fresh;
            }
            Err(Failed::For(reject)) => return Err(reject),
        }
    }
    Err(refused)
}

/// Why there is no answer on one connection.
enum Failed {
    /// The request is as it was.
    Unsent { back: Box<Request<RequestBody>>, kept: bool },
    /// It was sent, nothing can have happened twice, and here it is again.
    Lost(Box<Request<RequestBody>>),
    /// For good.
    For(Reject),
}

type Sent = (Response<Incoming>, Option<http1::SendRequest<RequestBody>>);

async fn over_http1(
    mut sender: http1::SendRequest<RequestBody>,
    mut request: Box<Request<RequestBody>>,
    kept: bool,
) -> Result<Sent, Failed> {
    for_http1(&mut request);
    // The server may close a kept connection at the moment it is used: what may be repeated is repeated, once.
    let copy = if kept && idempotent(&request) { copy(&request) } else { None };
    let mut error = match sender.try_send_request(*request).await {
        Ok(response) => return Ok((response, Some(sender))),
        Err(error) => error,
    };
    if let Some(back) = error.take_message() {
        return Err(Failed::Unsent { back: Box::new(back), kept });
    }
    let error = error.into_error();
    let lost = error.is_closed() || error.is_canceled() || error.is_incomplete_message() || is_io(&error);
    match copy {
        Some(copy) if lost => Err(Failed::Lost(Box::new(copy))),
        _ => Err(failed(&error)),
    }
}

/// One connection carries many requests, and its server may turn some back without having looked at them (RFC 9113, 8.7):
/// those that came after a GOAWAY, and streams it refuses. Such a request may be repeated whatever its method. `retire` is
/// called for a connection that takes no more requests.
async fn over_http2(
    mut sender: http2::SendRequest<RequestBody>,
    request: Box<Request<RequestBody>>,
    again: bool,
    retire: impl FnOnce(),
) -> Result<Response<Incoming>, Failed> {
    let copy = if again { copy(&request) } else { None };
    let mut error = match sender.try_send_request(for_http2(*request).map_err(Failed::For)?).await {
        Ok(response) => return Ok(response),
        Err(error) => error,
    };
    let unsent = error.take_message();
    let error = error.into_error();
    if unsent.is_some() || lost(&error) {
        retire();
    }
    match (unsent, copy) {
        (Some(unsent), _) if again => Err(Failed::Lost(Box::new(from_http2(unsent)))),
        (_, Some(copy)) if unprocessed(&error) || (lost(&error) && idempotent(&copy)) => {
            Err(Failed::Lost(Box::new(copy)))
        }
        _ => Err(failed(&error)),
    }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// h2 tells a stream of the server's GOAWAY only where that says that the stream came too late.
fn unprocessed(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
    })
}

/// The connection broke before the answer began.
fn lost(error: &hyper::Error) -> bool {
    error.is_closed() || error.is_canceled() || h2_error(error).is_some_and(|error| error.is_io() || error.is_go_away())
}

/// hyper frames a body of unknown length for methods that usually have one; for others it would leave the body out.
fn for_http1(request: &mut Request<RequestBody>) {
    let streamed = matches!(request.body(), RequestBody::Stream(_));
    let bodiless = matches!(*request.method(), Method::GET | Method::HEAD);
    if streamed && bodiless && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// HTTP/2 names the host in the target.
fn for_http2(mut request: Request<RequestBody>) -> Result<Request<RequestBody>, Reject> {
    let bad = || Reject::Malformed("The host is not a valid host name.");
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

/// A request as it was before [`for_http2`].
fn from_http2(mut request: Request<RequestBody>) -> Request<RequestBody> {
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let target = request.uri().path_and_query().cloned().map(Uri::from);
    if let (Some(host), Some(target)) = (host, target) {
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = target;
    }
    request
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// May be sent twice (RFC 9110, 9.2.2).
fn idempotent(request: &Request<RequestBody>) -> bool {
    matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// A copy of a request without a body.
fn copy(request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
    if !matches!(request.body(), RequestBody::Empty) {
        return None;
    }
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn failed(error: &hyper::Error) -> Failed {
    tracing::debug!(%error, "request to an upstream failed");
    Failed::For(Reject::InvalidResponse)
}
