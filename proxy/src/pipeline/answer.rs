//! Answers: what the integration, the cache or a refusal gives, and what every answer gets before it leaves.
//! Status, headers and body of a rejection are in `reject`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use sluice_wire::Behavior;

use crate::exchange::body::Keep;
use crate::exchange::piece::Flow;
use crate::exchange::{Body, Exchange};
use crate::integration::pool::Lease;
use crate::integration::tunnel;
use crate::reject::Reject;

/// What the client's connection expects of its answer, whatever becomes of the request.
pub(crate) struct Asked {
    head: bool,
    /// Whether it may go on in another protocol (RFC 9110, 7.8).
    upgrade: bool,
    /// Of an HTTP/2 stream.
    flow: Option<Arc<Flow>>,
}

impl Asked {
    pub(crate) fn of(parts: &Parts, flow: Option<Arc<Flow>>) -> Self {
        let upgrade = parts.version == Version::HTTP_11 && parts.headers.contains_key(UPGRADE);
        Self { head: parts.method == Method::HEAD, upgrade, flow }
    }
}

/// An answer before it is sealed.
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ReplyBody,
}

/// Where an answer's body comes from.
pub(crate) enum ReplyBody {
    Full(Bytes),
    Stream {
        incoming: Incoming,
        lease: Lease,
        keep: Option<Box<Keep>>,
    },
    /// There is none: the connection changes its protocol.
    Switched(Box<tunnel::Ends>),
}

impl Reply {
    /// An answer without a body.
    pub(crate) fn fixed(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, headers, body: ReplyBody::Full(Bytes::new()) }
    }
}

impl Reply {
    /// The body's length, where it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.body {
            ReplyBody::Full(bytes) => Some(bytes.len() as u64),
            ReplyBody::Stream { incoming, .. } => incoming.size_hint().exact(),
            ReplyBody::Switched(_) => None,
        }
    }
}

/// The answer to a request that is refused.
pub(crate) fn refuse(exchange: &mut Exchange, reject: &Reject) -> Reply {
    let behavior = exchange.stage.as_ref().map_or(Behavior::Native, |stage| stage.behavior);
    let worker = exchange.worker.clone();
    let metrics = exchange.stage.as_ref().map_or(&worker.shared.nowhere, |stage| &stage.metrics);
    metrics.reject(worker.index, reject.index());
    if exchange.reason.is_empty() {
        exchange.reason = reject.reason();
    }
    let (status, headers, body) = reject.render(behavior);
    Reply { status, headers, body: ReplyBody::Full(body) }
}

/// Where the request's id is said.
pub(crate) const fn request_id(behavior: Behavior) -> HeaderName {
    HeaderName::from_static(match behavior {
        Behavior::Native => "x-request-id",
        Behavior::AwsRest => "x-amzn-requestid",
        Behavior::AwsHttp => "apigw-requestid",
    })
}

/// The last touches: request id, cross-origin headers, and the exchange that records itself when the body is gone.
pub(crate) fn seal(
    mut exchange: Box<Exchange>,
    reply: Reply,
    asked: Asked,
    origin: Option<&HeaderValue>,
) -> Response<Body> {
    let Reply { status, mut headers, body } = reply;
    exchange.status = status.as_u16();
    let behavior = exchange.stage.as_ref().map_or(Behavior::Native, |stage| stage.behavior);
    headers.insert(request_id(behavior), exchange.id.header());
    if behavior == Behavior::AwsRest {
        headers.insert(HeaderName::from_static("x-amz-apigw-id"), exchange.id.extended());
    }
    if let Some(cors) = exchange.stage.as_ref().and_then(|stage| stage.cors.as_ref())
        && !preflight(&exchange, status)
    {
        cors.decorate(origin, &mut headers);
    }
    if asked.upgrade && status != StatusCode::SWITCHING_PROTOCOLS {
        // The client may already be speaking another protocol: nothing more is read from it.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if exchange.method == Method::HEAD && !asked.head {
        // The client did not send HEAD but asked for it in a field: it waits for as many bytes as it is told.
        headers.remove(CONTENT_LENGTH);
    }
    let body = match body {
        ReplyBody::Full(bytes) if bytes.is_empty() => Body::empty(Some(exchange)),
        ReplyBody::Full(bytes) => Body::full(bytes, Some(exchange)),
        ReplyBody::Stream { incoming, lease, keep } => Body::stream(incoming, lease, keep, Some(exchange)),
        ReplyBody::Switched(ends) => {
            ends.join(exchange);
            Body::empty(None)
        }
    };
    let body = if asked.head { body.head_only() } else { body.counted(asked.flow) };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// A preflight was answered with its own headers: it has no rule.
fn preflight(exchange: &Exchange, status: StatusCode) -> bool {
    exchange.rule.is_none() && status == StatusCode::NO_CONTENT
}
