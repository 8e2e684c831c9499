//! Lowers one rule of an ApiRoute: its match, its policy and its integration.

use std::collections::{BTreeMap, BTreeSet};

use sluice_crds::ApiRoute;
use sluice_crds::api_route::{
    self as api, AuthorizationType, BodyLimits, CacheScope, Header, HeaderChanges, HttpMethod, IntegrationType,
    MessageChanges, MockIntegration, Rule as ApiRule, RuleCache as ApiRuleCache, ValueMatch,
};
use sluice_crds::field::ApiKeyRequirement;
use sluice_wire::{
    AuthorizeTerm, HeaderEdits, Message, Mock, PathTemplate, RuleCache, Template, TemplatePart, Variable, VariableUse,
    reserved,
};

use crate::fields;
use crate::lower::route::{Authorization, Integration, Match, Policy, Reference, Rule};
use crate::lower::service_port::service_port;
use crate::objects::ObjectKey;
use crate::problem::Problems;

/// A rule being lowered.
struct Lowering<'a> {
    key: &'a ObjectKey,
    /// `spec.rules[3]`
    at: String,
    path: PathTemplate,
    authorized: bool,
    problems: Problems,
}

/// What each rule has from its ApiRoute, and its problems, which are those of each rule.
pub(super) struct Inherited {
    authorize: Vec<AuthorizeTerm>,
    problems: Problems,
}

impl Inherited {
    pub(super) fn of(route: &ApiRoute) -> Self {
        let mut problems = Problems::default();
        let authorize = fields::authorize("spec.authorize", &route.spec.authorize, &mut problems);
        Self { authorize, problems }
    }
}

/// The rule of an ApiRoute at that index.
pub(super) fn rule(key: &ObjectKey, route: &ApiRoute, inherited: &Inherited, at: usize) -> Option<Rule> {
    let written = route.spec.rules.get(at)?;
    let at = format!("spec.rules[{at}]");
    let mut problems = Problems::default();
    let matches = matches(&at, written, &mut problems);
    let policy;
    (policy, problems) = match &matches {
        // A rule without its match is not served: what it does is of no interest yet.
        None => (None, problems),
        Some(matches) => {
            let authorization = written.authorization.as_ref().unwrap_or(&route.spec.authorization);
            let authorized = authorization.type_ == AuthorizationType::Authorizer;
            let mut lowering = Lowering { key, at: at.clone(), path: matches.path.clone(), authorized, problems };
            (lowering.policy(route, inherited, written, authorization), lowering.problems)
        }
    };
    Some(Rule { name: written.name.clone(), field: at, matches, policy, problems })
}

/// The match of a rule. Without one of its parts the rule would respond to requests of others.
fn matches(at: &str, rule: &ApiRule, problems: &mut Problems) -> Option<Match> {
    let path: PathTemplate = match rule.path.parse() {
        Ok(path) => path,
        Err(why) => {
            problems.invalid(&format!("{at}.path"), why);
            return None;
        }
    };
    let methods = methods(at, rule, problems)?;
    let mut fields = |list: &[ValueMatch], name: &str, header: bool| {
        let mut all = Vec::new();
        for (n, field) in list.iter().enumerate() {
            match fields::field_match(field, header) {
                Ok(field) => all.push(field),
                Err(why) => problems.invalid(&format!("{at}.{name}[{n}]"), why),
            }
        }
        (all.len() == list.len()).then_some(all)
    };
    let (headers, query) = (fields(&rule.headers, "headers", true), fields(&rule.query_params, "queryParams", false));
    Some(Match { methods, path, headers: headers?, query: query? })
}

fn methods(at: &str, rule: &ApiRule, problems: &mut Problems) -> Option<Vec<&'static str>> {
    let field = format!("{at}.methods");
    if rule.methods.is_empty() {
        problems.invalid(&field, "at least one method is required; ANY matches all methods");
        return None;
    }
    if rule.methods.contains(&HttpMethod::Any) {
        if rule.methods.len() > 1 {
            problems.invalid(&field, "ANY must be the only entry: it includes all other methods");
        }
        return Some(Vec::new());
    }
    Some(rule.methods.iter().map(|method| method.as_str()).collect())
}

impl Lowering<'_> {
    fn invalid(&mut self, field: &str, why: impl std::fmt::Display) {
        self.problems.invalid(&format!("{}.{field}", self.at), why);
    }

    fn policy(
        &mut self,
        route: &ApiRoute,
        inherited: &Inherited,
        rule: &ApiRule,
        authorization: &api::Authorization,
    ) -> Option<Policy> {
        let source_field = format!("{}.source", self.at);
        let source = rule.source.as_ref().and_then(|source| fields::source(&source_field, source, &mut self.problems));
        let mut authorize = inherited.authorize.clone();
        self.problems.extend(inherited.problems.clone());
        let authorize_field = format!("{}.authorize", self.at);
        authorize.extend(fields::authorize(&authorize_field, &rule.authorize, &mut self.problems));
        let own = rule.authorization.is_some();
        let field = if own { format!("{}.authorization", self.at) } else { "spec.authorization".into() };
        let authorization = self.authorization(&field, authorization);
        let requirement = rule.api_key.unwrap_or(route.spec.api_key);
        if requirement == ApiKeyRequirement::Alternative && !self.authorized {
            let why = "Alternative needs an authorization of type Authorizer, which the key is an alternative to: write Required";
            self.invalid("apiKey", why);
        }
        let throttle_field = format!("{}.throttle", self.at);
        let throttle = rule.throttle.and_then(|limit| fields::throttle(&throttle_field, limit, &mut self.problems));
        let client_field = format!("{}.clientThrottle", self.at);
        let client_throttle =
            rule.client_throttle.and_then(|limit| fields::client_throttle(&client_field, limit, &mut self.problems));
        let cors_field = format!("{}.cors", self.at);
        let cors = rule.cors.as_ref().map(|settings| fields::cors(&cors_field, settings, &mut self.problems));
        let mut cache = rule.cache.as_ref().map(|cache| self.cache(cache));
        let request_headers = self.edits(Message::Request, "request", rule.request.as_ref());
        let response_headers = self.edits(Message::Response, "response", rule.response.as_ref());
        let timeout_ms = u64::try_from(rule.timeout.get().as_millis()).unwrap_or(u64::MAX);
        if !(50..=300_000).contains(&timeout_ms) {
            self.invalid("timeout", "must be from 50ms to 300s");
        }
        let (body_limit, buffer_limit) = self.body_limits(rule.limits.as_ref());
        let integration = self.integration(rule);
        if let (Some(written), Some(cache)) = (&rule.cache, &mut cache) {
            cache.unkeyed = self.unkeyed(&written.unkeyed, &cache.keys, &request_headers, integration.as_ref());
        }
        Some(Policy {
            source,
            authorize,
            authorization: authorization?,
            api_key: requirement != ApiKeyRequirement::None,
            optional_key: requirement == ApiKeyRequirement::Optional,
            alternative_key: requirement == ApiKeyRequirement::Alternative,
            throttle,
            client_throttle,
            cors,
            cache,
            request_headers,
            response_headers,
            timeout_ms,
            body_limit,
            buffer_limit,
            integration: integration?,
        })
    }

    fn authorization(&mut self, field: &str, written: &api::Authorization) -> Option<Authorization> {
        match (written.type_, &written.authorizer) {
            (AuthorizationType::Authorizer, Some(authorizer)) => {
                let authorizer =
                    Reference { key: self.key.target(authorizer), field: format!("{field}.authorizer.name") };
                return Some(Authorization::Authorizer { authorizer, scopes: written.scopes.clone() });
            }
            (AuthorizationType::Authorizer, None) => {
                self.problems.invalid(field, "type Authorizer requires the field authorizer");
            }
            (AuthorizationType::None, Some(_)) => {
                self.problems.invalid(&format!("{field}.authorizer"), "it is not allowed with type None");
            }
            (AuthorizationType::None, None) if written.scopes.is_empty() => return Some(Authorization::Open),
            (AuthorizationType::None, None) => {}
        }
        if !written.scopes.is_empty() {
            self.problems.invalid(&format!("{field}.scopes"), "they are allowed with type Authorizer only");
        }
        None
    }

    /// The largest body, and the largest that is buffered.
    fn body_limits(&mut self, limits: Option<&BodyLimits>) -> (Option<u64>, Option<u64>) {
        let Some(BodyLimits { body, buffer }) = limits else { return (None, None) };
        if body.is_none() && buffer.is_none() {
            self.invalid("limits", "it requires body, buffer or both");
        }
        for (field, bytes) in [("limits.body", body), ("limits.buffer", buffer)] {
            if bytes.is_some_and(|bytes| bytes.get() == 0) {
                self.invalid(field, "must be at least 1 byte");
            }
        }
        if let (Some(body), Some(buffer)) = (body, buffer)
            && buffer > body
        {
            self.invalid("limits.buffer", format!("must be at most limits.body, which is {body}"));
        }
        (body.map(|bytes| bytes.get()), buffer.map(|bytes| bytes.get()))
    }

    fn cache(&mut self, cache: &ApiRuleCache) -> RuleCache {
        let ttl_ms =
            cache.ttl.and_then(|ttl| fields::cache_ttl(&format!("{}.cache.ttl", self.at), ttl, &mut self.problems));
        let mut keys = Vec::new();
        for (n, text) in cache.keys.iter().enumerate() {
            match self.cache_key(text) {
                Ok(key) => keys.push(key),
                Err(why) => self.invalid(&format!("cache.keys[{n}]"), why),
            }
        }
        RuleCache {
            ttl_ms,
            keys,
            unkeyed: Vec::new(),
            methods: cache.methods.iter().map(|method| method.as_str().to_owned()).collect(),
            scope: match cache.scope {
                CacheScope::Caller => sluice_wire::CacheScope::Caller,
                CacheScope::Shared => sluice_wire::CacheScope::Shared,
            },
        }
    }

    /// The variables that are left out of the cache key: of those that the gateway sends.
    fn unkeyed(
        &mut self,
        texts: &[String],
        keys: &[Variable],
        request: &HeaderEdits,
        integration: Option<&Integration>,
    ) -> Vec<Variable> {
        let mock = match integration {
            Some(Integration::Mock(mock)) => mock.headers.as_slice(),
            _ => &[],
        };
        let templates = request.set.iter().chain(&request.add).chain(mock).map(|(_, template)| template);
        let rendered: Vec<&Variable> = templates.flat_map(Template::variables).collect();
        let mut out = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            let field = format!("cache.unkeyed[{n}]");
            match Variable::parse_for(text, VariableUse::HeaderValue) {
                Err(why) => self.invalid(&field, why),
                Ok(variable) if keys.contains(&variable) => {
                    self.invalid(&field, "a variable is in keys or in unkeyed, not in both");
                }
                Ok(variable @ (Variable::DomainName | Variable::Scheme)) => out.push(variable),
                Ok(variable) if rendered.contains(&&variable) => out.push(variable),
                Ok(variable) => {
                    let why = format!("{variable} is not part of the key: no header in request.headers has it");
                    self.invalid(&field, why);
                }
            }
        }
        out
    }

    /// Whether the rule can give a variable its value.
    fn known(&self, variable: &Variable) -> Result<(), String> {
        match variable {
            Variable::PathParameter(name) => self.captured(name),
            other if other.needs_authorizer() && !self.authorized => {
                Err(format!("{other} requires an Authorizer, and this rule has none"))
            }
            _ => Ok(()),
        }
    }

    fn cache_key(&self, text: &str) -> Result<Variable, String> {
        let variable = Variable::parse_for(text, VariableUse::CacheKey).map_err(|why| why.to_string())?;
        self.known(&variable)?;
        Ok(variable)
    }

    fn captured(&self, name: &str) -> Result<(), String> {
        if self.path.parameters().any(|parameter| parameter == name) {
            return Ok(());
        }
        Err(format!("the path {} has no parameter {name:?}", self.path))
    }

    fn template(&self, text: &str) -> Result<Template, String> {
        let template: Template = text.parse().map_err(|why: sluice_wire::ParseTemplateError| why.to_string())?;
        for part in template.parts() {
            match part {
                TemplatePart::Variable(variable) => self.known(variable)?,
                TemplatePart::Text(text) if !text.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) => {
                    return Err("a header value must have printable ASCII characters, spaces and tabs only".to_owned());
                }
                TemplatePart::Text(_) => {}
            }
        }
        Ok(template)
    }

    fn edits(&mut self, message: Message, field: &str, changes: Option<&MessageChanges>) -> HeaderEdits {
        let Some(headers) = changes.and_then(|changes| changes.headers.as_ref()) else { return HeaderEdits::default() };
        let HeaderChanges { set, add, remove } = headers;
        let set = self.values(message, &format!("{field}.headers.set"), set);
        let add = self.values(message, &format!("{field}.headers.add"), add);
        let mut removed = BTreeSet::new();
        for (n, name) in remove.iter().enumerate() {
            match free_header_name(message, name) {
                Ok(name) => drop(removed.insert(name)),
                Err(why) => self.invalid(&format!("{field}.headers.remove[{n}]"), why),
            }
        }
        HeaderEdits { set, add, remove: removed.into_iter().collect() }
    }

    fn values(&mut self, message: Message, field: &str, headers: &[Header]) -> Vec<(String, Template)> {
        let mut edits: BTreeMap<String, Template> = BTreeMap::new();
        for (at, Header { name, value }) in headers.iter().enumerate() {
            let name = free_header_name(message, name);
            let value = self.template(value);
            match (name, value) {
                (Ok(name), Ok(template)) => {
                    if edits.insert(name, template).is_some() {
                        let why = "the header is listed twice: names are not case-sensitive";
                        self.invalid(&format!("{field}[{at}].name"), why);
                    }
                }
                (name, value) => {
                    if let Err(why) = name {
                        self.invalid(&format!("{field}[{at}].name"), why);
                    }
                    if let Err(why) = value {
                        self.invalid(&format!("{field}[{at}].value"), why);
                    }
                }
            }
        }
        edits.into_iter().collect()
    }

    fn integration(&mut self, rule: &ApiRule) -> Option<Integration> {
        let written = &rule.integration;
        let members = [
            (IntegrationType::Service, "service", written.service.is_some()),
            (IntegrationType::Http, "http", written.http.is_some()),
            (IntegrationType::Mock, "mock", written.mock.is_some()),
        ];
        for (type_, member, present) in members {
            if present != (type_ == written.type_) {
                let why = format!("type {type_:?} requires the field {member}, which is not allowed with other types");
                self.invalid("integration", why);
                return None;
            }
        }
        match written.type_ {
            IntegrationType::Service => {
                let named = written.service.as_ref()?;
                let field = format!("{}.integration.service", self.at);
                service_port(self.key, &field, named, &mut self.problems).map(Integration::Service)
            }
            IntegrationType::Http => match fields::http_url(&written.http.as_ref()?.url) {
                Err(why) => {
                    self.invalid("integration.http.url", why);
                    None
                }
                Ok(target) => {
                    for name in fields::placeholders(target.path.as_deref().unwrap_or_default()) {
                        if let Err(why) = self.captured(name) {
                            self.invalid("integration.http.url", why);
                        }
                    }
                    Some(Integration::Http(target))
                }
            },
            IntegrationType::Mock => Some(Integration::Mock(self.mock(written.mock.as_ref()?))),
        }
    }

    fn mock(&mut self, mock: &MockIntegration) -> Mock {
        if !(200..=599).contains(&mock.status) {
            self.invalid("integration.mock.status", "must be from 200 to 599");
        }
        let headers = self.values(Message::Response, "integration.mock.headers", &mock.headers);
        Mock { status: mock.status, headers, body: mock.body.clone().unwrap_or_default() }
    }
}

fn free_header_name(message: Message, name: &str) -> Result<String, String> {
    let name = fields::header_name(name)?;
    match reserved(message, &name) {
        Some(why) => Err(format!("the header {name} {why}; it cannot be changed")),
        None => Ok(name),
    }
}
