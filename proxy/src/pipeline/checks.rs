//! The checks before an integration is called, in their order: network, authorizer, scopes, policy, API key, expressions, limits, size of the body.
//! What a check decides is in its own module.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

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
use super::{api_key, authorize, explain};
use crate::auth::{AuthRequest, Authorization, Decision, Means, Outcome, SignatureError};
use crate::cache::INVALIDATE_SCOPE;
use crate::explain::{Check, ExplainedLimit};
use crate::gateway::{Gateway, Matched, Policy, readings};
use crate::key::PlanAtStage;
use crate::key_use::LastUse;
use crate::limit::{Exhausted, Limit, RateLimitHeaders, give_back, take_all};
use crate::observe::metrics::Scope;
use crate::permission::{Denied, Facts, Policies, method_arn, sentence};
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
    source(exchange, policy.source.as_deref(), Check::RuleSource)?;
    // Before credentials are verified: it also limits attempts to guess them.
    let client = policy.client_limit.as_ref().map(|limit| limit.of(exchange.address()));
    if let Some(client) = &client {
        client_limit(exchange, gateway, matched, client)?;
    }
    let by_key = match policy.alternative_key {
        true => api_key::alternative(exchange, gateway, matched, policy, &mut call.parts, present)?,
        false => None,
    };
    // A body whose hash was signed, and what is decided when it is compared.
    let mut undecided = None;
    if by_key.is_none()
        && let Some((authorizer, scopes)) = &policy.authorizer
    {
        if authorizer.follows_policy() {
            explicit_deny(exchange, matched, &call.parts)?;
        }
        exchange.begin(Check::Authorizer);
        explain::authorizer(exchange, authorizer, scopes, None);
        let (authorization, verified, signed) = match authorizer.means() {
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
                (authorization, verified, None)
            }
            Means::Signature(iam) => {
                // Boxed: other requests do not carry its future.
                let (authorization, signed) =
                    Box::pin(signature::authorize(iam, exchange, matched, policy, call)).await?;
                (authorization, None, signed)
            }
        };
        let Authorization { decision, outcome, took } = authorization;
        let decided =
            Decided { kind: authorizer.kind(), took, last_use: signed.as_ref().and_then(|of| of.last_use.clone()) };
        explain::authorizer(exchange, authorizer, scopes, Some((&decision, outcome)));
        match decision {
            Decision::Allow(identity) => {
                if !scopes.is_empty() {
                    exchange.begin(Check::Scopes);
                }
                let enough = identity.has_any_scope(scopes);
                exchange.identity = Some(identity);
                let prepared = match enough {
                    true => remove_unverified(authorizer, verified, &mut call.parts, present),
                    false => Err(Reject::ScopeMissing),
                };
                match signed.and_then(|signed| signed.body) {
                    // Boxed: other requests do not carry it.
                    Some(body) if prepared.is_ok() => undecided = Some(Box::new((body, decided))),
                    _ => decided.count(exchange, matched, outcome),
                }
                prepared?;
            }
            Decision::Reject { reject, reason } => {
                decided.count(exchange, matched, outcome);
                exchange.reason = reason;
                return Err(reject);
            }
        }
    }
    // A response can take long: the copy of the request is needed no more.
    exchange.signed = None;
    let checked = authorized(exchange, gateway, matched, policy, call, (client.as_ref(), by_key));
    let Some((body, decided)) = undecided.map(|undecided| *undecided) else { return checked.map(|_| Passed(())) };
    let plan = match checked {
        Ok(plan) => plan,
        Err(reject) => {
            // Nothing is read for a request that is rejected.
            decided.count(exchange, matched, Outcome::Allowed);
            return Err(reject);
        }
    };
    exchange.begin(Check::BodyHash);
    let taken = Taken(chain(matched, policy, plan));
    let same = Box::pin(signature::has_hash(exchange, matched, policy, call, &body)).await;
    if let Ok(true) = same {
        taken.keep();
        decided.count(exchange, matched, Outcome::Allowed);
        return Ok(Passed(()));
    }
    decided.count(exchange, matched, Outcome::Rejected);
    same?;
    exchange.reason = SignatureError::OtherBody.reason();
    explain::other_body(exchange);
    Err(SignatureError::OtherBody.reject())
}

/// Tokens of a request whose body is not known yet. They are given back unless the body is the one that was signed: a client that
/// replays a signed head with other bodies, or with none, must not exhaust the limits of the caller.
struct Taken<'l>([Option<&'l Limit>; 3]);

impl Taken<'_> {
    fn keep(mut self) {
        self.0 = [None; 3];
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        give_back(self.0.into_iter().flatten());
    }
}

/// A decision of an authorizer, to be counted.
struct Decided {
    kind: usize,
    took: Option<Duration>,
    last_use: Option<Arc<LastUse>>,
}

impl Decided {
    fn count(self, exchange: &Exchange, matched: &Matched<'_>, outcome: Outcome) {
        matched.stage.metrics.authorized(exchange.recorder.worker, self.kind, outcome, self.took);
        if let (Outcome::Allowed, Some(last_use)) = (outcome, self.last_use) {
            last_use.note(SystemTime::now());
        }
    }
}

/// The checks of a request whose caller is known. The result is the plan of its API key.
fn authorized<'a>(
    exchange: &mut Exchange,
    gateway: &'a Gateway,
    matched: &Matched<'_>,
    policy: &Policy,
    call: &mut Call,
    (client, by_key): (Option<&Limit>, Option<&'a PlanAtStage>),
) -> Result<Option<&'a PlanAtStage>, Reject> {
    let (parts, present) = (&mut call.parts, call.present);
    permission(exchange, matched, parts)?;
    let plan = match policy.api_key {
        true if policy.alternative_key => by_key,
        true => api_key::check(exchange, gateway, matched, policy, parts, present)?,
        false => None,
    };
    if let Some(authorize) = &policy.authorize {
        authorize::check(authorize, exchange, matched, &call.parts)?;
    }
    limits(exchange, gateway, matched, policy, (client, plan))?;
    Ok(plan)
}

/// Rejects a request from a network that is not accepted.
pub(crate) fn source(exchange: &Exchange, filter: Option<&SourceFilter>, check: Check) -> Result<(), Reject> {
    let Some(filter) = filter else { return Ok(()) };
    exchange.begin(check);
    if filter.accepts(exchange.address()) { Ok(()) } else { Err(Reject::SourceNotAllowed) }
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
fn explicit_deny(exchange: &mut Exchange, matched: &Matched<'_>, parts: &Parts) -> Result<(), Reject> {
    let policies = Policies { prefix: &matched.stage.arn, resource: matched.stage.policy.as_deref(), caller: None };
    if !policies.can_deny() {
        return Ok(());
    }
    exchange.begin(Check::StagePolicy);
    match check(exchange, matched, parts, &policies)? {
        Some(NotAllowed { reject, by: Some(by) }) => {
            exchange.denied_by = Some(by);
            Err(reject)
        }
        _ => Ok(()),
    }
}

/// A request that policies do not allow.
struct NotAllowed {
    reject: Reject,
    /// The statement that denies it; none: no statement allows it.
    by: Option<Box<str>>,
}

/// Rejects a request that the policies of Stage and caller do not allow.
fn permission(exchange: &mut Exchange, matched: &Matched<'_>, parts: &Parts) -> Result<(), Reject> {
    let policies = policies(exchange, matched);
    if policies.is_empty() {
        return Ok(());
    }
    exchange.begin(Check::Policy);
    let Some(NotAllowed { reject, by }) = check(exchange, matched, parts, &policies)? else { return Ok(()) };
    exchange.denied_by = by;
    Err(reject)
}

/// The rejection of a request that policies do not allow.
fn check(
    exchange: &Exchange,
    matched: &Matched<'_>,
    parts: &Parts,
    policies: &Policies<'_>,
) -> Result<Option<NotAllowed>, Reject> {
    let (caller, facts) = (policies.caller, facts(exchange, policies, &parts.headers));
    // What a backend could read in an encoded path.
    let read = match policies.can_deny() && matched.matched.contains('%') {
        true => readings(matched.matched).map_err(|bad| Reject::Malformed(bad.0))?,
        false => Vec::new(),
    };
    let sent = [matched.path, matched.forwarded()].into_iter().filter(|path| *path != matched.matched);
    let others: SmallVec<[&str; 4]> = sent.chain(read.iter().map(String::as_str)).collect();
    let decision = policies.check(&exchange.method, matched.matched, &others, &facts);
    let arn = || method_arn(policies.prefix, exchange.method.as_str(), matched.matched);
    explain::policy(exchange, arn, &decision);
    let (arn, by) = match decision {
        Ok(_) => return Ok(None),
        Err(Denied::TooLong) => return Err(Reject::UriTooLong),
        Err(Denied::Explicit { arn, by, .. }) => (arn, Some(by.to_string().into())),
        Err(Denied::Implicit(arn)) => (arn, None),
    };
    let reject = Reject::PolicyDenied(sentence(caller, &arn, by.is_some()).into());
    Ok(Some(NotAllowed { reject, by }))
}

/// Rejects a request of a client that has sent too many.
#[inline(never)]
fn client_limit(
    exchange: &mut Exchange,
    gateway: &Gateway,
    matched: &Matched<'_>,
    limit: &Limit,
) -> Result<(), Reject> {
    exchange.explain(|found| {
        found.begin(Check::ClientThrottle);
        found.limits.push(ExplainedLimit::new("client", limit.throttle));
    });
    let now = Instant::now();
    let taken = take_all(&[limit], gateway.fleet, now);
    if matched.stage.rate_limit_headers {
        let headers = RateLimitHeaders::new([("client", limit)].into_iter(), gateway.fleet, now);
        exchange.rate_limits = Some(Box::new(headers));
    }
    taken.map_err(|exhausted| throttled(exchange, matched, Scope::Client, exhausted))
}

/// The buckets of a request: the rule's and the key's own, then the one that all callers share.
fn chain<'l>(matched: &Matched<'_>, policy: &'l Policy, plan: Option<&'l PlanAtStage>) -> [Option<&'l Limit>; 3] {
    let of_key = plan.map(|plan| plan.limits(&matched.rule.part, &matched.rule.name));
    let [at_rule, of_plan] = of_key.unwrap_or_default();
    [at_rule, of_plan, policy.limit.as_ref()]
}

/// The narrowest bucket first, as AWS evaluates them; the first that is empty rejects the request and the others keep their tokens.
fn limits(
    exchange: &mut Exchange,
    gateway: &Gateway,
    matched: &Matched<'_>,
    policy: &Policy,
    (client, plan): (Option<&Limit>, Option<&PlanAtStage>),
) -> Result<(), Reject> {
    let chain = chain(matched, policy, plan);
    let [at_rule, of_plan, _] = chain;
    let keyed = usize::from(at_rule.is_some()) + usize::from(of_plan.is_some());
    if chain.iter().all(Option::is_none) {
        return Ok(());
    }
    explain::limits(exchange, ["key-rule", "key", "rule"].into_iter().zip(chain));
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
pub(crate) fn body_size(exchange: &Exchange, policy: &Policy, headers: &HeaderMap) -> Result<(), Reject> {
    let length =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()).and_then(|text| text.parse::<u64>().ok());
    if length.is_some_and(|length| length > policy.body_limit) {
        exchange.begin(Check::BodySize);
        return Err(Reject::BodyTooLarge);
    }
    Ok(())
}
