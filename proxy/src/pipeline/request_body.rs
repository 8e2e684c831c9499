//! The body of a forwarded request: forwarded as it arrives, or buffered first.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Body as _;
use hyper::body::Incoming;
use sluice_wire::Behavior;

use super::call::{Call, CallBody};
use super::exchange::Exchange;
use crate::body::{BufferError, Reservation, Upload, UploadState, buffer};
use crate::gateway::{Matched, Policy};
use crate::integration::RequestBody;
use crate::reject::Reject;

/// Bodies of this length at most are buffered so that their requests can be sent once more.
const REPLAYABLE: u64 = 64 * 1024;

/// A body, and its state where it is still arriving.
pub(crate) struct Outgoing {
    pub(crate) body: RequestBody,
    pub(crate) upload: Option<Arc<UploadState>>,
}

impl Outgoing {
    pub(crate) fn empty() -> Self {
        Self { body: RequestBody::Empty, upload: None }
    }

    /// A body that was read already.
    pub(crate) fn read(content: Bytes, parts: &mut Parts) -> Self {
        parts.headers.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
        Self { body: RequestBody::in_memory(content), upload: None }
    }

    /// Forwards `body` as it arrives.
    pub(crate) fn stream(exchange: &Exchange, policy: &Policy, body: Incoming) -> Self {
        let state = Arc::new(UploadState::new());
        let upload = Upload::new(body, policy.body_limit, state.clone(), exchange.peer.clone());
        Self { body: RequestBody::Streaming(Box::new(upload)), upload: Some(state) }
    }
}

/// Whether and why a body is buffered.
enum Buffering {
    /// It is forwarded as it arrives.
    No,
    /// An AWS API receives the whole body before it calls the integration, which gets a Content-Length and never a part of
    /// a request that is rejected because of its size.
    Required,
    /// The request may be sent once more when its connection is lost (RFC 9110, section 9.2.2).
    Replayable(Reservation),
}

fn buffering(matched: &Matched<'_>, policy: &Policy, parts: &Parts, body: &Incoming) -> Buffering {
    match body.size_hint().exact() {
        // Calls of gRPC are streams: their bodies may have no end before the response begins.
        None if matched.stage.behavior != Behavior::Native && !is_grpc(&parts.headers) => Buffering::Required,
        Some(length)
            if length <= REPLAYABLE.min(policy.buffer_limit)
                && matches!(parts.method, Method::PUT | Method::DELETE) =>
        {
            // Without memory the request is forwarded all the same, and cannot be repeated.
            matched.stage.memory.reserve(length).map_or(Buffering::No, Buffering::Replayable)
        }
        _ => Buffering::No,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The body of a request that has one.
pub(crate) async fn prepare(
    exchange: &Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    parts: &mut Parts,
    body: Incoming,
) -> Result<Outgoing, Reject> {
    let reservation = match buffering(matched, policy, parts, &body) {
        Buffering::No => return Ok(Outgoing::stream(exchange, policy, body)),
        Buffering::Required => matched.stage.memory.reserve(0).ok_or(Reject::BufferMemory)?,
        Buffering::Replayable(reservation) => reservation,
    };
    Ok(Outgoing::read(read(exchange, policy, body, reservation).await?, parts))
}

async fn read(exchange: &Exchange, policy: &Policy, body: Incoming, reservation: Reservation) -> Result<Bytes, Reject> {
    let state = Arc::new(UploadState::new());
    let upload = Upload::new(body, policy.buffer_limit, state.clone(), exchange.peer.clone());
    // In a box: most requests do not wait for it.
    match Box::pin(buffer(upload, policy.buffer_limit, reservation, exchange.peer.connection.source())).await {
        Ok(bytes) => Ok(bytes),
        Err(BufferError::NoMemory) => Err(Reject::BufferMemory),
        Err(BufferError::TooLarge) => Err(Reject::BodyTooLarge),
        Err(BufferError::Body(_)) => Err(failed(&state).unwrap_or(Reject::Malformed("The request body is invalid."))),
    }
}

/// The whole body, which is kept for the integration. What follows the head of an upgrade is not a body.
pub(super) async fn whole(
    exchange: &Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    call: &mut Call,
) -> Result<Bytes, Reject> {
    if call.upgrade.is_some() {
        return Ok(Bytes::new());
    }
    let content = match std::mem::replace(&mut call.body, CallBody::Read(Bytes::new())) {
        CallBody::Read(content) => content,
        CallBody::Arriving(body) if body.is_end_stream() => Bytes::new(),
        CallBody::Arriving(body) => {
            let expected = body.size_hint().exact().unwrap_or(0).min(policy.buffer_limit);
            let reservation = matched.stage.memory.reserve(expected).ok_or(Reject::BufferMemory)?;
            read(exchange, policy, body, reservation).await?
        }
    };
    call.body = CallBody::Read(content.clone());
    Ok(content)
}

/// The rejection of a request whose body has failed; none: it has not.
pub(crate) fn failed(upload: &UploadState) -> Option<Reject> {
    if upload.too_large() {
        Some(Reject::BodyTooLarge)
    } else if upload.stalled() {
        Some(Reject::BodyTimeout)
    } else if upload.broken() {
        Some(Reject::Malformed("The request body is invalid."))
    } else {
        None
    }
}
