//! One call: choosing an endpoint, checking out a connection, sending, and sending again where the request cannot have been
//! processed twice.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING};
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::body::{Payload, SendBody};
use super::endpoint::{Checkout, Endpoint, Held, PooledConnection, Requirement};

use super::error::{ConnectError, Error};
use super::http2::stream::OpenStream;
use super::pool::Pool;
use crate::deadline::within;

/// Attempts to connect, each to another endpoint.
const ATTEMPTS: usize = 3;
/// A request that servers reject as not processed is sent again so often. Where many requests share connections that go
/// away after a few, about half of them are rejected each time: with 10 some failed. The deadline of the call bounds it too.
const UNPROCESSED: u32 = 50;

/// The head of a response; its body is still on the connection.
pub(crate) struct Received<B: SendBody> {
    pub(crate) response: Response<Incoming>,
    pub(crate) connection: PooledConnection<B>,
}

/// Whether the connection may change its protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallKind {
    Plain,
    Upgrade,
}

/// Sends `request` and waits for the head of the response, for at most `timeout`, or until `later` where that is a later
/// moment: while the request's body is being sent, the time of the server has not begun.
pub(crate) async fn call<B: SendBody>(
    pool: &Pool<B>,
    thread: usize,
    request: Box<Request<Payload<B>>>,
    kind: CallKind,
    timeout: Duration,
    later: impl Fn() -> Option<Instant>,
) -> Result<Received<B>, Error> {
    let work = attempts(pool, thread, request, kind);
    tokio::pin!(work);
    let mut until = Instant::now() + timeout;
    loop {
        if let Ok(result) = within(until.into_std(), work.as_mut()).await {
            return result;
        }
        match later() {
            Some(deadline) if deadline > Instant::now() => until = deadline,
            _ => return Err(Error::Timeout),
        }
    }
}

async fn attempts<B: SendBody>(
    pool: &Pool<B>,
    thread: usize,
    mut request: Box<Request<Payload<B>>>,
    kind: CallKind,
) -> Result<Received<B>, Error> {
    let mut tried: Vec<Arc<Endpoint<B>>> = Vec::new();
    let mut failure = Error::NoEndpoints;
    let mut wanted = if kind == CallKind::Upgrade { Requirement::Upgrade } else { Requirement::Any };
    let mut unprocessed = 0;
    pool.refresh().await?;
    while tried.len() < ATTEMPTS {
        let Some(endpoint) = pool.pick(&tried) else { break };
        let outstanding = endpoint.enter();
        let checkout = match endpoint.checkout(thread, request.body_mut(), wanted, unprocessed).await {
            Ok(checkout) => checkout,
            Err(error) => {
                tracing::debug!(error = %sluice_daemon::logging::chain(&error), "no connection to an upstream");
                if matches!(error, Error::Connect(_)) {
                    endpoint.eject();
                }
                endpoint.failed(&error);
                failure = error;
                tried.push(endpoint);
                continue;
            }
        };
        let repeated = wanted == Requirement::Fresh;
        let sent = match checkout {
            Checkout::Http1 { sender, reused } => over_http1(sender, request, reused && !repeated).await,
            // Boxed, so that it costs HTTP/1.1 nothing.
            Checkout::Http2 { sender, stream } => {
                let secure = endpoint.dialer.transport.tls.is_some();
                let repeatable = Repeatable { lost: !repeated, unprocessed: unprocessed < UNPROCESSED };
                Box::pin(over_http2(sender, stream, request, secure, repeatable)).await
            }
        };
        match sent {
            Ok((response, held)) => {
                endpoint.responded();
                let held = if kind == CallKind::Upgrade { Held::Upgraded } else { held };
                return Ok(Received { response, connection: PooledConnection::new(held, thread, outstanding) });
            }
            // It was not sent, on an idle connection that the server had closed: not an attempt. There is an end to idle
            // connections.
            Err(Failed::Unsent { back, reused: true }) => request = back,
            Err(Failed::Unsent { back, reused: false }) => {
                request = back;
                tried.push(endpoint);
                failure = ConnectError::Closed.into();
            }
            Err(Failed::Unprocessed(copy)) => {
                request = copy;
                unprocessed += 1;
            }
            // A connection that was kept as long may be lost as well.
            Err(Failed::Lost(copy)) => {
                request = copy;
                wanted = Requirement::Fresh;
            }
            Err(Failed::For(error)) => {
                endpoint.failed(&error);
                return Err(error);
            }
        }
    }
    Err(failure)
}

/// Why there is no response on one connection.
enum Failed<B: SendBody> {
    /// The request is as it was.
    Unsent { back: Box<Request<Payload<B>>>, reused: bool },
    /// The server reported that it did not process the request; this is a copy.
    Unprocessed(Box<Request<Payload<B>>>),
    /// The connection was lost; the request may be processed twice, and this is a copy.
    Lost(Box<Request<Payload<B>>>),
    /// The request must not be sent again.
    For(Error),
}

type Sent<B> = (Response<Incoming>, Held<B>);

async fn over_http1<B: SendBody>(
    mut sender: http1::SendRequest<Payload<B>>,
    mut request: Box<Request<Payload<B>>>,
    reused: bool,
) -> Result<Sent<B>, Failed<B>> {
    for_http1(&mut request);
    // The server may close an idle connection at the moment it is used: a request that may be repeated is, once.
    let copy = if reused && idempotent(request.method()) { copy(&request) } else { None };
    let mut error = match sender.try_send_request(*request).await {
        Ok(response) => return Ok((response, Held::Http1(sender))),
        Err(error) => error,
    };
    if let Some(back) = error.take_message() {
        return Err(Failed::Unsent { back: Box::new(back), reused });
    }
    let error = error.into_error();
    let lost = error.is_closed() || error.is_canceled() || error.is_incomplete_message() || is_io(&error);
    match copy {
        Some(copy) if lost => Err(Failed::Lost(Box::new(copy))),
        _ => Err(failed(error)),
    }
}

/// Whether a request may be sent once more after a failure of each kind.
struct Repeatable {
    lost: bool,
    unprocessed: bool,
}

/// A server may reject requests of a connection without processing them (RFC 9113, section 8.7): those that came after a
/// GOAWAY, and streams that it rejects. Such a request may be repeated with any method.
async fn over_http2<B: SendBody>(
    mut sender: http2::SendRequest<Payload<B>>,
    stream: Arc<OpenStream>,
    request: Box<Request<Payload<B>>>,
    secure: bool,
    repeatable: Repeatable,
) -> Result<Sent<B>, Failed<B>> {
    let may_repeat = repeatable.unprocessed || (repeatable.lost && idempotent(request.method()));
    let copy = if may_repeat { copy(&request) } else { None };
    let mut request = for_http2(*request, secure).map_err(Failed::For)?;
    request.body_mut().attach(Some(stream.clone()));
    let mut error = match sender.try_send_request(request).await {
        Ok(response) => return Ok((response, Held::Http2 { _stream: stream })),
        Err(error) => error,
    };
    let unsent = error.take_message();
    let error = error.into_error();
    if unsent.is_some() || lost(&error) {
        stream.end_connection();
    }
    match (unsent, copy) {
        (Some(unsent), _) if repeatable.unprocessed => Err(Failed::Unprocessed(Box::new(from_http2(unsent)))),
        (_, Some(copy)) if repeatable.unprocessed && unprocessed(&error) => Err(Failed::Unprocessed(Box::new(copy))),
        (_, Some(copy)) if repeatable.lost && lost(&error) && idempotent(copy.method()) => {
            Err(Failed::Lost(Box::new(copy)))
        }
        _ => Err(failed(error)),
    }
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    std::error::Error::source(error)?.downcast_ref()
}

/// h2 reports the server's GOAWAY on a stream only if that stream came too late.
fn unprocessed(error: &hyper::Error) -> bool {
    h2_error(error).is_some_and(|error| {
        error.reason() == Some(h2::Reason::REFUSED_STREAM) || (error.is_go_away() && error.is_remote())
    })
}

/// The connection broke before the response began. For hyper it is an error of its user when a request on the last stream
/// of a connection, which may have been sent, is dropped with the connection.
fn lost(error: &hyper::Error) -> bool {
    error.is_user()
        || error.is_closed()
        || error.is_canceled()
        || h2_error(error).is_some_and(|error| error.is_io() || error.is_go_away())
}

/// hyper frames a body of unknown length for methods that usually have one; for others it would leave the body out.
fn for_http1<B: SendBody>(request: &mut Request<Payload<B>>) {
    let bodiless = matches!(*request.method(), Method::GET | Method::HEAD);
    if request.body().has_no_length() && bodiless && !request.headers().contains_key(CONTENT_LENGTH) {
        request.headers_mut().insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// HTTP/2 has the host in the target.
fn for_http2<B: SendBody>(mut request: Request<Payload<B>>, secure: bool) -> Result<Request<Payload<B>>, Error> {
    let host = request.headers_mut().remove(HOST).ok_or(Error::Host)?;
    let mut target = std::mem::take(request.uri_mut()).into_parts();
    target.scheme = Some(if secure { Scheme::HTTPS } else { Scheme::HTTP });
    target.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| Error::Host)?);
    *request.uri_mut() = Uri::from_parts(target).map_err(|_| Error::Host)?;
    *request.version_mut() = Version::HTTP_2;
    // gRPC servers require it; trailers do arrive where the client speaks HTTP/2.
    let kind = request.headers().get(CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        request.headers_mut().insert(TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// The request as it was before [`for_http2`].
fn from_http2<B: SendBody>(mut request: Request<Payload<B>>) -> Request<Payload<B>> {
    request.body_mut().attach(None);
    let host = request.uri().authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
    let target = request.uri().path_and_query().cloned().map(Uri::from);
    if let (Some(host), Some(target)) = (host, target) {
        request.headers_mut().insert(HOST, host);
        *request.uri_mut() = target;
    }
    *request.version_mut() = Version::HTTP_11;
    request
}

fn is_io(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>())
}

/// May be processed twice (RFC 9110, section 9.2.2).
fn idempotent(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE)
}

/// A copy of a request whose body is in memory as a whole.
fn copy<B: SendBody>(request: &Request<Payload<B>>) -> Option<Request<Payload<B>>> {
    let mut copy = Request::new(request.body().copy()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    Some(copy)
}

fn failed<B: SendBody>(error: hyper::Error) -> Failed<B> {
    tracing::debug!(%error, "request to an upstream failed");
    Failed::For(Error::Http(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeouts::UpstreamTimeouts;
    use crate::transport::{Context, Egress, Failures, NameFiles, PoolLimits, Resolver};

    type Body = http_body_util::Empty<bytes::Bytes>;

    #[tokio::test]
    async fn a_call_has_no_room_for_what_few_requests_need() {
        let timeouts = UpstreamTimeouts::default();
        let resolver = Resolver::new(NameFiles::default(), tokio::runtime::Handle::current());
        let (egress, limits) = (Egress::new(true), PoolLimits::default());
        let pool = Pool::<Body>::new(Failures::unlogged(), Context { egress, resolver, timeouts, limits, threads: 1 });
        let request = Box::new(Request::new(Payload::from(Body::new())));
        let work = call(&pool, 0, request, CallKind::Plain, Duration::from_secs(1), || None);
        // With the handshakes of TLS and HTTP/2 in it, it would have 12 KiB, which each request would copy.
        assert!(size_of_val(&work) < 1536, "{} bytes", size_of_val(&work));
        assert!(matches!(work.await, Err(Error::NoEndpoints)));
    }
}
