//! Responses: from the integration, the cache or a rejection, and the headers that every response gets before it is sent.
//! Status, headers and body of a rejection are in `reject`.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, STRICT_TRANSPORT_SECURITY};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use sluice_wire::Behavior;

use super::admission::Present;
use super::exchange::Exchange;
use super::explain;
use super::response_body::{First, ResponseBody};
use super::tunnel;
use crate::cache::Fill;
use crate::client::Flow;
use crate::cors::Cors;
use crate::integration::UpstreamConnection;
use crate::reject::Reject;

/// What the client's connection requires of every response, also of a rejection.
pub(crate) struct Expected {
    head: bool,
    /// Whether the request asks for another protocol (RFC 9110, 7.8).
    upgrade: bool,
    /// With HTTP/2.
    flow: Option<Arc<Flow>>,
}

impl Expected {
    pub(crate) fn of(parts: &Parts, present: Present, flow: Option<Arc<Flow>>) -> Self {
        let upgrade = parts.version == Version::HTTP_11 && present.upgrade;
        Self { head: parts.method == Method::HEAD, upgrade, flow }
    }

    /// Of a response whose body is sent separately.
    pub(crate) fn head_only() -> Self {
        Self { head: true, upgrade: false, flow: None }
    }
}

/// A response before [`finish`].
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: ReplyBody,
}

/// Where a response's body comes from.
pub(crate) enum ReplyBody {
    Full(Bytes),
    Stream {
        first: First,
        incoming: Incoming,
        connection: UpstreamConnection,
        keep: Option<Box<Fill>>,
    },
    /// None: the connection changes its protocol.
    Upgraded(Box<tunnel::Ends>),
}

impl Reply {
    /// A response without a body.
    pub(crate) fn fixed(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, headers, body: ReplyBody::Full(Bytes::new()) }
    }

    /// The body's length, where it is known.
    pub(crate) fn length(&self) -> Option<u64> {
        match &self.body {
            ReplyBody::Full(bytes) => Some(bytes.len() as u64),
            ReplyBody::Stream { first, incoming, .. } => Some(incoming.size_hint().exact()? + first.length()),
            ReplyBody::Upgraded(_) => None,
        }
    }
}

/// The response to a rejected request.
pub(crate) fn reject(exchange: &mut Exchange, reject: &Reject) -> Reply {
    let behavior = exchange.behavior();
    let metrics = exchange.stage.as_ref().map_or(&exchange.recorder.no_stage, |stage| &stage.metrics);
    metrics.reject(exchange.recorder.worker, reject.index());
    if exchange.reason.is_empty() {
        exchange.reason = reject.log_reason();
    }
    if behavior != Behavior::Native {
        exchange.response_type = reject.response_type();
    }
    let (status, headers, body) = reject.render(behavior);
    Reply { status, headers, body: ReplyBody::Full(body) }
}

/// The header with the request's id.
pub(crate) const fn request_id(behavior: Behavior) -> HeaderName {
    HeaderName::from_static(match behavior {
        Behavior::Native => "x-request-id",
        Behavior::AwsRest => "x-amzn-requestid",
        Behavior::AwsHttp => "apigw-requestid",
    })
}

/// Adds the request id and cross-origin headers, and joins the body with the exchange, which records the request when the
/// body is dropped.
pub(crate) fn finish(
    mut exchange: Box<Exchange>,
    reply: Reply,
    expected: Expected,
    origin: Option<&HeaderValue>,
) -> Response<ResponseBody> {
    let Reply { status, mut headers, body } = reply;
    exchange.status = status.as_u16();
    let behavior = exchange.behavior();
    headers.insert(request_id(behavior), exchange.id.header());
    if behavior == Behavior::AwsRest {
        headers.insert(HeaderName::from_static("x-amz-apigw-id"), exchange.id.extended());
    }
    if let Some(cors) = cors(&exchange)
        && !preflight(&exchange, status)
    {
        cors.decorate(origin, &mut headers);
    }
    strict_transport(&exchange, &mut headers);
    if let Some(limits) = &exchange.rate_limits {
        limits.apply(&mut headers);
    }
    if expected.upgrade && status != StatusCode::SWITCHING_PROTOCOLS {
        // The client may already use another protocol: nothing more is read from it.
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let version = exchange.version;
    let ends =
        (exchange.recorder.load.is_draining() || exchange.ends_connection) && status != StatusCode::SWITCHING_PROTOCOLS;
    if ends && version != Version::HTTP_2 {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if exchange.ends_connection && version == Version::HTTP_2 {
        exchange.peer.connection.announce_end();
    }
    if exchange.method == Method::HEAD && !expected.head {
        // The client sent another method than HEAD: it would wait for as many bytes as the header announces.
        headers.remove(CONTENT_LENGTH);
    }
    let whole = if let ReplyBody::Full(body) = &body { Some(&**body) } else { None };
    explain::response(&exchange, status, &headers, whole);
    let body = match body {
        ReplyBody::Full(bytes) if bytes.is_empty() => ResponseBody::empty(Some(exchange)),
        ReplyBody::Full(bytes) => ResponseBody::full(bytes, Some(exchange)),
        ReplyBody::Stream { first, incoming, connection, keep } => {
            ResponseBody::stream(first, incoming, connection, keep, exchange)
        }
        ReplyBody::Upgraded(ends) => {
            ends.join(exchange);
            ResponseBody::empty(None)
        }
    };
    let body = if expected.head { body.head_only() } else { body.tracked(expected.flow) };
    let mut response = Response::new(body);
    if ends && version == Version::HTTP_10 {
        // Otherwise hyper adds `keep-alive` where the client asks for it.
        *response.version_mut() = Version::HTTP_10;
    }
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Adds `Strict-Transport-Security`; browsers ignore it over plain HTTP (RFC 6797, 8.1).
fn strict_transport(exchange: &Exchange, headers: &mut HeaderMap) {
    if let Some(tls) = exchange.stage.as_ref().and_then(|stage| stage.tls.as_ref())
        && let Some(hsts) = &tls.hsts
        && exchange.secure
    {
        headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
}

/// The settings for pages of other origins: those of the rule or the stage.
fn cors(exchange: &Exchange) -> Option<&Cors> {
    let stage = exchange.stage.as_ref()?;
    exchange.rule.as_ref().map_or(stage.cors.as_ref(), |rule| rule.cors(stage))
}

/// The response to a preflight has its own headers; it has no rule.
fn preflight(exchange: &Exchange, status: StatusCode) -> bool {
    exchange.rule.is_none() && status == StatusCode::NO_CONTENT
}
