//! Adds to an explanation what only the parts of the configuration state: the text of the rule that matched, and what there is
//! where nothing matched. Found by name; nothing is matched again.

use sluice_wire::{
    Endpoints, FieldMatch, HostPattern, HttpTarget, Integration, Part, PartBody, PartKind, PartName, Parts, RoutePart,
    Rule, RuleAction, StagePart, VersionScheme,
};

use super::checks::{Check, CheckOutcome};
use super::explanation::Explanation;
use super::facts::{ExplainedIntegration, ExplainedRule, Matches, RuleOfStage, StageOfHosts};

/// More Stages or rules than these are left out.
const MAX_LISTED: usize = 100;

/// Adds what the parts state.
pub(crate) fn complete(found: &mut Explanation, parts: &Parts<Part>) {
    let rejected = found.checks.last().filter(|last| last.result == CheckOutcome::Rejected).map(|last| last.check);
    if found.stage.is_none() && rejected == Some(Check::Stage) {
        found.stages = stages(parts).take(MAX_LISTED).collect();
    }
    let Some(stage) = &mut found.stage else { return };
    if let Some(part) = stage_part(parts, &stage.name).filter(StagePart::is_invalid) {
        stage.invalid = part.invalid;
    }
    match &mut found.rule {
        Some(rule) => {
            let route = routes(parts, &stage.name).find(|route| route.object.id() == rule.route);
            if let Some(route) = route {
                describe(rule, &route, parts);
                texts(found, &route);
            }
        }
        None if rejected == Some(Check::Rule) => {
            let rules = routes(parts, &stage.name).flat_map(|route| {
                let of_route = |rule: &Rule| RuleOfStage {
                    route: route.object.id(),
                    name: rule.name.clone(),
                    matches: matches(&route, rule),
                };
                route.rules.iter().map(of_route).collect::<Vec<_>>()
            });
            found.rules = rules.take(MAX_LISTED).collect();
        }
        None => {}
    }
}

fn stages(parts: &Parts<Part>) -> impl Iterator<Item = StageOfHosts> {
    let bodies =
        parts.iter().filter(|(name, _)| name.kind == PartKind::Stage).filter_map(|(_, part)| part.decode().ok());
    bodies.filter_map(|body| match body {
        PartBody::Stage(stage) => Some(StageOfHosts {
            name: stage.object.id(),
            hosts: stage.hostnames.iter().map(HostPattern::to_string).collect(),
            base_path: stage.base_path,
        }),
        _ => None,
    })
}

fn stage_part(parts: &Parts<Part>, stage: &str) -> Option<StagePart> {
    match parts.get(&PartName::new(PartKind::Stage, stage))?.decode() {
        Ok(PartBody::Stage(stage)) => Some(stage),
        _ => None,
    }
}

/// The routes of a Stage.
fn routes(parts: &Parts<Part>, stage: &str) -> impl Iterator<Item = RoutePart> {
    let stage = PartName::new(PartKind::Stage, stage);
    let bodies =
        parts.iter().filter(|(name, _)| name.kind == PartKind::Route).filter_map(|(_, part)| part.decode().ok());
    bodies.filter_map(move |body| match body {
        PartBody::Route(route) if route.stages.contains(&stage) => Some(route),
        _ => None,
    })
}

fn rule_of<'a>(route: &'a RoutePart, name: &str) -> Option<&'a Rule> {
    route.rules.iter().find(|rule| rule.name == name)
}

fn describe(explained: &mut ExplainedRule, route: &RoutePart, parts: &Parts<Part>) {
    let Some(rule) = rule_of(route, &explained.name) else { return };
    explained.matches = matches(route, rule);
    match &rule.action {
        RuleAction::Invalid { why } => explained.invalid = Some(why.clone()),
        RuleAction::Serve(policy) | RuleAction::Authorize(policy) => {
            explained.authorizer = policy.authorizer.as_ref().map(|used| used.part.id().to_owned());
            explained.integration = Some(integration(&policy.integration, parts));
        }
    }
}

fn matches(route: &RoutePart, rule: &Rule) -> Matches {
    let version = route.version.as_ref().filter(|version| version.scheme == VersionScheme::Path);
    let version = version.map(|version| format!("/{}", version.name)).unwrap_or_default();
    let text = |field: &FieldMatch| match &field.value {
        Some(value) => format!("{}={value}", field.name),
        None => field.name.clone(),
    };
    let mut headers: Vec<String> = rule.headers.iter().map(text).collect();
    let mut query: Vec<String> = rule.query.iter().map(text).collect();
    if let Some(version) = &route.version {
        match &version.scheme {
            VersionScheme::Path => {}
            VersionScheme::Header(name) => headers.push(format!("{name}={}", version.name)),
            VersionScheme::Query(name) => query.push(format!("{name}={}", version.name)),
            VersionScheme::MediaType => headers.push(format!("accept: …;version={}", version.name)),
        }
    }
    Matches { methods: rule.methods.clone(), path: format!("{version}{}", rule.path), headers, query }
}

fn integration(integration: &Integration, parts: &Parts<Part>) -> ExplainedIntegration {
    match integration {
        Integration::Service(name) => {
            let endpoints = match parts.get(name).map(Part::decode) {
                Some(Ok(PartBody::Upstream(part))) => match part.endpoints {
                    Endpoints::Addresses(addresses) => addresses.iter().map(ToString::to_string).collect(),
                    Endpoints::Name { host, port } => vec![format!("{host}:{port}")],
                },
                _ => Vec::new(),
            };
            ExplainedIntegration::Service { service: name.id().to_owned(), endpoints }
        }
        Integration::Http(HttpTarget { tls, host, port, path }) => {
            let scheme = if *tls { "https" } else { "http" };
            ExplainedIntegration::Http {
                url: format!("{scheme}://{host}:{port}{}", path.as_deref().unwrap_or_default()),
            }
        }
        Integration::Mock(_) => ExplainedIntegration::Mock,
    }
}

/// The texts of expressions.
fn texts(found: &mut Explanation, route: &RoutePart) {
    let rule = found.rule.as_ref().and_then(|explained| rule_of(route, &explained.name));
    let Some(policy) = rule.and_then(|rule| rule.action.policy()) else { return };
    for evaluated in &mut found.expressions {
        if let Some(term) = policy.authorize.get(evaluated.index) {
            evaluated.expression.clone_from(&term.expression);
        }
    }
}
