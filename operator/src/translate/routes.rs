//! ApiRoutes to rules: which stages serve them, what they match, and who lost an operation to an older ApiRoute.
//! What one rule checks and does is `rules`'.

use std::collections::{BTreeMap, BTreeSet};

use sluice_crds::api_route::{HttpMethod, MatchType, ValueMatch, VersionScheme};
use sluice_crds::condition::reason;
use sluice_crds::{ApiRoute, Stage, api_route as api};
use sluice_wire::{ApiVersion, PartBody, PartKind, PartName, PathTemplate, RoutePart, Rule, RuleAction, Segment};

use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::conflicts::{Claim, Operation};
use crate::translate::desired::Detail;
use crate::translate::kind::{self, Translate};
use crate::translate::node::Node;
use crate::translate::view::View;
use crate::translate::{rules, stages};

/// What a translation of an ApiRoute found out.
#[derive(Default)]
struct Translated {
    /// The parts: one, or several where stages serve different rules of it.
    pub(crate) parts: Vec<(PartName, RoutePart)>,
    /// Service ports that rules lead to.
    pub(crate) upstreams: BTreeSet<(ObjectKey, u16)>,
    /// How many rules each stage serves.
    pub(crate) rules: BTreeMap<ObjectKey, usize>,
}

/// The name of an ApiRoute's part.
pub(crate) fn part_name(key: &ObjectKey) -> PartName {
    PartName::of_object(PartKind::Route, &key.namespace, &key.name)
}

/// A path up to the names of its parameters.
fn shape(path: &PathTemplate) -> String {
    let segment = |segment: &Segment| match segment {
        Segment::Static(text) => format!("/{text}"),
        Segment::Param(_) => "/{}".to_owned(),
        Segment::Greedy(_) => "/{+}".to_owned(),
    };
    path.segments().iter().map(segment).collect()
}

fn version_text(version: Option<&api::ApiVersion>) -> Option<String> {
    version.map(|version| {
        let parameter = parameter(version).unwrap_or_default();
        format!("{:?} {parameter} {}", version.scheme, version.name)
    })
}

fn parameter(version: &api::ApiVersion) -> Option<String> {
    let written = version.parameter.as_deref();
    match version.scheme {
        VersionScheme::Header => Some(written.unwrap_or("x-api-version").to_ascii_lowercase()),
        VersionScheme::Query => Some(written.unwrap_or("version").to_owned()),
        VersionScheme::Path | VersionScheme::MediaType => None,
    }
}

fn operation(stage: &ObjectKey, version: Option<String>, rule: &api::Rule, method: HttpMethod) -> Option<Operation> {
    let path: PathTemplate = rule.path.parse().ok()?;
    let word = |kind: char, field: &ValueMatch| {
        let name = if kind == 'h' { field.name.to_ascii_lowercase() } else { field.name.clone() };
        let value = field.value.as_ref().filter(|_| field.type_ == MatchType::Exact);
        format!("{kind}{name}{}", value.map(|value| format!("={value}")).unwrap_or_default())
    };
    let headers = rule.headers.iter().map(|field| word('h', field));
    let mut matches: Vec<String> = headers.chain(rule.query_params.iter().map(|field| word('q', field))).collect();
    matches.sort();
    Some(Operation { stage: stage.clone(), version, path: shape(&path), method: method.as_str(), matches })
}

fn stage_keys<'a>(key: &'a ObjectKey, route: &'a ApiRoute) -> impl Iterator<Item = ObjectKey> + 'a {
    route.spec.stages.iter().map(|stage| ObjectKey::new(key.namespace.clone(), stage.name.clone()))
}

/// Every operation of every stage that the ApiRoute wants to serve.
fn claims(key: &ObjectKey, route: &ApiRoute) -> BTreeSet<Claim> {
    let mut claims = BTreeSet::new();
    for stage in stage_keys(key, route) {
        let version = version_text(route.spec.version.as_ref());
        for rule in &route.spec.rules {
            let operations = rule.methods.iter().filter_map(|m| operation(&stage, version.clone(), rule, *m));
            claims.extend(operations.map(|operation| Claim::Operation(Box::new(operation))));
        }
    }
    claims
}

impl Translate for ApiRoute {
    fn claims(&self, _view: &View<'_>, key: &ObjectKey) -> BTreeSet<Claim> {
        claims(key, self)
    }

    fn part_name(key: &ObjectKey) -> PartName {
        part_name(key)
    }

    fn translate(&self, view: &View<'_>, key: &ObjectKey, problems: &mut Problems) -> kind::Translated {
        let Translated { parts, upstreams, rules } = translate(view, key, self, problems);
        let parts = parts.into_iter().map(|(name, part)| (name, PartBody::Route(part)));
        kind::Translated {
            needs: upstreams.into_iter().map(|(key, port)| Node::Upstream(key, port)).collect(),
            rules,
            ..kind::Translated::of(parts, Detail::None)
        }
    }
}

/// The parts of an ApiRoute.
fn translate(view: &View<'_>, key: &ObjectKey, route: &ApiRoute, problems: &mut Problems) -> Translated {
    let mut translated = Translated::default();
    let version = route.spec.version.as_ref().map(|version| self::version(version, problems));
    let mut written: Vec<Option<Rule>> = Vec::new();
    let mut placeless: Vec<&str> = Vec::new();
    let mut seen: BTreeSet<Operation> = BTreeSet::new();
    for (at, rule) in route.spec.rules.iter().enumerate() {
        let mut own = Problems::default();
        let twin = route.spec.rules.iter().take(at).any(|earlier| earlier.name == rule.name);
        if twin {
            own.invalid(&format!("spec.rules[{at}].name"), format_args!("the name {:?} is used twice", rule.name));
        }
        let mut made = rules::translate(view, key, route, at, &mut own, &mut translated.upstreams);
        if made.is_none() {
            placeless.push(&rule.name);
        }
        let anywhere = ObjectKey::new("", "");
        for method in &rule.methods {
            let Some(operation) = operation(&anywhere, None, rule, *method) else { continue };
            if seen.insert(operation) {
                continue;
            }
            let why =
                format!("{} {} is already matched by an earlier rule of this ApiRoute", method.as_str(), rule.path);
            own.invalid(&format!("spec.rules[{at}]"), why);
            made = made.and_then(|made| without(made, *method));
        }
        written.push(made);
        problems.extend(own);
    }
    close(&mut written, &placeless, problems);
    let mut groups: BTreeMap<BTreeSet<(usize, HttpMethod)>, Vec<ObjectKey>> = BTreeMap::new();
    for (at, stage) in stage_keys(key, route).enumerate() {
        let field = format!("spec.stages[{at}].name");
        match view.get::<Stage>(&stage) {
            None => problems.accept(reason::STAGE_NOT_FOUND, &field, view.absence(Kind::Stage, &stage)),
            Some(found) if !stages::is_served(view, &stage, found) => {
                let why = format!("Stage {stage} is not served: see its Accepted condition");
                problems.accept(reason::CONFLICTED, &field, why);
            }
            Some(_) => {
                let lost = lost(view, key, route, &stage, problems);
                groups.entry(lost).or_default().push(stage);
            }
        }
    }
    for (lost, stages) in groups {
        let rules: Vec<Rule> = written
            .iter()
            .enumerate()
            .filter_map(|(at, rule)| {
                let gone = lost.iter().filter(|(rule, _)| *rule == at).map(|(_, method)| *method);
                gone.fold(rule.clone(), |rule, method| rule.and_then(|rule| without(rule, method)))
            })
            .collect();
        if rules.is_empty() {
            continue;
        }
        translated.rules.extend(stages.iter().map(|stage| (stage.clone(), rules.len())));
        // Kubernetes names have no @: no other ApiRoute's part can have this name.
        let first = stages.first().filter(|_| !lost.is_empty());
        let name = match first {
            Some(stage) => PartName::of_route_at_stage(&key.namespace, &key.name, &stage.name),
            None => part_name(key),
        };
        let part = RoutePart {
            object: Kind::ApiRoute.object(key),
            stages: stages.iter().map(stages::part_name).collect(),
            version: version.clone(),
            rules,
        };
        translated.parts.push((name, part));
    }
    translated
}

/// With a rule whose place is not known, every other rule refuses: a broader one would answer its requests, with another
/// policy.
fn close(rules: &mut [Option<Rule>], placeless: &[&str], problems: &mut Problems) {
    let Some(first) = placeless.first() else { return };
    let why = format!(
        "the match of rule {first:?} is invalid; until it is corrected, each rule of this ApiRoute returns 500"
    );
    problems.invalid("spec.rules", &why);
    for rule in rules.iter_mut().flatten() {
        rule.action = RuleAction::Invalid { why: why.clone() };
    }
}

/// The rule without a method; none when no method is left (an empty list would mean every method).
fn without(mut rule: Rule, method: HttpMethod) -> Option<Rule> {
    if method == HttpMethod::Any {
        return None;
    }
    if rule.methods.is_empty() {
        return Some(rule);
    }
    rule.methods.retain(|kept| kept != method.as_str());
    (!rule.methods.is_empty()).then_some(rule)
}

/// The rules and methods that an older ApiRoute serves in a stage.
fn lost(
    view: &View<'_>,
    key: &ObjectKey,
    route: &ApiRoute,
    stage: &ObjectKey,
    problems: &mut Problems,
) -> BTreeSet<(usize, HttpMethod)> {
    let version = version_text(route.spec.version.as_ref());
    let mut lost = BTreeSet::new();
    for (at, rule) in route.spec.rules.iter().enumerate() {
        for method in &rule.methods {
            let Some(operation) = operation(stage, version.clone(), rule, *method) else { continue };
            let Some(winner) = view.claims.lost_to(&Claim::Operation(Box::new(operation)), Kind::ApiRoute, key) else {
                continue;
            };
            let why = format!(
                "{} {} of Stage {stage} is served by the older ApiRoute {}",
                method.as_str(),
                rule.path,
                winner.key
            );
            problems.accept(reason::CONFLICTED, &format!("spec.rules[{at}]"), why);
            lost.insert((at, *method));
        }
    }
    lost
}

fn version(version: &api::ApiVersion, problems: &mut Problems) -> ApiVersion {
    let field = "spec.version.parameter";
    let parameter = parameter(version).unwrap_or_default();
    let scheme = match version.scheme {
        VersionScheme::Path => sluice_wire::VersionScheme::Path,
        VersionScheme::MediaType => sluice_wire::VersionScheme::MediaType,
        VersionScheme::Query => sluice_wire::VersionScheme::Query(parameter),
        VersionScheme::Header => {
            if let Err(why) = fields::header_name(&parameter) {
                problems.invalid(field, why);
            }
            sluice_wire::VersionScheme::Header(parameter)
        }
    };
    if version.parameter.is_some() && matches!(version.scheme, VersionScheme::Path | VersionScheme::MediaType) {
        problems.invalid(field, "it is allowed with scheme Header or Query only");
    }
    ApiVersion { name: version.name.clone(), scheme }
}
