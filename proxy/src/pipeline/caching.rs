//! The cache in front of the integration: a stored response, the response to a coalesced request, or the integration's own.
//! `cache` decides what may be stored; `forward` calls the integration.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::header::{CONTENT_LOCATION, IF_MODIFIED_SINCE, IF_NONE_MATCH, LOCATION};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sluice_wire::Behavior;

use super::call::Call;
use super::checks::{Passed, may_invalidate_cache};
use super::exchange::Exchange;
use super::explain;
use super::forward;
use super::response::{self, Reply, ReplyBody};
use super::response_body;
use super::variables::RequestContext;
use crate::cache::{
    self, CallerKey, Fill, IGNORED_WARNING, Invalidate, Lead, Look, NotStored, Phase, Storable, Stored, Waited,
    invalidation,
};
use crate::explain::Check;
use crate::gateway::{Caching, Matched, Policy, Reduced, StagePath, path};
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
    let has_body = !call.body.is_empty();
    // Look-ups in no headers cost nothing.
    let none = HeaderMap::new();
    let control = if call.present.caching { &call.parts.headers } else { &none };
    if call.upgrade.is_some() || caching.policy.bypass(&call.parts.method, control, has_body) {
        note(exchange, matched, Phase::Bypass);
        explain::cache(exchange, caching, exchange.cache);
        return forward::integrate(exchange, matched, policy, call, passed).await;
    }
    if let Some(reason) = caching.policy.stores_nothing() {
        let phase = Phase::NotStored(reason);
        note(exchange, matched, phase);
        explain::cache(exchange, caching, exchange.cache);
        let mut reply = forward::integrate(exchange, matched, policy, call, passed).await?;
        reply.headers.insert(CACHE_STATUS, phase.cache_status());
        return Ok(reply);
    }
    let invalidate =
        invalidation(&caching.policy, control, || may_invalidate_cache(exchange, matched, &call.parts.headers));
    if invalidate == Invalidate::Reject {
        exchange.begin(Check::Cache);
        return Err(Reject::CacheRefresh);
    }
    if explain::cache(exchange, caching, if invalidate == Invalidate::Refresh { "refresh" } else { "lookup" }) {
        // As `fetch` does it where nothing is stored.
        let mut call = call;
        cache::remove_conditions(&mut call.parts.headers);
        let reply = forward::integrate(exchange, matched, policy, call, passed).await?;
        return Ok(with_warning(reply, invalidate));
    }
    let primary = key(exchange, matched, policy, caching, &call);
    let found = match invalidate {
        Invalidate::Refresh => {
            CacheResult::Lead(caching.store.refresh(caching.store.key_of(primary, &call.parts.headers)))
        }
        // A client that sends a body determines how long its call takes: no other request waits for it.
        _ if has_body => {
            let key = caching.store.key_of(primary, &call.parts.headers);
            match caching.store.fresh(&key, Instant::now()) {
                Some(stored) => CacheResult::Stored(stored, Phase::Hit),
                None => CacheResult::Lead(caching.store.refresh(key)),
            }
        }
        _ => find(caching, primary, &call.parts.headers, policy.timeout).await,
    };
    let reply = match found {
        CacheResult::Stored(stored, phase) => from_cache(exchange, matched, control, &stored, phase),
        CacheResult::Lead(lead) => {
            let phase = if invalidate == Invalidate::Refresh { Phase::Refreshed } else { Phase::Miss };
            // In a box, as in `forward::send`.
            Box::pin(fetch(exchange, matched, policy, call, passed, caching, Miss { primary, lead, phase })).await?
        }
        CacheResult::Nothing => {
            note(exchange, matched, Phase::NotStored(NotStored::Failed));
            return Err(Reject::Timeout);
        }
    };
    Ok(with_warning(reply, invalidate))
}

/// A refresh that the client may not cause is ignored, and the response says so.
fn with_warning(mut reply: Reply, invalidate: Invalidate) -> Reply {
    if invalidate == Invalidate::Warn {
        reply.headers.append(http::header::WARNING, IGNORED_WARNING);
    }
    reply
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
async fn find(caching: &Caching, primary: cache::Key, request: &HeaderMap, timeout: Duration) -> CacheResult {
    let mut now = Instant::now();
    let deadline = now + timeout;
    let mut phase: fn(Duration) -> Phase = Phase::Hit;
    loop {
        let key = caching.store.key_of(primary, request);
        let wait = match caching.store.look(key, now) {
            Look::Hit(stored) => return CacheResult::Stored(stored, phase),
            Look::Lead(lead) => return CacheResult::Lead(lead),
            Look::Wait(wait) => wait,
        };
        phase = Phase::Collapsed;
        match wait.response(deadline).await {
            Waited::Response(stored) if caching.store.fits(&stored, primary, request) => {
                return CacheResult::Stored(stored, phase);
            }
            // The response is for clients that accept other languages or codings.
            Waited::Response(_) | Waited::Again => {}
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

fn from_cache(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    request: &HeaderMap,
    stored: &Stored,
    phase: fn(Duration) -> Phase,
) -> Reply {
    let now = Instant::now();
    let phase = phase(stored.remaining(now).unwrap_or_default());
    note(exchange, matched, phase);
    let mut headers = stored.headers.clone();
    headers.insert(http::header::AGE, stored.age(now).as_secs().into());
    headers.insert(CACHE_STATUS, phase.cache_status());
    let received = || SystemTime::now().checked_sub(stored.resident(now)).unwrap_or(SystemTime::UNIX_EPOCH);
    if conditional(request) && cache::not_modified(&exchange.method, request, stored.status, &headers, received()) {
        return not_modified(headers);
    }
    Reply { status: stored.status, headers, body: ReplyBody::Full(stored.body.clone()) }
}

fn conditional(request: &HeaderMap) -> bool {
    request.contains_key(IF_NONE_MATCH) || request.contains_key(IF_MODIFIED_SINCE)
}

fn not_modified(mut headers: HeaderMap) -> Reply {
    cache::headers_of_not_modified(&mut headers);
    Reply::fixed(StatusCode::NOT_MODIFIED, headers)
}

/// A request whose response is not there.
struct Miss {
    primary: cache::Key,
    lead: Lead,
    phase: fn(Duration) -> Phase,
}

async fn fetch(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    mut call: Box<Call>,
    passed: Passed,
    caching: &Caching,
    miss: Miss,
) -> Result<Reply, Reject> {
    let Miss { primary, lead, phase } = miss;
    let requested = Instant::now();
    // The integration consumes the request, and its headers determine what may be stored.
    let request = call.parts.headers.clone();
    // A response with 304 cannot be stored. Where the one before could not be stored either, the backend may respond with it.
    let evaluates = !lead.is_hit_for_miss() && cache::remove_conditions(&mut call.parts.headers);
    let mut reply = match forward::integrate(exchange, matched, policy, call, passed).await {
        Ok(reply) => reply,
        Err(reject) => {
            note(exchange, matched, Phase::NotStored(NotStored::Failed));
            return Err(reject);
        }
    };
    let received = SystemTime::now();
    let times = Times { requested, delay: requested.elapsed(), received };
    let stored = store(exchange, caching, &request, &mut reply, primary, lead, times);
    let phase = stored.map_or_else(Phase::NotStored, phase);
    note(exchange, matched, phase);
    reply.headers.insert(CACHE_STATUS, phase.cache_status());
    if evaluates
        && stored.is_ok()
        && cache::not_modified(&exchange.method, &request, reply.status, &reply.headers, received)
    {
        if let ReplyBody::Stream { first, incoming, connection, keep } = reply.body {
            response_body::fill(first, incoming, connection, keep, &exchange.peer.timeouts);
        }
        return Ok(not_modified(reply.headers));
    }
    Ok(reply)
}

/// When a response was requested, and when it began.
struct Times {
    requested: Instant,
    delay: Duration,
    received: SystemTime,
}

/// Stores a response or starts to, or lets the waiting requests continue. Returns how long the response is fresh.
fn store(
    exchange: &Exchange,
    caching: &Caching,
    request: &HeaderMap,
    reply: &mut Reply,
    primary: cache::Key,
    lead: Lead,
    times: Times,
) -> Result<Duration, NotStored> {
    let behavior = exchange.stage.as_ref().map_or(Behavior::Native, |stage| stage.behavior);
    let Times { requested, delay, received } = times;
    let length = reply.length();
    let storable = match length {
        Some(length) if length > cache::MAX_BODY_BYTES as u64 => Err(NotStored::Size),
        _ => {
            let (method, status, headers) = (&exchange.method, reply.status, &reply.headers);
            let response = cache::ReceivedResponse { method, request, status, headers, delay, received };
            caching.policy.storable(response)
        }
    };
    let found = storable.and_then(|Storable { ttl, age, vary }| match vary.as_slice() {
        [] => Ok((ttl, age, None)),
        names => match caching.store.variant(primary, names, request) {
            Some(variant) => Ok((ttl, age, Some(variant))),
            None => Err(NotStored::Vary),
        },
    });
    let (ttl, age, variant) = match found {
        Ok(found) => found,
        Err(reason) => {
            lead.pass(requested);
            return Err(reason);
        }
    };
    let mut headers = reply.headers.clone();
    // Trailers are not stored.
    headers.remove(http::header::TRAILER);
    // Placeholders for the headers of each stored response, so that the map does not grow.
    for name in [http::header::AGE, CACHE_STATUS, response::request_id(behavior)] {
        headers.insert(name, HeaderValue::from_static(""));
    }
    let head = cache::Head { status: reply.status, headers, stored_at: requested, ttl, age, variant };
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

/// Invalidates the stored responses that a request may have changed (RFC 9111, 4.4): those for its path, and those for the
/// paths that the response names in `Location` and `Content-Location`. AWS does not. A method whose responses a rule stores
/// changes nothing.
pub(crate) fn invalidate(exchange: &Exchange, matched: &Matched<'_>, policy: &Policy, reply: &Reply) {
    let Some(store) = matched.stage.cache.as_ref().filter(|_| exchange.peer.trace.is_none()) else { return };
    let reads = policy.cache.as_ref().is_some_and(|caching| caching.policy.lists(&exchange.method));
    if reads || !(reply.status.is_success() || reply.status.is_redirection()) {
        return;
    }
    let now = Instant::now();
    store.invalidate(matched.path, now);
    for name in [LOCATION, CONTENT_LOCATION] {
        let value = reply.headers.get(name).and_then(|value| value.to_str().ok());
        let Some(named) = value.and_then(|text| resolve(&exchange.host, &exchange.path, text)) else { continue };
        let Ok(named) = path::canonical(&named).and_then(|path| matched.stage.request_policy.path(path)) else {
            continue;
        };
        let reduced = named.traits.is_reducible().then(|| Reduced::new(&named.text));
        if let Some(named) = StagePath::new(&named.text, reduced.as_ref(), &matched.stage.base) {
            store.invalidate(named.path, now);
        }
    }
}

/// The path that a reference names (RFC 3986, 4.2), if it is one of the same host.
fn resolve(host: &str, path: &str, reference: &str) -> Option<String> {
    let (reference, _) = reference.split_once('#').unwrap_or((reference, ""));
    let (reference, _) = reference.split_once('?').unwrap_or((reference, ""));
    let scheme = |text: &str| text.eq_ignore_ascii_case("http:") || text.eq_ignore_ascii_case("https:");
    let absolute = match reference.split_once("//") {
        Some((before, rest)) if before.is_empty() || scheme(before) => Some(rest),
        _ => None,
    };
    if let Some(rest) = absolute {
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let uri: Authority = authority.parse().ok()?;
        let name = uri.host().trim_matches(['[', ']']);
        let name = name.strip_suffix('.').unwrap_or(name);
        return name.eq_ignore_ascii_case(host).then(|| without_dots(path));
    }
    if reference.starts_with('/') {
        return Some(without_dots(reference));
    }
    if reference.is_empty() {
        return None;
    }
    let (folder, _) = path.rsplit_once('/')?;
    Some(without_dots(&format!("{folder}/{reference}")))
}

/// Removes dot segments (RFC 3986, 5.2.4).
fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." => {}
            ".." => drop(out.pop()),
            other => out.push(other),
        }
        if last && matches!(segment, "." | "..") {
            out.push("");
        }
    }
    format!("/{}", out.join("/"))
}

fn key(exchange: &Exchange, matched: &Matched<'_>, policy: &Policy, caching: &Caching, call: &Call) -> cache::Key {
    let headers = &call.parts.headers;
    let identity = exchange.identity.as_deref();
    let named = identity.is_some_and(|identity| identity.id.is_some());
    let authorizer = policy.authorizer.as_ref().filter(|_| named);
    let certificate = exchange.certificate().map(|certificate| certificate.details().fingerprint());
    let sent = matched.stage.client_auth.as_ref().is_some_and(|client_auth| client_auth.forward);
    let caller = CallerKey {
        identity: identity.map(|identity| &*identity.cache_identity),
        credential: authorizer.and_then(|(authorizer, _)| authorizer.credential_header(headers)),
        api_key: exchange.key.as_ref().map(|key| &key.object),
        certificate,
        headers,
    };
    let variables = RequestContext::unchanged(exchange, matched, &call.parts);
    let origin = &exchange.peer.origin;
    let target = cache::Target {
        method: &exchange.method,
        path: matched.path,
        authority: call.authority.as_ref(),
        tls: exchange.secure,
        port: &origin.port,
        certificate: certificate.filter(|_| sent),
    };
    caching.policy.key(&target, caller, &variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved_to_paths_of_the_same_host() {
        for (reference, expected) in [
            ("/orders/7", Some("/orders/7")),
            ("/orders/7?x=1#y", Some("/orders/7")),
            ("7", Some("/v1/orders/7")),
            ("./7", Some("/v1/orders/7")),
            ("../users/7", Some("/v1/users/7")),
            ("../../../x", Some("/x")),
            ("..", Some("/v1/")),
            ("https://shop.example/orders/7", Some("/orders/7")),
            ("HTTP://Shop.Example.:8080/orders/7", Some("/orders/7")),
            ("//shop.example/orders/7", Some("/orders/7")),
            ("https://shop.example", Some("/")),
            ("https://other.example/orders/7", None),
            ("//shop.example.evil/orders/7", None),
            ("https://user@shop.example/a", Some("/a")),
            ("", None),
            ("#part", None),
        ] {
            let path = resolve("shop.example", "/v1/orders/42", reference);
            assert_eq!(path.as_deref(), expected, "{reference}");
        }
    }
}
