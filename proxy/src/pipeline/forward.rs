//! Calls the integration: builds its request, and removes what belongs to its connection from its response.
//! Connections and endpoints are in `integration`.

use std::time::Instant;

use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, TRAILER, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use sluice_wire::{Behavior, is_hop_by_hop};
use smallvec::SmallVec;
use tracing::Instrument as _;

use super::call::{Call, CallBody, Upgrade};
use super::checks::Passed;
use super::edits;
use super::exchange::Exchange;
use super::explain;
use super::request_body::{self, Outgoing};
use super::response::{Reply, ReplyBody};
use super::response_body::First;
use super::tunnel;
use super::variables::RequestContext;
use crate::client::Peer;
use crate::explain::Check;
use crate::gateway::{ExternalHttp, Integration, Matched, Mock, PathSegment, Policy, path};
use crate::headers::{self, HopByHop, Once};
use crate::integration::{Upstream, UpstreamResponse};
use crate::reject::Reject;
use crate::template::Variables;
use crate::transport::{self, CallKind, Cause, ConnectError, Entered, Fill, call};

/// Calls the integration. `_passed` proves that every check was made.
pub(crate) async fn integrate(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    request: Box<Call>,
    _passed: Passed,
) -> Result<Reply, Reject> {
    exchange.begin(Check::Integration);
    match &policy.integration {
        Integration::Mock(fixed) => Ok(mock(&RequestContext::new(exchange, matched), fixed)),
        Integration::Service(upstream) => {
            let host = request.authority.clone();
            send(exchange, matched, policy, upstream, request, matched.forwarded(), host).await
        }
        Integration::Http(external) => {
            let (path, joints) = external_path(external, matched);
            if external.path.is_some() && !path::joins(&path, &joints) {
                return Err(Reject::Malformed("The path parameters are not valid in the path of the integration."));
            }
            let host = Some(external.host.clone());
            send(exchange, matched, policy, &external.upstream, request, &path, host).await
        }
    }
}

fn mock(variables: &impl Variables, mock: &Mock) -> Reply {
    let mut headers = HeaderMap::with_capacity(mock.headers.len() + 2);
    for (name, value) in &mock.headers {
        headers.append(name.clone(), value.render(variables));
    }
    let bodiless = mock.status == StatusCode::NO_CONTENT || mock.status == StatusCode::NOT_MODIFIED;
    let body = if bodiless { bytes::Bytes::new() } else { mock.body.clone() };
    if !bodiless {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    Reply { status: mock.status, headers, body: ReplyBody::Full(body) }
}

/// The path, and where its pieces end.
fn external_path(external: &ExternalHttp, matched: &Matched<'_>) -> (String, SmallVec<[usize; 8]>) {
    let mut joints = SmallVec::new();
    let Some(pieces) = &external.path else { return (matched.forwarded().to_owned(), joints) };
    let absolute = matches!(pieces.first(), Some(PathSegment::Text(text)) if text.starts_with('/'));
    let mut out = String::from(if absolute { "" } else { "/" });
    for piece in pieces {
        match piece {
            PathSegment::Text(text) => out.push_str(text),
            PathSegment::Parameter(at) => out.push_str(matched.captured(*at).unwrap_or_default()),
        }
        joints.push(out.len());
    }
    (out, joints)
}

/// Counts a request towards the limit of its upstream. A client with more than its part gets a part of the limit only.
fn enter(peer: &Peer, upstream: &Upstream) -> Result<Entered, Reject> {
    let Peer { load, connection, .. } = peer;
    let entered = upstream.in_flight().enter(|fill| {
        load.watch();
        let limiting = fill == Fill::High || (fill == Fill::Half && load.keeps_half());
        !limiting || !connection.over_share(fill == Fill::High)
    });
    entered.ok_or_else(|| {
        load.upstream_is_full(connection.over_share(true));
        Reject::UpstreamLimit
    })
}

async fn send(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    upstream: &Upstream,
    mut request: Box<Call>,
    path: &str,
    host: Option<HeaderValue>,
) -> Result<Reply, Reject> {
    let parts = &mut request.parts;
    parts.uri = target(&parts.uri, path)?;
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    if request.present.cookie {
        headers::join_cookies(&mut parts.headers);
    }
    if request.present.expect {
        headers::strip_expect(&mut parts.headers);
    }
    if let Some(api) = &matched.rule.api {
        headers::imitate_aws_rest(&mut parts.headers, api);
    }
    edits::apply(&mut parts.headers, policy.request.as_deref(), &RequestContext::new(exchange, matched));
    // A header of the client with this name, or with another spelling of it, has been removed.
    let forwards = matched.stage.client_auth.as_ref().is_some_and(|client_auth| client_auth.forward);
    if let Some(certificate) = exchange.certificate().filter(|_| forwards) {
        parts.headers.insert(headers::CLIENT_CERT, certificate.header().clone());
    }
    let (client, origin) = (exchange.source(), &exchange.peer.origin);
    match matched.stage.behavior {
        Behavior::AwsHttp => {
            if parts.method == Method::PUT && request.body.is_empty() {
                // AWS adds the header, and does not document its value.
                let unknown = || HeaderValue::from_static("application/octet-stream");
                parts.headers.entry(CONTENT_TYPE).or_insert_with(unknown);
            }
            headers::set_forwarded_element(&mut parts.headers, client, exchange.secure, request.authority.as_ref());
        }
        Behavior::Native | Behavior::AwsRest => {
            headers::set_forwarded(&mut parts.headers, client, origin, exchange.secure, request.authority.take());
        }
    }
    match host {
        Some(host) => parts.headers.insert(HOST, host),
        None => parts.headers.insert(HOST, HeaderValue::from_static("")),
    };
    let kind = if request.upgrade.is_some() { CallKind::Upgrade } else { CallKind::Plain };
    if kind == CallKind::Upgrade {
        // At most `Content-Length: 0`: what follows the head is not a body.
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        parts.headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    let Call { mut parts, body, upgrade, .. } = *request;
    let Outgoing { body, upload } = if body.is_empty() || kind == CallKind::Upgrade {
        Outgoing::empty()
    } else {
        match body {
            CallBody::Arriving(body) => request_body::prepare(exchange, matched, policy, &mut parts, body).await?,
            CallBody::Read(content) => Outgoing::read(content, &mut parts),
        }
    };
    if explain::stops(exchange, policy, &parts) {
        // Not shown, but headers such as `Connection` depend on whether the protocol changes.
        let status = if kind == CallKind::Upgrade { StatusCode::SWITCHING_PROTOCOLS } else { StatusCode::OK };
        return Ok(Reply::fixed(status, HeaderMap::new()));
    }
    // Until the exchange ends, with its response or tunnel.
    exchange.entered = Some(enter(&exchange.peer, upstream)?);
    let upload = upload.as_deref();
    let started = Instant::now();
    let request = Box::new(Request::from_parts(parts, body));
    let later = || upload.map(|upload| upload.deadline(policy.timeout));
    let worker = exchange.recorder.worker;
    // Boxed and with a span only when tracing is enabled: other requests carry neither.
    let sent = if tracing::enabled!(tracing::Level::DEBUG) {
        let span =
            tracing::debug_span!("upstream", request.id = exchange.id.as_str(), route.name = matched.rule.route());
        Box::pin(call(upstream, worker, request, kind, policy.timeout, later).instrument(span)).await
    } else {
        call(upstream, worker, request, kind, policy.timeout, later).await
    };
    let took = started.elapsed();
    exchange.upstream = Some(took);
    matched.rule.metrics.upstream(exchange.recorder.worker, took);
    let received = match sent {
        Ok(received) => received,
        Err(error) => {
            // Where the client's body made the call fail, the rejection is the one for that.
            if let Some(reject) = upload.and_then(request_body::failed) {
                return Err(reject);
            }
            exchange.upstream_error = error.cause();
            return Err(rejection(&error));
        }
    };
    if let Some(upload) = upload {
        upload.response_began();
    }
    let version = exchange.version;
    receive(received, upgrade, matched.stage.behavior, version).await.map_err(|cause| {
        exchange.upstream_error = Some(cause);
        Reject::InvalidResponse
    })
}

/// `path` with the query of `uri`. Most requests are passed on with the target they came with.
fn target(uri: &Uri, path: &str) -> Result<Uri, Reject> {
    if let Some(same) = uri.path_and_query().filter(|same| same.path() == path) {
        return Ok(Uri::from(same.clone()));
    }
    let target = match uri.query() {
        Some(query) => PathAndQuery::try_from(format!("{path}?{query}")),
        None => PathAndQuery::try_from(path),
    };
    target
        .map(Uri::from)
        .map_err(|_| Reject::Malformed("The path or query has a character that must be percent-encoded."))
}

/// The rejection for a failed call.
fn rejection(error: &transport::Error) -> Reject {
    match error {
        transport::Error::NoEndpoints => Reject::NoEndpoints,
        transport::Error::Connect(error) if matches!(**error, ConnectError::Descriptors) => Reject::RequestLimit,
        transport::Error::Connect(_) => Reject::ConnectFailed,
        transport::Error::Host => Reject::Malformed("The host is not a valid host name."),
        transport::Error::Http(_) => Reject::InvalidResponse,
        transport::Error::Busy => Reject::UpstreamBusy,
        transport::Error::Timeout => Reject::Timeout,
    }
}

/// How a response is framed.
#[derive(Clone, Copy)]
struct Framing {
    /// Otherwise the end of the body is its length, and trailers may follow it.
    has_length: bool,
    /// What belongs to the upstream's connection.
    hop_by_hop: HopByHop,
}

/// A response has one Content-Length, one transfer coding `chunked`, or neither; none: it is ambiguous. hyper follows the coding
/// where there are both, and caches and clients behind us might not (RFC 9112, 6.3).
fn framing(headers: &HeaderMap) -> Option<Framing> {
    let (mut length, mut coding) = (Once::default(), Once::default());
    let mut hop_by_hop = HopByHop::default();
    for (name, value) in headers {
        match name.as_str() {
            "content-length" => length.add(value),
            name if is_hop_by_hop(name) => {
                hop_by_hop.add(name, value);
                if name == "transfer-encoding" {
                    coding.add(value);
                }
            }
            _ => {}
        }
    }
    let (length, coding) = (length.value().ok()?, coding.value().ok()?);
    let valid = match (length, coding) {
        (None, None) => true,
        (Some(length), None) => !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit),
        (None, Some(coding)) => coding.as_bytes().eq_ignore_ascii_case(b"chunked"),
        (Some(_), Some(_)) => false,
    };
    valid.then_some(Framing { has_length: length.is_some(), hop_by_hop })
}

async fn receive(
    received: UpstreamResponse,
    upgrade: Option<Upgrade>,
    behavior: Behavior,
    client: Version,
) -> Result<Reply, Cause> {
    let UpstreamResponse { mut response, connection } = received;
    let framing = framing(response.headers()).ok_or(Cause::MalformedResponse)?;
    if response.version() == Version::HTTP_2 && response.headers().values().any(headers::is_padded) {
        return Err(Cause::MalformedResponse);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        // An upstream that switches without being asked is not speaking HTTP any more.
        let Some(client) = upgrade.and_then(|upgrade| upgrade.client) else { return Err(Cause::MalformedResponse) };
        let server = hyper::upgrade::on(&mut response);
        let (parts, _) = response.into_parts();
        let mut headers = parts.headers;
        headers::strip_hop_by_hop(&mut headers);
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        let body = ReplyBody::Upgraded(Box::new(tunnel::Ends { client, server, connection }));
        return Ok(Reply { status: parts.status, headers, body });
    }
    let (mut parts, mut incoming) = response.into_parts();
    let first = First::of(&mut incoming).await.map_err(|error| Cause::of_exchange(&error))?;
    // An HTTP/1.1 client gets trailers if it accepts them (`TE`) and the response names them.
    let named = if framing.has_length || client != Version::HTTP_11 { None } else { parts.headers.remove(TRAILER) };
    if behavior == Behavior::AwsRest {
        headers::remap_aws_rest(&mut parts.headers);
    } else {
        framing.hop_by_hop.strip(&mut parts.headers);
    }
    if let Some(named) = named {
        parts.headers.insert(TRAILER, named);
    }
    Ok(Reply {
        status: parts.status,
        headers: parts.headers,
        body: ReplyBody::Stream { first, incoming, connection, keep: None },
    })
}
