//! The cache in front of the integration: a stored response, the response to a coalesced request, or the integration's own.
//! `cache` decides what may be stored; `forward` calls the integration.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use sluice_wire::Behavior;

use super::checks::Passed;
use super::exchange::Exchange;
use super::forward::{self, Call};
use super::response::{self, Reply, ReplyBody};
use super::variables::RequestContext;
use crate::cache::{
    self, CallerKey, Fill, IGNORED_WARNING, Invalidate, Lead, Look, NotStored, Phase, Stored, Waited, invalidation,
};
use crate::gateway::{Caching, Matched, Policy};
use crate::reject::Reject;

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Responds from the cache where the rule has one, from the integration otherwise.
pub(crate) async fn respond(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    call: Box<Call>,
    passed: Passed,
) -> Result<Reply, Reject> {
    let Some(caching) = &policy.cache else { return forward::integrate(exchange, matched, policy, call, passed).await };
    if call.upgrade.is_some() || caching.policy.bypass(&call.parts.method, &call.parts.headers) {
        note(exchange, matched, Phase::Bypass);
        return forward::integrate(exchange, matched, policy, call, passed).await;
    }
    let invalidate = invalidation(
        &caching.policy,
        &call.parts.headers,
        exchange.identity.as_ref().map_or(&[], |identity| &identity.scopes),
    );
    if invalidate == Invalidate::Reject {
        return Err(Reject::CacheRefresh);
    }
    let key = key(exchange, matched, policy, caching, &call);
    let found = match invalidate {
        Invalidate::Refresh => CacheResult::Lead(caching.store.refresh(key)),
        // A client that sends a body determines how long its call takes: no other request waits for it.
        _ if !call.body.is_end_stream() => match caching.store.fresh(&key, Instant::now()) {
            Some(stored) => CacheResult::Stored(stored, Phase::Hit),
            None => CacheResult::Lead(caching.store.refresh(key)),
        },
        _ => find(caching, key, policy.timeout).await,
    };
    let mut reply = match found {
        CacheResult::Stored(stored, phase) => from_cache(exchange, matched, &stored, phase),
        CacheResult::Lead(lead) => {
            let phase = if invalidate == Invalidate::Refresh { Phase::Refreshed } else { Phase::Miss };
            // In a box, as in `forward::send`.
            Box::pin(fetch(exchange, matched, policy, call, passed, caching, lead, phase)).await?
        }
        CacheResult::Nothing => {
            note(exchange, matched, Phase::NotStored(NotStored::Failed));
            return Err(Reject::Timeout);
        }
    };
    if invalidate == Invalidate::Warn {
        reply.headers.append(http::header::WARNING, IGNORED_WARNING);
    }
    Ok(reply)
}

/// How the request gets its response.
enum CacheResult {
    /// From the cache.
    Stored(Arc<Stored>, fn(Duration) -> Phase),
    /// This request fetches it.
    Lead(Lead),
    /// Another request called the backend, which did not respond in time.
    Nothing,
}

/// Looks up the response and waits for a coalesced fetch, until it is filled or this request has to fetch. The wait is as long
/// as the wait for the backend would be.
async fn find(caching: &Caching, key: cache::Key, timeout: Duration) -> CacheResult {
    let mut now = Instant::now();
    let deadline = now + timeout;
    let mut phase: fn(Duration) -> Phase = Phase::Hit;
    loop {
        let wait = match caching.store.look(key, now) {
            Look::Hit(stored) => return CacheResult::Stored(stored, phase),
            Look::Lead(lead) => return CacheResult::Lead(lead),
            Look::Wait(wait) => wait,
        };
        phase = Phase::Collapsed;
        match wait.response(deadline).await {
            Waited::Response(stored) => return CacheResult::Stored(stored, phase),
            Waited::Again => {}
            Waited::Alone => return CacheResult::Lead(caching.store.refresh(key)),
            Waited::Late => return CacheResult::Nothing,
        }
        now = Instant::now();
    }
}

fn note(exchange: &mut Exchange, matched: &Matched<'_>, phase: Phase) {
    exchange.cache = phase.text();
    matched.stage.metrics.cache(exchange.recorder.worker, phase);
}

fn from_cache(exchange: &mut Exchange, matched: &Matched<'_>, stored: &Stored, phase: fn(Duration) -> Phase) -> Reply {
    let now = Instant::now();
    let phase = phase(stored.remaining(now).unwrap_or_default());
    note(exchange, matched, phase);
    let mut headers = stored.headers.clone();
    headers.insert(http::header::AGE, stored.age(now).as_secs().into());
    headers.insert(CACHE_STATUS, phase.cache_status());
    Reply { status: stored.status, headers, body: ReplyBody::Full(stored.body.clone()) }
}

#[allow(clippy::too_many_arguments, reason = "the request's parts, passed on once")]
async fn fetch(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    call: Box<Call>,
    passed: Passed,
    caching: &Caching,
    lead: Lead,
    phase: fn(Duration) -> Phase,
) -> Result<Reply, Reject> {
    let asked_at = Instant::now();
    // The integration consumes the request, and its headers determine what may be stored.
    let request = call.parts.headers.clone();
    let mut reply = match forward::integrate(exchange, matched, policy, call, passed).await {
        Ok(reply) => reply,
        Err(reject) => {
            note(exchange, matched, Phase::NotStored(NotStored::Failed));
            return Err(reject);
        }
    };
    let stored = store(exchange, caching, &request, &mut reply, lead, asked_at);
    let phase = stored.map_or_else(Phase::NotStored, phase);
    note(exchange, matched, phase);
    reply.headers.insert(CACHE_STATUS, phase.cache_status());
    Ok(reply)
}

/// Stores a response or starts to, or lets the waiting requests continue. Returns how long the response is fresh.
fn store(
    exchange: &Exchange,
    caching: &Caching,
    request: &HeaderMap,
    reply: &mut Reply,
    lead: Lead,
    asked_at: Instant,
) -> Result<Duration, NotStored> {
    let behavior = exchange.stage.as_ref().map_or(Behavior::Native, |stage| stage.behavior);
    let method = &exchange.method;
    let received = cache::ReceivedResponse { method, request, status: reply.status, headers: &reply.headers };
    let length = reply.length();
    let ttl = match length {
        Some(length) if length > cache::MAX_BODY_BYTES as u64 => Err(NotStored::Size),
        _ => caching.policy.storable(received),
    };
    let ttl = match ttl {
        Ok(ttl) => ttl,
        Err(reason) => {
            lead.pass(asked_at);
            return Err(reason);
        }
    };
    let mut headers = reply.headers.clone();
    // Placeholders for the headers of each stored response, so that the map does not grow.
    for name in [http::header::AGE, CACHE_STATUS, response::request_id(behavior)] {
        headers.insert(name, HeaderValue::from_static(""));
    }
    let head = cache::Head { status: reply.status, headers, stored_at: asked_at, ttl };
    match &mut reply.body {
        ReplyBody::Full(body) => lead.keep(head, body.as_ref().into()),
        ReplyBody::Stream { keep, .. } => {
            let begun = Fill::begin(lead, head, length, Instant::now()).ok_or(NotStored::Memory)?;
            *keep = Some(Box::new(begun));
        }
        ReplyBody::Upgraded(_) => {}
    }
    Ok(ttl)
}

fn key(exchange: &Exchange, matched: &Matched<'_>, policy: &Policy, caching: &Caching, call: &Call) -> cache::Key {
    let headers = &call.parts.headers;
    let identity = exchange.identity.as_deref();
    let named = identity.is_some_and(|identity| identity.id.is_some());
    let authorizer = policy.authorizer.as_ref().filter(|_| named);
    let caller = CallerKey {
        identity: identity.map(|identity| &*identity.cache_identity),
        credential: authorizer.and_then(|(authorizer, _)| authorizer.credential_header(headers)),
        api_key: exchange.key.as_ref().map(|key| &key.object),
        headers,
    };
    let variables = RequestContext::unchanged(exchange, matched, &call.parts);
    caching.policy.key(&exchange.method, matched.path, caller, &variables)
}
