//! Compiles one rule of a route at one stage: names, numbers and references. `gateway::router` matches requests to rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use sluice_authorize::{CompileError, Expression};
use sluice_wire as wire;
use sluice_wire::{
    Diagnostic, Hash, Message, PartKind, PartName, RoutePart, StagePart, Template, Variable, VersionScheme, reserved,
};

use super::diagnostics::diagnostic;
use crate::auth::Authorizer;
use crate::cache::{Cache, CachePolicy, RuleAtStage};
use crate::cors::Cors;
use crate::gateway::router::{Conditions, Methods, Position, Tie};
use crate::gateway::{
    AWS_BODY, Action, Authorize, Caching, Edits, ExternalHttp, Integration, Mock, Operation, PathSegment, Policy, Rule,
    body_limit,
};
use crate::limit::{BucketId, ClientLimit, Limit};
use crate::observe::access_log;
use crate::source::SourceFilter;
use crate::state::State;
use crate::template::HeaderTemplate;

/// The position of a rule.
pub(super) struct Site<'a> {
    pub(super) stage_name: &'a PartName,
    pub(super) stage: &'a StagePart,
    pub(super) route_name: &'a PartName,
    pub(super) route: &'a RoutePart,
}

/// One route's rules at one stage.
pub(super) struct Compiled {
    pub(super) rules: Vec<(Position, Methods, Arc<Rule>)>,
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Compiled {
    /// The positions of its rules.
    pub(super) fn places(&self) -> Vec<Position> {
        self.rules.iter().map(|(place, ..)| place.clone()).collect()
    }
}

/// Whether rules compiled at one are what they would be at the other.
pub(super) fn sees_no_difference(old: &StagePart, new: &StagePart) -> bool {
    old.object == new.object
        && old.throttle == new.throttle
        && old.client_throttle == new.client_throttle
        && old.cache == new.cache
        && old.behavior == new.behavior
        && old.trailing_slash == new.trailing_slash
}

/// Why a rule rejects its requests: a sentence for its author.
type Problem = String;

/// The name of an ApiRoute in metrics and in the access log of a stage: with its namespace where that is not the stage's.
pub(super) fn label<'a>(stage_namespace: &str, namespace: &str, name: &'a str) -> Cow<'a, str> {
    if namespace == stage_namespace { name.into() } else { format!("{namespace}/{name}").into() }
}

/// Compiles all rules of a route.
pub(super) fn compile(
    site: &Site<'_>,
    authorizers: &BTreeMap<PartName, Arc<Authorizer>>,
    state: &mut State,
) -> Compiled {
    let object = &site.route.object;
    let label = label(&site.stage.object.namespace, &object.namespace, &object.name);
    let metrics = state.metrics.stage(&site.stage.object.id()).route(&label);
    // Where stages serve different rules of an ApiRoute it has several parts: it is still the same route.
    let part = PartName::of_object(PartKind::Route, &object.namespace, &object.name);
    let version = site.route.version.clone().map(Arc::new);
    let api = (site.stage.behavior == wire::Behavior::AwsRest).then(|| Box::new(api(&part)));
    let mut diagnostics = Vec::new();
    let mut expressions = Expressions::default();
    let mut rules = Vec::with_capacity(site.route.rules.len());
    for (number, rule) in site.route.rules.iter().enumerate() {
        let action = match &rule.action {
            // The operator has already reported it.
            wire::RuleAction::Invalid { .. } => Action::Invalid,
            wire::RuleAction::Serve(policy) | wire::RuleAction::Authorize(policy) => {
                match self::policy(site, &part, rule, policy, authorizers, &mut expressions, state) {
                    Ok(policy) => Action::Serve(policy),
                    Err(problem) => {
                        let message = format!("The rule {} cannot be served: {problem}", rule.name);
                        diagnostics.push(diagnostic(&site.route.object, message));
                        Action::Invalid
                    }
                }
            }
        };
        let place = Position {
            version: version.clone(),
            template: rule.path.clone(),
            conditions: conditions(rule),
            tie: Tie { route: site.route_name.clone(), number },
        };
        let made = Rule {
            part: part.clone(),
            name: rule.name.as_str().into(),
            parameters: rule.path.parameters().map(Into::into).collect(),
            version_in_path: site.route.version.as_ref().is_some_and(|version| version.scheme == VersionScheme::Path),
            action,
            metrics: metrics.clone(),
            log: access_log::of_rule(&label, &rule.name),
            api: api.clone(),
            operation: operation(site.route, rule),
        };
        rules.push((place, methods(rule), Arc::new(made)));
    }
    Compiled { rules, diagnostics }
}

/// What events of authorizers contain of a rule.
fn operation(route: &RoutePart, rule: &wire::Rule) -> Option<Box<Operation>> {
    rule.action.policy()?.authorizer.as_ref()?;
    let path = match &route.version {
        Some(version) if version.scheme == VersionScheme::Path => format!("/{}{}", version.name, rule.path),
        _ => rule.path.to_string(),
    };
    Some(Box::new(Operation { path: path.into(), any_method: rule.methods.is_empty() }))
}

/// The id of a REST API in the form of AWS's: an ApiRoute always has the same.
fn api(route: &PartName) -> HeaderValue {
    let digits = Hash::of(route.id().as_bytes()).to_string();
    digits.get(..10).and_then(|id| id.parse().ok()).unwrap_or_else(|| HeaderValue::from_static("-"))
}

fn methods(rule: &wire::Rule) -> Methods {
    // A method that is none matches nothing, but it must not become "any".
    let methods: Vec<Method> = rule.methods.iter().map(|m| m.parse().unwrap_or(Method::CONNECT)).collect();
    methods.into()
}

fn conditions(rule: &wire::Rule) -> Option<Arc<Conditions>> {
    let some = !rule.headers.is_empty() || !rule.query.is_empty();
    some.then(|| Arc::new(Conditions { headers: rule.headers.clone(), query: rule.query.clone() }))
}

fn policy(
    site: &Site<'_>,
    part: &PartName,
    rule: &wire::Rule,
    policy: &wire::RulePolicy,
    authorizers: &BTreeMap<PartName, Arc<Authorizer>>,
    expressions: &mut Expressions,
    state: &mut State,
) -> Result<Policy, Problem> {
    let authorizer = match &policy.authorizer {
        None => None,
        Some(used) => {
            let found = authorizers.get(&used.part);
            let found =
                found.ok_or_else(|| format!("its Authorizer {} is not known to this proxy.", used.part.id()))?;
            if let Some(problem) = found.problem() {
                return Err(format!("its Authorizer {} cannot be used: {problem}", used.part.id()));
            }
            Some((found.clone(), used.scopes.clone()))
        }
    };
    let throttle = policy.throttle.or(site.stage.throttle);
    let client_throttle = policy.client_throttle.or(site.stage.client_throttle);
    let request = edits(&policy.request_headers, Message::Request)?;
    let response = edits(&policy.response_headers, Message::Response)?;
    let namespace = &site.route.object.namespace;
    let integration = integration(rule, namespace, &policy.integration, state)?;
    let body_limit = policy.body_limit.unwrap_or(u64::MAX).min(body_limit(site.stage.behavior));
    let reads_request = templates(policy).any(|template| template.variables().any(Variable::reads_request));
    Ok(Policy {
        source: policy.source.as_ref().map(|sources| Box::new(SourceFilter::compile(sources))),
        authorize: expressions.authorize(&policy.authorize)?,
        authorizer,
        api_key: policy.api_key,
        optional_key: policy.optional_key,
        alternative_key: policy.alternative_key,
        client_limit: client_throttle.map(|throttle| client_limit(site, part, rule, throttle, state)),
        limit: throttle.map(|throttle| limit(site, part, rule, throttle, state)),
        cors: policy.cors.as_ref().map(|cors| Box::new(Cors::compile(cors))),
        cache: caching(site, part, rule, policy, state),
        request,
        response,
        reads_request,
        timeout: Duration::from_millis(policy.timeout_ms),
        body_limit,
        buffer_limit: policy.buffer_limit.unwrap_or(AWS_BODY).min(body_limit),
        integration,
    })
}

/// The compiled expressions of a route, by their text: those of the ApiRoute are compiled once for all of its rules.
#[derive(Default)]
struct Expressions(HashMap<String, Arc<Expression>>);

impl Expressions {
    fn get(&mut self, text: &str) -> Result<Arc<Expression>, CompileError> {
        if let Some(known) = self.0.get(text) {
            return Ok(known.clone());
        }
        let compiled = Arc::new(Expression::compile(text)?);
        self.0.insert(text.to_owned(), compiled.clone());
        Ok(compiled)
    }

    fn authorize(&mut self, terms: &[wire::AuthorizeTerm]) -> Result<Option<Box<Authorize>>, Problem> {
        if terms.is_empty() {
            return Ok(None);
        }
        let mut compiled = Vec::with_capacity(terms.len());
        for (at, term) in terms.iter().enumerate() {
            let expression = self.get(&term.expression);
            let expression = expression.map_err(|why| format!("its expression {} is not valid: {why}.", at + 1))?;
            compiled.push((expression, term.message.as_deref().map(Into::into)));
        }
        Ok(Some(Box::new(Authorize { terms: compiled })))
    }
}

/// Every template of a rule.
fn templates(policy: &wire::RulePolicy) -> impl Iterator<Item = &Template> {
    let mock = match &policy.integration {
        wire::Integration::Mock(mock) => mock.headers.as_slice(),
        wire::Integration::Service(_) | wire::Integration::Http(_) => &[],
    };
    let edits = [&policy.request_headers, &policy.response_headers];
    edits.into_iter().flat_map(|edits| edits.set.iter().chain(&edits.add)).chain(mock).map(|(_, template)| template)
}

fn limit(site: &Site<'_>, part: &PartName, rule: &wire::Rule, throttle: wire::Throttle, state: &State) -> Limit {
    state.buckets.limit(bucket_id(site, part, rule), throttle)
}

fn client_limit(
    site: &Site<'_>,
    part: &PartName,
    rule: &wire::Rule,
    throttle: wire::ClientThrottle,
    state: &State,
) -> Box<ClientLimit> {
    Box::new(state.buckets.client_limit(&bucket_id(site, part, rule), throttle))
}

fn bucket_id(site: &Site<'_>, part: &PartName, rule: &wire::Rule) -> BucketId {
    BucketId::Rule { stage: site.stage_name.clone(), route: part.clone(), rule: rule.name.clone() }
}

fn caching(
    site: &Site<'_>,
    part: &PartName,
    rule: &wire::Rule,
    policy: &wire::RulePolicy,
    state: &mut State,
) -> Option<Box<Caching>> {
    let stage = site.stage.cache.as_ref()?;
    let cache = policy.cache.as_ref()?;
    let rule_at_stage = RuleAtStage {
        stage: site.stage_name,
        behavior: site.stage.behavior,
        route: part,
        version: site.route.version.as_ref(),
        rule,
    };
    let store = state.caches.entry(site.stage_name.clone()).or_insert_with(|| Cache::new(stage.max_bytes)).clone();
    store.resize(stage.max_bytes);
    Some(Box::new(Caching { store, policy: CachePolicy::compile(&rule_at_stage, cache, stage) }))
}

fn edits(edits: &wire::HeaderEdits, message: Message) -> Result<Option<Box<Edits>>, Problem> {
    if *edits == wire::HeaderEdits::default() {
        return Ok(None);
    }
    let name = |text: &str| header_name(text, message);
    let pair = |(text, template): &(String, Template)| Ok::<_, Problem>((name(text)?, value(text, template)?));
    Ok(Some(Box::new(Edits {
        remove: edits.remove.iter().map(|text| name(text)).collect::<Result<_, _>>()?,
        set: edits.set.iter().map(pair).collect::<Result<_, _>>()?,
        add: edits.add.iter().map(pair).collect::<Result<_, _>>()?,
    })))
}

fn header_name(text: &str, message: Message) -> Result<HeaderName, Problem> {
    let name = HeaderName::from_bytes(text.as_bytes()).map_err(|_| format!("{text:?} is not a header name."))?;
    match reserved(message, name.as_str()) {
        Some(why) => Err(format!("the header {name} {why}; it cannot be changed.")),
        None => Ok(name),
    }
}

fn value(name: &str, template: &Template) -> Result<HeaderTemplate, Problem> {
    HeaderTemplate::compile(template)
        .ok_or_else(|| format!("the value of the header {name} has characters that a header cannot have."))
}

fn integration(
    rule: &wire::Rule,
    namespace: &str,
    integration: &wire::Integration,
    state: &mut State,
) -> Result<Integration, Problem> {
    match integration {
        wire::Integration::Service(part) => Ok(Integration::Service(state.upstream(part))),
        wire::Integration::Http(target) => {
            let bad = || format!("{:?} is not a host name or address.", target.host);
            let upstream = state.external(target, namespace).ok_or_else(bad)?;
            let usual = if target.tls { 443 } else { 80 };
            let host =
                if target.port == usual { target.host.clone() } else { format!("{}:{}", target.host, target.port) };
            let host = HeaderValue::from_str(&host).map_err(|_| bad())?;
            let path = target.path.as_deref().map(|path| pieces(rule, path)).transpose()?;
            Ok(Integration::Http(Box::new(ExternalHttp { upstream, host, path })))
        }
        wire::Integration::Mock(mock) => {
            let status = StatusCode::from_u16(mock.status).map_err(|_| format!("{} is not a status.", mock.status))?;
            let mut headers = Vec::with_capacity(mock.headers.len());
            for (name, template) in &mock.headers {
                headers.push((header_name(name, Message::Response)?, value(name, template)?));
            }
            Ok(Integration::Mock(Box::new(Mock { status, headers, body: Bytes::from(mock.body.clone()) })))
        }
    }
}

/// `/v2/{proxy}` in pieces; the names are the rule's parameters.
fn pieces(rule: &wire::Rule, path: &str) -> Result<Vec<PathSegment>, Problem> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) =
            after.split_once('}').ok_or_else(|| format!("the URL's path {path:?} has a {{ without its }}."))?;
        let known = rule.path.parameters().position(|parameter| parameter == name.trim_end_matches('+'));
        let at = known
            .ok_or_else(|| format!("the URL's path names {{{name}}}, which is not a parameter of {}.", rule.path))?;
        out.push(PathSegment::Text(before.into()));
        out.push(PathSegment::Parameter(at));
        rest = after;
    }
    out.push(PathSegment::Text(rest.into()));
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_of_several_rules_is_compiled_once() {
        let term = |text: &str| wire::AuthorizeTerm { expression: text.to_owned(), message: None };
        let mut expressions = Expressions::default();
        let mut compiled = |texts: &[&str]| {
            let terms: Vec<_> = texts.iter().copied().map(term).collect();
            expressions.authorize(&terms).unwrap().unwrap().terms
        };
        let shared = "request.method == 'GET'";
        let (one, two) = (compiled(&[shared, "request.path == '/a'"]), compiled(&[shared, "request.path == '/b'"]));
        assert!(Arc::ptr_eq(&one[0].0, &two[0].0) && !Arc::ptr_eq(&one[1].0, &two[1].0));
        let problem = expressions.authorize(&[term(shared), term("request.verb == ''")]).err().unwrap();
        assert!(problem.starts_with("its expression 2 is not valid: request has no field"), "{problem}");
    }
}
