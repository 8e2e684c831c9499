//! What the explanation of a request states. Nothing is computed for requests of clients: their connections record none.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sluice_wire::{CallerField, CertificateField};

use super::exchange::Exchange;
use crate::auth::{Authorizer, Decision, Identity, KINDS, Outcome};
use crate::explain::{
    Check, ExplainedAuthorizer, ExplainedCache, ExplainedCaller, ExplainedExpression, ExplainedKey, ExplainedLimit,
    ExplainedPolicy, ExplainedRequest, ExplainedResponse, ExplainedRule, ExplainedStage, ExplainedStatement,
    ExplainedUpstream, Matches,
};
use crate::gateway::{Action, Caching, KeySource, Matched, Policy, Rule};
use crate::key::{KeyRecord, PlanAtStage};
use crate::limit::Limit;
use crate::permission::{Denied, Owner, Statement};

/// The request, whose head was read.
pub(super) fn request(exchange: &Exchange, parts: &Parts) {
    if let Some(trace) = &exchange.peer.trace {
        trace.keep_headers(&parts.headers);
        trace.note(|found| {
            found.begin(Check::Request);
            found.request = Some(ExplainedRequest {
                method: exchange.method.to_string(),
                scheme: if exchange.secure { "https" } else { "http" },
                host: exchange.host.clone(),
                path: exchange.path.to_string(),
                source: exchange.address(),
            });
        });
    }
}

/// The Stage of the request, if it has one.
pub(super) fn stage(exchange: &Exchange) {
    exchange.explain(|found| {
        found.stage = exchange.stage.as_ref().map(|stage| ExplainedStage {
            name: stage.object.id(),
            base_path: if stage.base.is_empty() { "/".to_owned() } else { stage.base.to_string() },
            behavior: stage.behavior,
            invalid: None,
        });
    });
}

/// The certificate of the client, which the Stage accepts.
pub(super) fn certificate(exchange: &Exchange) {
    exchange.explain(|found| {
        let subject = exchange.certificate().and_then(|found| found.details().field(CertificateField::Subject));
        found.client_certificate = subject.map(str::to_owned);
    });
}

/// The rule that matched, with the method and the path that were matched.
pub(super) fn rule(exchange: &Exchange, rule: &Rule, matched: &Matched<'_>) {
    exchange.explain(|found| {
        if let Some(request) = &mut found.request {
            request.method = exchange.method.to_string();
            request.path = exchange.path.to_string();
        }
        let names = rule.parameters.iter();
        let parameters: BTreeMap<_, _> =
            names.filter_map(|name| Some((name.to_string(), matched.parameter(name)?.to_owned()))).collect();
        let limit = match &rule.action {
            Action::Serve(policy) => Some(policy.body_limit).filter(|limit| *limit < u64::MAX),
            Action::Invalid => None,
        };
        found.rule = Some(ExplainedRule {
            route: rule.part.id().to_owned(),
            name: rule.name.to_string(),
            matches: Matches::default(),
            parameters,
            authorizer: None,
            integration: None,
            body_limit: limit,
            invalid: None,
        });
    });
}

/// The authorizer that is called; without a decision it has none yet.
pub(super) fn authorizer(
    exchange: &Exchange,
    authorizer: &Authorizer,
    scopes: &[String],
    decided: Option<(&Decision, Outcome)>,
) {
    exchange.explain(|found| {
        let (decision, reason) = match decided {
            None => (None, None),
            Some((Decision::Allow(identity), _)) => {
                found.caller = Some(caller(identity));
                (Some("allowed"), None)
            }
            Some((Decision::Reject { reason, .. }, Outcome::Failed)) => (Some("failed"), Some(*reason)),
            Some((Decision::Reject { reason, .. }, _)) => (Some("rejected"), Some(*reason)),
        };
        found.authorizer = Some(ExplainedAuthorizer {
            name: authorizer.name().to_owned(),
            kind: KINDS.get(authorizer.kind()).copied().unwrap_or_default(),
            decision,
            reason,
            scopes: scopes.to_vec(),
        });
    });
}

/// The body does not have the hash that was signed: the authorizer rejects the request after all.
pub(super) fn other_body(exchange: &Exchange) {
    exchange.explain(|found| {
        if let Some(authorizer) = &mut found.authorizer {
            authorizer.decision = Some("rejected");
            authorizer.reason = Some(exchange.reason);
        }
    });
}

fn caller(identity: &Identity) -> ExplainedCaller {
    let attribute = |name, is_there: bool| identity.attribute(name).filter(|_| is_there).map(Cow::into_owned);
    ExplainedCaller {
        id: identity.id.clone(),
        principal: attribute(CallerField::Caller.name(), identity.kind == "Iam"),
        issuer: attribute("iss", !identity.has_context()),
        scopes: identity.scopes.clone(),
    }
}

/// What the policies of Stage and caller decided.
pub(super) fn policy(
    exchange: &Exchange,
    arn: impl FnOnce() -> Option<String>,
    decision: &Result<Statement<'_>, Denied<'_>>,
) {
    exchange.explain(|found| {
        // This check looks for a denial only: what else policies decide is the result of the check after the authorizer.
        let is_early = found.checks.last().is_some_and(|last| last.check == Check::StagePolicy);
        if is_early && !matches!(decision, Err(Denied::Explicit { .. })) {
            return;
        }
        let statement = |by: &Statement<'_>| {
            let policy = if let Owner::Principal(policy) = by.owner { Some(policy) } else { None };
            let (place, sid) = (by.to_string(), by.sid.map(str::to_owned));
            Some(ExplainedStatement { place, sid, policy, policy_name: None })
        };
        found.policy = match decision {
            Ok(by) => arn().map(|resource| ExplainedPolicy {
                effect: "allow",
                statement: statement(by),
                resource,
                form: None,
            }),
            Err(Denied::Explicit { arn, by, form }) => Some(ExplainedPolicy {
                effect: "deny",
                statement: statement(by),
                resource: arn.clone(),
                form: form.clone(),
            }),
            Err(Denied::Implicit(arn)) => {
                Some(ExplainedPolicy { effect: "none", statement: None, resource: arn.clone(), form: None })
            }
            Err(Denied::TooLong) => None,
        };
    });
}

/// Where the API key is read, and which one was found, as far as it is valid.
pub(super) fn key(exchange: &Exchange, source: &KeySource, record: Option<&KeyRecord>, plan: Option<&PlanAtStage>) {
    exchange.explain(|found| {
        let place = match source {
            KeySource::Header { name, scheme: None } => format!("header {name}"),
            KeySource::Header { name, scheme: Some(scheme) } => format!("header {name}, scheme {scheme}"),
            KeySource::Query(name) => format!("query parameter {name}"),
            KeySource::Cookie(name) => format!("cookie {name}"),
            KeySource::Authorizer => "usageIdentifierKey of the Lambda authorizer".to_owned(),
        };
        found.api_key = Some(ExplainedKey {
            place,
            name: record.map(|record| record.id.clone()),
            customer: record.and_then(|record| record.customer.clone()),
            plan: plan.map(|plan| plan.id().to_owned()),
        });
    });
}

/// An expression that was evaluated.
pub(super) fn expression(exchange: &Exchange, index: usize, result: Result<bool, &dyn Display>) {
    exchange.explain(|found| {
        let (result, error) = match result {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error.to_string())),
        };
        found.expressions.push(ExplainedExpression { index, expression: String::new(), result, error });
    });
}

/// Limits of which the request takes a token each.
pub(super) fn limits<'l>(exchange: &Exchange, limits: impl Iterator<Item = (&'static str, Option<&'l Limit>)>) {
    exchange.explain(|found| {
        found.begin(Check::Throttle);
        let limits = limits.filter_map(|(scope, limit)| Some(ExplainedLimit::new(scope, limit?.throttle)));
        found.limits.extend(limits);
    });
}

/// What the cache would do. True: the request is explained, and the cache must not be used.
pub(super) fn cache(exchange: &Exchange, caching: &Caching, action: &'static str) -> bool {
    let ttl_ms = |caching: &Caching| u64::try_from(caching.policy.ttl().as_millis()).unwrap_or(u64::MAX);
    exchange.explain(|found| found.cache = Some(ExplainedCache { action, ttl_ms: ttl_ms(caching) }));
    exchange.peer.trace.is_some()
}

/// The request that the integration would get. True: the request is explained, and must not be sent.
pub(super) fn stops(exchange: &Exchange, policy: &Policy, parts: &Parts) -> bool {
    let Some(trace) = &exchange.peer.trace else { return false };
    let before = trace.headers();
    let texts = |headers: &HeaderMap, name: &HeaderName| headers.get_all(name).iter().map(text).collect::<Vec<_>>();
    let changed = parts.headers.keys().filter(|name| texts(&parts.headers, name) != texts(&before, name));
    let pairs = |name: &HeaderName| {
        let values = texts(&parts.headers, name).into_iter();
        values.map(|value| (name.to_string(), value)).collect::<Vec<_>>()
    };
    let removed = before.keys().filter(|name| !parts.headers.contains_key(*name));
    let upstream = ExplainedUpstream {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        set_headers: changed.flat_map(pairs).collect(),
        removed_headers: removed.map(ToString::to_string).collect(),
        timeout_ms: u64::try_from(policy.timeout.as_millis()).unwrap_or(u64::MAX),
    };
    trace.note(|found| found.upstream = Some(upstream));
    true
}

/// The response; the explanation is complete.
pub(super) fn response(exchange: &Exchange, status: StatusCode, headers: &HeaderMap, body: Option<&[u8]>) {
    if let Some(trace) = &exchange.peer.trace {
        trace.note(|found| {
            found.respond(ExplainedResponse {
                status: Some(status.as_u16()),
                reason: Some(exchange.reason).filter(|reason| !reason.is_empty()).map(str::to_owned),
                denied_by: exchange.denied_by.as_deref().map(str::to_owned),
                headers: headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
                body: body.map(|body| String::from_utf8_lossy(body).into_owned()),
            });
        });
        trace.finish();
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}
