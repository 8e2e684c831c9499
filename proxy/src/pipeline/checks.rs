//! The checks before an integration is called, in their order: network, authorizer, scopes, policy, API key, expressions, limits, size of the body.
//! What a check decides is in its own module.

use std::time::Instant;

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use sluice_wire::Behavior;
use smallvec::SmallVec;

use super::call::Call;
use super::credentials::remove_unverified;
use super::exchange::Exchange;
use super::signature;
use super::variables::RequestContext;
use super::{api_key, authorize};
use crate::auth::{AuthRequest, Authorization, Decision, Means};
use crate::cache::INVALIDATE_SCOPE;
use crate::gateway::{Gateway, Matched, Policy, readings};
use crate::key::PlanAtStage;
use crate::limit::{Exhausted, Limit, RateLimitHeaders, take_all};
use crate::observe::metrics::Scope;
use crate::permission::{Denied, Facts, Policies, sentence};
use crate::reject::Reject;
use crate::source::SourceFilter;

/// AWS's limit for the URL of a regional REST API, and for header values.
const AWS_HEAD: usize = 10_240;
/// The longest path and query of a native stage.
const NATIVE_TARGET: usize = 8 * 1024;

/// Proof that every check was made. An integration cannot be called without it.
pub(crate) struct Passed(());

/// Makes every check.
pub(crate) async fn pass(
    exchange: &mut Exchange,
    gateway: &Gateway,
    matched: &Matched<'_>,
    policy: &Policy,
    call: &mut Call,
) -> Result<Passed, Reject> {
    let present = call.present;
    source(exchange, policy.source.as_deref())?;
    // Before credentials are verified: it also limits attempts to guess them.
    let client = policy.client_limit.as_ref().map(|limit| limit.of(exchange.address()));
    if let Some(client) = &client {
        client_limit(exchange, gateway, matched, client)?;
    }
    let by_key = match policy.alternative_key {
        true => api_key::alternative(exchange, gateway, matched, policy, &mut call.parts, present)?,
        false => None,
    };
    let mut expected_body = None;
    if by_key.is_none()
        && let Some((authorizer, scopes)) = &policy.authorizer
    {
        if authorizer.follows_policy() {
            explicit_deny(exchange, matched, &call.parts)?;
        }
        let (authorization, verified) = match authorizer.means() {
            Means::Request(by_request) => {
                let variables = RequestContext::unchanged(exchange, matched, &call.parts);
                let facts = || variables.facts();
                let request = AuthRequest {
                    method: &exchange.method,
                    headers: &call.parts.headers,
                    route: Some(&matched.rule.part),
                    behavior: matched.stage.behavior,
                    with_scopes: !scopes.is_empty(),
                    variables: &variables,
                    facts: &facts,
                };
                let authorization = by_request.authorize(&request).await;
                // Most authorizers have one place: the verified one.
                let verified = if authorizer.keeps_places() { None } else { authorizer.credential_place(&request) };
                (authorization, verified)
            }
            Means::Signature(iam) => {
                // Boxed: other requests do not carry its future.
                let signed = Box::pin(signature::authorize(iam, exchange, matched, policy, call)).await?;
                expected_body = signed.1;
                (signed.0, None)
            }
        };
        let Authorization { decision, outcome, took } = authorization;
        matched.stage.metrics.authorized(exchange.recorder.worker, authorizer.kind(), outcome, took);
        match decision {
            Decision::Allow(identity) => {
                let enough = identity.has_any_scope(scopes);
                exchange.identity = Some(identity);
                if !enough {
                    return Err(Reject::ScopeMissing);
                }
                remove_unverified(authorizer, verified, &mut call.parts, present)?;
            }
            Decision::Reject { reject, reason } => {
                exchange.reason = reason;
                return Err(reject);
            }
        }
    }
    // A response can take long: the copy of the request is needed no more.
    exchange.signed = None;
    let parts = &mut call.parts;
    permission(exchange, matched, parts)?;
    let plan = match policy.api_key {
        true if policy.alternative_key => by_key,
        true => api_key::check(exchange, gateway, matched, policy, parts, present)?,
        false => None,
    };
    if let Some(authorize) = &policy.authorize {
        authorize::check(authorize, exchange, matched, &call.parts)?;
    }
    limits(exchange, gateway, matched, policy, (client.as_ref(), plan))?;
    if let Some(expected) = expected_body {
        Box::pin(signature::check_body(exchange, matched, policy, call, &expected)).await?;
    }
    Ok(Passed(()))
}

/// Rejects a request from a network that is not accepted.
pub(crate) fn source(exchange: &Exchange, filter: Option<&SourceFilter>) -> Result<(), Reject> {
    match filter {
        Some(filter) if !filter.accepts(exchange.address()) => Err(Reject::SourceNotAllowed),
        _ => Ok(()),
    }
}

fn policies<'a>(exchange: &'a Exchange, matched: &Matched<'a>) -> Policies<'a> {
    let stage = matched.stage;
    let caller = exchange.identity.as_ref().and_then(|identity| identity.policies.as_deref());
    Policies { prefix: &stage.arn, resource: stage.policy.as_deref(), caller }
}

fn facts<'a>(exchange: &Exchange, policies: &Policies<'a>, headers: &'a HeaderMap) -> Facts<'a> {
    Facts { address: exchange.address(), secure: exchange.secure, headers, caller: policies.caller }
}

/// Whether the caller may replace a stored response: by its policies, or by the scopes of its token.
pub(super) fn may_invalidate_cache(exchange: &Exchange, matched: &Matched<'_>, headers: &HeaderMap) -> bool {
    let Some(identity) = &exchange.identity else { return false };
    if identity.policies.is_none() {
        return identity.scopes.iter().any(|scope| scope == INVALIDATE_SCOPE);
    }
    let policies = policies(exchange, matched);
    policies.may_invalidate_cache(&exchange.method, matched.matched, &facts(exchange, &policies, headers))
}

/// Rejects a request that the Stage's policy denies, before a function decides about it.
fn explicit_deny(exchange: &Exchange, matched: &Matched<'_>, parts: &Parts) -> Result<(), Reject> {
    let policies = Policies { prefix: &matched.stage.arn, resource: matched.stage.policy.as_deref(), caller: None };
    if !policies.can_deny() {
        return Ok(());
    }
    match check(exchange, matched, parts, &policies)? {
        Some(denied) if denied.1 => Err(denied.0),
        _ => Ok(()),
    }
}

/// Rejects a request that the policies of Stage and caller do not allow.
fn permission(exchange: &Exchange, matched: &Matched<'_>, parts: &Parts) -> Result<(), Reject> {
    let policies = policies(exchange, matched);
    check(exchange, matched, parts, &policies)?.map_or(Ok(()), |(reject, _)| Err(reject))
}

/// The rejection of a request that policies do not allow, and whether a statement denies it.
fn check(
    exchange: &Exchange,
    matched: &Matched<'_>,
    parts: &Parts,
    policies: &Policies<'_>,
) -> Result<Option<(Reject, bool)>, Reject> {
    if policies.is_empty() {
        return Ok(None);
    }
    let (caller, facts) = (policies.caller, facts(exchange, policies, &parts.headers));
    // What a backend could read in an encoded path.
    let read = match policies.can_deny() && matched.matched.contains('%') {
        true => readings(matched.matched).map_err(|bad| Reject::Malformed(bad.0))?,
        false => Vec::new(),
    };
    let sent = [matched.path, matched.forwarded()].into_iter().filter(|path| *path != matched.matched);
    let others: SmallVec<[&str; 4]> = sent.chain(read.iter().map(String::as_str)).collect();
    let (arn, explicit) = match policies.check(&exchange.method, matched.matched, &others, &facts) {
        Ok(()) => return Ok(None),
        Err(Denied::TooLong) => return Err(Reject::UriTooLong),
        Err(Denied::Explicit(arn)) => (arn, true),
        Err(Denied::Implicit(arn)) => (arn, false),
    };
    Ok(Some((Reject::PolicyDenied(sentence(caller, &arn, explicit).into()), explicit)))
}

/// Rejects a request of a client that has sent too many.
#[inline(never)]
fn client_limit(
    exchange: &mut Exchange,
    gateway: &Gateway,
    matched: &Matched<'_>,
    limit: &Limit,
) -> Result<(), Reject> {
    let now = Instant::now();
    let taken = take_all(&[limit], gateway.fleet, now);
    if matched.stage.rate_limit_headers {
        let headers = RateLimitHeaders::new([("client", limit)].into_iter(), gateway.fleet, now);
        exchange.rate_limits = Some(Box::new(headers));
    }
    taken.map_err(|exhausted| throttled(exchange, matched, Scope::Client, exhausted))
}

/// The narrowest bucket first, as AWS evaluates them; the first that is empty rejects the request and the others keep their tokens.
fn limits(
    exchange: &mut Exchange,
    gateway: &Gateway,
    matched: &Matched<'_>,
    policy: &Policy,
    (client, plan): (Option<&Limit>, Option<&PlanAtStage>),
) -> Result<(), Reject> {
    let mut of_key = plan.into_iter().flat_map(|plan| plan.limits(&matched.rule.part, &matched.rule.name));
    // The rule's and the key's own buckets, then the one that all callers share.
    let (at_rule, of_plan) = (of_key.next(), of_key.next());
    debug_assert!(of_key.next().is_none(), "a key has two limits at most");
    let chain = [at_rule, of_plan, policy.limit.as_ref()];
    let keyed = usize::from(at_rule.is_some()) + usize::from(of_plan.is_some());
    if chain.iter().all(Option::is_none) {
        return Ok(());
    }
    let now = Instant::now();
    let taken = take_all(chain.iter().flatten(), gateway.fleet, now);
    if matched.stage.rate_limit_headers {
        let names = ["client", "key-rule", "key", "rule"];
        let limits = names.into_iter().zip([client, at_rule, of_plan, policy.limit.as_ref()]);
        let limits = limits.filter_map(|(name, limit)| Some((name, limit?)));
        exchange.rate_limits = Some(Box::new(RateLimitHeaders::new(limits, gateway.fleet, now)));
    }
    taken.map_err(|exhausted| {
        let scope = if exhausted.index < keyed { Scope::Key } else { Scope::Rule };
        throttled(exchange, matched, scope, exhausted)
    })
}

fn throttled(exchange: &Exchange, matched: &Matched<'_>, scope: Scope, exhausted: Exhausted) -> Reject {
    matched.stage.metrics.throttled(exchange.recorder.worker, scope);
    let rest = u64::from(exhausted.retry_after.subsec_nanos() > 0);
    Reject::Throttled((exhausted.retry_after.as_secs() + rest).max(1))
}

/// Rejects a head that is larger than the stage's behavior allows; admission has rejected what no stage allows.
pub(crate) fn head_size(behavior: Behavior, parts: &Parts) -> Result<(), Reject> {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let values = || parts.headers.values().map(HeaderValue::len).sum::<usize>();
    match behavior {
        Behavior::Native if target > NATIVE_TARGET => Err(Reject::UriTooLong),
        Behavior::AwsRest if target > AWS_HEAD => Err(Reject::UriTooLong),
        Behavior::AwsRest if values() > AWS_HEAD => Err(Reject::HeadersTooLarge),
        // The request line counts: method, target, version, two blanks.
        Behavior::AwsHttp if parts.method.as_str().len() + target + 10 + values() > AWS_HEAD => {
            Err(Reject::HeadersTooLarge)
        }
        _ => Ok(()),
    }
}

/// Rejects a request whose Content-Length is over the limit.
pub(crate) fn body_size(policy: &Policy, headers: &HeaderMap) -> Result<(), Reject> {
    let length =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > policy.body_limit) { Err(Reject::BodyTooLarge) } else { Ok(()) }
}
