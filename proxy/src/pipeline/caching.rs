//! The cache around the integration: a kept answer, another request's answer, or the integration's own.
//! What may be kept is `cache`'s decision; how the integration is called is `forward`'s.

use std::borrow::Cow;
use std::time::Instant;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};
use sluice_wire::CacheKey;

use super::answer::{Reply, ReplyBody};
use super::checks::Passed;
use super::forward::{self, Call};
use crate::cache::{
    self, CallerKey, IGNORED_WARNING, Invalidate, Lead, Look, NotStored, Phase, RuleId, Stored, invalidation,
};
use crate::exchange::body::Keep;
use crate::exchange::{Exchange, Reject};
use crate::gateway::{Caching, Matched, Policy, path};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Answers from the cache where the rule has one, from the integration otherwise.
pub(crate) async fn answer(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    call: Call<'_>,
    passed: Passed,
) -> Result<Reply, Reject> {
    let Some(caching) = &policy.cache else { return forward::integrate(exchange, matched, policy, call, passed).await };
    if call.upgrade.is_some() || caching.policy.bypass(&call.parts.method, &call.parts.headers) {
        note(exchange, matched, Phase::Bypass);
        return forward::integrate(exchange, matched, policy, call, passed).await;
    }
    let asked = invalidation(&caching.policy, &call.parts.headers, exchange.caller.as_deref());
    if asked == Invalidate::Refuse {
        return Err(Reject::CacheRefresh);
    }
    let now = Instant::now();
    let key = key(exchange, matched, caching, &call);
    let mut reply = if asked == Invalidate::Refresh {
        fetch(exchange, matched, policy, call, passed, caching, caching.store.refresh(key), Phase::Refreshed).await?
    } else {
        match caching.store.look(key, now) {
            Look::Hit(stored) => kept(exchange, matched, &stored, Phase::Hit),
            Look::Lead(lead) => fetch(exchange, matched, policy, call, passed, caching, lead, Phase::Miss).await?,
            Look::Wait(wait) => match wait.answer(policy.timeout).await {
                Some(stored) => kept(exchange, matched, &stored, Phase::Collapsed),
                None => {
                    let lead = caching.store.refresh(key);
                    fetch(exchange, matched, policy, call, passed, caching, lead, Phase::Miss).await?
                }
            },
        }
    };
    if asked == Invalidate::Warn {
        reply.headers.append(http::header::WARNING, IGNORED_WARNING);
    }
    Ok(reply)
}

fn note(exchange: &mut Exchange, matched: &Matched<'_>, phase: Phase) {
    exchange.cache = phase.text();
    matched.stage.metrics.cache(exchange.worker.index, phase);
}

fn kept(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    stored: &Stored,
    phase: fn(std::time::Duration) -> Phase,
) -> Reply {
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
    call: Call<'_>,
    passed: Passed,
    caching: &Caching,
    lead: Lead,
    phase: fn(std::time::Duration) -> Phase,
) -> Result<Reply, Reject> {
    let asked_at = Instant::now();
    // The integration takes the request; what may be kept depends on its headers.
    let request = call.parts.headers.clone();
    let mut reply = match forward::integrate(exchange, matched, policy, call, passed).await {
        Ok(reply) => reply,
        Err(reject) => {
            note(exchange, matched, Phase::NotStored(NotStored::Failed));
            return Err(reject);
        }
    };
    let method = &exchange.method;
    let answer = cache::Answer { method, request: &request, status: reply.status, headers: &reply.headers };
    let ttl = match reply.length() {
        Some(length) if length > cache::MAX_BODY_BYTES as u64 => Err(NotStored::Size),
        _ => caching.policy.storable(answer),
    };
    let phase = match ttl {
        Ok(ttl) => {
            let head = cache::Head { status: reply.status, headers: reply.headers.clone(), stored_at: asked_at, ttl };
            match &mut reply.body {
                ReplyBody::Full(body) => lead.keep(head.with_body(body.clone())),
                ReplyBody::Stream { keep, .. } => *keep = Some(Box::new(Keep::new(lead, head))),
                ReplyBody::Switched(_) => {}
            }
            phase(ttl)
        }
        Err(reason) => {
            lead.pass(asked_at);
            Phase::NotStored(reason)
        }
    };
    note(exchange, matched, phase);
    reply.headers.insert(CACHE_STATUS, phase.cache_status());
    Ok(reply)
}

fn key(exchange: &Exchange, matched: &Matched<'_>, caching: &Caching, call: &Call<'_>) -> cache::Key {
    let rule = RuleId { stage: &matched.stage.part, route: &matched.rule.part, rule: &matched.rule.name };
    let headers = &call.parts.headers;
    let caller = CallerKey {
        caller: exchange.caller.as_deref(),
        api_key: exchange.key.as_ref().map(|key| &key.object),
        authorization: headers.get(AUTHORIZATION),
    };
    let query = call.parts.uri.query().unwrap_or_default();
    let value = |key: &CacheKey| -> Option<String> {
        match key {
            CacheKey::Path(name) => matched.parameter(name).map(str::to_owned),
            CacheKey::Query(name) => {
                joined(path::query_pairs(query).filter(|(n, _)| n == name).map(|(_, value)| value))
            }
            CacheKey::Header(name) => header(headers, name),
            CacheKey::Claim(name) => exchange.caller.as_ref()?.claim(name).map(Cow::into_owned),
        }
    };
    caching.policy.key(rule, &exchange.method, matched.path, caller, value)
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    joined(headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())))
}

/// Several values as one text that no other list of values has.
fn joined<'a>(values: impl Iterator<Item = Cow<'a, str>>) -> Option<String> {
    let mut out: Option<String> = None;
    for value in values {
        let text = out.get_or_insert_default();
        text.push_str(&value.len().to_string());
        text.push(':');
        text.push_str(&value);
    }
    out
}
