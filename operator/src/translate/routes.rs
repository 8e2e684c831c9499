//! Translates routes of all kinds to parts: which Stages serve which rules, and which operations an older
//! object has. What a rule checks and does is translated by `policy`.

use std::collections::{BTreeMap, BTreeSet};

use sluice_crds::Stage;
use sluice_crds::condition::reason;
use sluice_wire::{FieldMatch, PartBody, PartKind, PartName, PathTemplate, RoutePart, Rule, RuleAction, Segment};

use crate::lower::{self, ANY, Match, Route};
use crate::objects::ObjectKey;
use crate::problem::Problems;
use crate::translate::conflicts::{Claim, Operation};
use crate::translate::desired::Detail;
use crate::translate::kind::{AtStage, Translated};
use crate::translate::node::{Node, UpstreamId};
use crate::translate::references::Referrer;
use crate::translate::view::View;
use crate::translate::{hosts, policy, stages};

/// An index of a rule, and a method of it.
type RuleMethod = (usize, &'static str);

/// How the rules of an object differ at some Stages from what it says.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Differences {
    /// What an older object has.
    lost: BTreeSet<RuleMethod>,
    /// The rules that reject their requests.
    unusable: BTreeSet<usize>,
}

/// Why a rule with `apiKey: Alternative` rejects its requests at a Stage whose keys are named by authorizers.
const ALTERNATIVE_WITHOUT_CLIENT_KEY: &str = "Alternative needs a key that clients send; with apiKeySource of type Authorizer there is a \
                                     key only after the authorizer has accepted the request: write Required or Optional";

/// The name of the part for the routes of an object.
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
    let end = path.ends_with_slash().then(|| "/".to_owned());
    path.segments().iter().map(segment).chain(end).collect()
}

/// The operation of a rule for one of its methods, without regard to the names of path parameters.
fn operation(stage: &ObjectKey, version: Option<&str>, matches: &Match, method: &str) -> Operation {
    let text = |kind: char, field: &FieldMatch| match &field.value {
        Some(value) => format!("{kind}{}={value}", field.name),
        None => format!("{kind}{}", field.name),
    };
    let headers = matches.headers.iter().map(|field| text('h', field));
    let mut texts: Vec<String> = headers.chain(matches.query.iter().map(|field| text('q', field))).collect();
    texts.sort();
    Operation {
        stage: stage.clone(),
        version: version.map(str::to_owned),
        path: shape(&matches.path),
        method: method.to_owned(),
        matches: texts,
    }
}

/// The rules whose match is known, with every method of each.
fn operations(route: &Route) -> impl Iterator<Item = (usize, &Match, &'static str)> {
    let known = route.rules.iter().enumerate().filter_map(|(at, rule)| Some((at, rule.matches.as_ref()?)));
    known.flat_map(|(at, matches)| matches.methods().map(move |method| (at, matches, method)))
}

fn version_text(route: &Route) -> Option<String> {
    route.version.as_ref().map(|version| format!("{:?} {}", version.scheme, version.name))
}

/// Every operation of every Stage that the routes want to have. A Stage that does not accept them is left out: they must not
/// take an operation from routes that it accepts.
pub(crate) fn claims(view: &View<'_>, route: &Route) -> BTreeSet<Claim> {
    let version = version_text(route);
    let mut claims = BTreeSet::new();
    let namespace = &route.key.namespace;
    let accepted = |stage: &ObjectKey| stage.namespace == *namespace || stages::attach(view, namespace, stage).is_ok();
    for stage in route.stages.iter().filter(|stage| accepted(&stage.key)) {
        let operations =
            operations(route).map(|(_, matches, method)| operation(&stage.key, version.as_deref(), matches, method));
        claims.extend(operations.map(|operation| Claim::Operation(Box::new(operation))));
    }
    claims
}

/// The parts of the routes of one object: one, or several where Stages serve different rules of it.
pub(crate) fn translate(view: &View<'_>, route: &Route, problems: &mut Problems) -> Translated {
    problems.extend(route.problems.clone());
    let mut services = BTreeSet::new();
    let rules = rules(view, route, problems, &mut services);
    let everywhere = problems.clone();
    let mut groups: BTreeMap<Differences, Vec<ObjectKey>> = BTreeMap::new();
    let mut at_stages = Vec::new();
    for lower::Reference { key: stage, field } in &route.stages {
        let mut here = Problems::default();
        match stages::attach(view, &route.key.namespace, stage) {
            Err(unresolved) => here.accept(unresolved.reason, field, &unresolved.why),
            Ok(found) if !hosts::is_served(view, stage, found) => {
                let why = format!("Stage {stage} is not served: see its Accepted condition");
                here.accept(reason::STAGE_NOT_SERVED, field, why);
            }
            Ok(found) => {
                let unusable = unusable(route, stage, found, &mut here);
                let differences = Differences { lost: lost(view, route, stage, &mut here), unusable };
                groups.entry(differences).or_default().push(stage.clone());
            }
        }
        problems.extend(here.clone());
        let mut all = everywhere.clone();
        all.extend(here);
        at_stages.push(AtStage { stage: stage.clone(), problems: all, part: None });
    }
    let mut translated = Translated::of([], Detail::None);
    translated.needs = services.into_iter().map(Node::Upstream).collect();
    let mut served = BTreeSet::new();
    for (Differences { lost, unusable }, stages) in groups {
        let kept = rules.iter().enumerate().filter_map(|(at, rule)| {
            let gone = lost.iter().filter(|(rule, _)| *rule == at).map(|(_, method)| *method);
            gone.fold(rule.clone(), |rule, method| rule.and_then(|rule| without(rule, method))).map(|rule| (at, rule))
        });
        let kept: Vec<(usize, Rule)> = kept
            .map(|(at, mut rule)| {
                if unusable.contains(&at) {
                    rule.action = RuleAction::Invalid { why: ALTERNATIVE_WITHOUT_CLIENT_KEY.to_owned() };
                }
                (at, rule)
            })
            .collect();
        if kept.is_empty() {
            continue;
        }
        // A rule that rejects all its requests is not served.
        let valid = kept.iter().filter(|(_, rule)| rule.action.policy().is_some()).map(|(at, _)| *at);
        let valid: Vec<usize> = valid.collect();
        translated.rules.extend(stages.iter().map(|stage| (stage.clone(), valid.len())));
        served.extend(valid);
        // Kubernetes names have no @: no other object's part can have this name.
        let first = stages.first().filter(|_| !lost.is_empty() || !unusable.is_empty());
        let ObjectKey { namespace, name } = &route.key;
        let name = match first {
            Some(stage) if stage.namespace == *namespace => PartName::of_route_at_stage(namespace, name, &stage.name),
            Some(stage) => PartName::of_route_at_stage(namespace, name, &stage.to_string()),
            None => part_name(&route.key),
        };
        for at in at_stages.iter_mut().filter(|at| stages.contains(&at.stage)) {
            at.part = Some(name.clone());
        }
        let part = RoutePart {
            object: route.kind.object(&route.key),
            stages: stages.iter().map(stages::part_name).collect(),
            version: route.version.clone(),
            rules: kept.into_iter().map(|(_, rule)| rule).collect(),
        };
        translated.parts.push((name, PartBody::Route(part)));
    }
    translated.detail = Detail::ApiRoute { rules: served.len() };
    translated.stages = at_stages;
    translated
}

/// The rules as proxies have them, before any is lost to an older object; none where the match is not known.
fn rules(
    view: &View<'_>,
    route: &Route,
    problems: &mut Problems,
    services: &mut BTreeSet<UpstreamId>,
) -> Vec<Option<Rule>> {
    let mut rules: Vec<Option<Rule>> = Vec::new();
    let mut seen: BTreeSet<Operation> = BTreeSet::new();
    let anywhere = ObjectKey::new("", "");
    for (at, rule) in route.rules.iter().enumerate() {
        let mut own = Problems::default();
        if route.rules.iter().take(at).any(|earlier| earlier.name == rule.name) {
            own.invalid(&format!("{}.name", rule.field), format_args!("the name {:?} is used twice", rule.name));
        }
        own.extend(rule.problems.clone());
        let mut translated = rule.matches.as_ref().map(|matches| Rule {
            name: rule.name.clone(),
            methods: matches.wire_methods(),
            path: matches.path.clone(),
            headers: matches.headers.clone(),
            query: matches.query.clone(),
            action: policy::action(
                view,
                Referrer::new(route.kind, &route.key),
                rule.policy.as_ref(),
                &mut own,
                services,
            ),
        });
        for (matches, method) in rule.matches.iter().flat_map(|matches| matches.methods().map(move |m| (matches, m))) {
            if seen.insert(operation(&anywhere, None, matches, method)) {
                continue;
            }
            let why = format!("{method} {} is already matched by an earlier rule of this {}", matches.path, route.kind);
            own.invalid(&rule.field, why);
            translated = translated.and_then(|rule| without(rule, method));
        }
        rules.push(translated);
        problems.extend(own);
    }
    close(&mut rules, route, problems);
    rules
}

/// When the match of a rule is not known, every other rule rejects its requests: a broader one would respond to requests of
/// that rule, with another policy.
fn close(rules: &mut [Option<Rule>], route: &Route, problems: &mut Problems) {
    let Some(first) = route.rules.iter().find(|rule| rule.matches.is_none()) else { return };
    let why = format!(
        "the match of rule {:?} is invalid; until it is corrected, each rule of this {} returns 500",
        first.name, route.kind
    );
    problems.invalid(route.rules_field, &why);
    for rule in rules.iter_mut().flatten() {
        rule.action = RuleAction::Invalid { why: why.clone() };
    }
}

/// The rule without a method; none when no method is left (an empty list would mean every method).
fn without(mut rule: Rule, method: &str) -> Option<Rule> {
    if rule.methods.is_empty() {
        return (method != ANY).then_some(rule);
    }
    rule.methods.retain(|kept| kept != method);
    (!rule.methods.is_empty()).then_some(rule)
}

/// The rules that cannot be used at a Stage.
fn unusable(route: &Route, stage: &ObjectKey, found: &Stage, problems: &mut Problems) -> BTreeSet<usize> {
    if !stages::authorizers_name_keys(found) {
        return BTreeSet::new();
    }
    let alternative = |rule: &lower::Rule| rule.policy.as_ref().is_some_and(|policy| policy.alternative_key);
    let rules = route.rules.iter().enumerate().filter(|(_, rule)| alternative(rule));
    rules
        .map(|(at, rule)| {
            let why = format!("at Stage {stage}, {ALTERNATIVE_WITHOUT_CLIENT_KEY}");
            problems.invalid(&format!("{}.apiKey", rule.field), why);
            at
        })
        .collect()
}

/// The rules and methods that an older object has in a Stage.
fn lost(view: &View<'_>, route: &Route, stage: &ObjectKey, problems: &mut Problems) -> BTreeSet<RuleMethod> {
    let version = version_text(route);
    let mut lost = BTreeSet::new();
    for (at, matches, method) in operations(route) {
        let claim = Claim::Operation(Box::new(operation(stage, version.as_deref(), matches, method)));
        let Some(winner) = view.claims.winner_at(&claim, stage) else { continue };
        if winner.kind == route.kind && winner.key == route.key {
            continue;
        }
        let (kind, path) = (winner.kind, &matches.path);
        // Who shares the Stage of another namespace is not disclosed. The namespace of the Stage has to know.
        let own = &route.key.namespace;
        let whose = if winner.key.namespace == *own || stage.namespace == *own {
            format!("the older {kind} {}", winner.key)
        } else if winner.key.namespace == stage.namespace {
            format!("another {kind}, which is in the Stage's namespace")
        } else {
            format!("an older {kind} of another namespace")
        };
        let field = route.rules.get(at).map_or("", |rule| rule.field.as_str());
        problems.accept(reason::CONFLICTED, field, format!("{method} {path} of Stage {stage} is served by {whose}"));
        lost.insert((at, method));
    }
    lost
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_state::ClusterState;
    use crate::lower::{Authorization, Integration, Policy, Reference, ServicePort};
    use crate::translate::conflicts::Claims;
    use crate::translate::days::SigningDays;

    fn reference(name: &str, field: &str) -> Reference {
        Reference { key: ObjectKey::new("shop", name), field: field.to_owned() }
    }

    /// The routes of a document in a ConfigMap, for example.
    fn route() -> Route {
        let policy = Policy {
            source: None,
            authorize: Vec::new(),
            authorization: Authorization::Authorizer {
                authorizer: reference("customers", "security[0]"),
                scopes: Vec::new(),
            },
            api_key: false,
            optional_key: false,
            alternative_key: false,
            throttle: None,
            client_throttle: None,
            cors: None,
            cache: None,
            request_headers: sluice_wire::HeaderEdits::default(),
            response_headers: sluice_wire::HeaderEdits::default(),
            timeout_ms: 29_000,
            body_limit: None,
            buffer_limit: None,
            integration: Integration::Service(ServicePort {
                service: reference("orders", "servers[0].host"),
                port: 80,
                port_field: "servers[0].port".to_owned(),
                tls: None,
            }),
        };
        let matches = Match {
            methods: vec!["GET"],
            path: "/orders/{id}".parse().unwrap(),
            headers: Vec::new(),
            query: Vec::new(),
        };
        let rule = lower::Rule {
            name: "get-order".to_owned(),
            field: "paths./orders/{id}.get".to_owned(),
            matches: Some(matches),
            policy: Some(policy),
            problems: Problems::default(),
        };
        Route {
            kind: crate::objects::Kind::ConfigMap,
            key: ObjectKey::new("shop", "petstore"),
            stages: vec![reference("prod", "stages[0]")],
            version: None,
            rules_field: "paths",
            rules: vec![rule.clone(), lower::Rule { name: "again".to_owned(), ..rule }],
            problems: Problems::default(),
        }
    }

    #[test]
    fn problems_point_at_the_fields_of_the_source_whatever_its_kind() {
        let stage = serde_json::json!({"metadata": {"name": "prod", "namespace": "shop"}, "spec": {}});
        let state = ClusterState::from_objects([serde_json::from_value::<Stage>(stage).unwrap().into()]);
        let (claims, mut problems) = (Claims::default(), Problems::default());
        let translated = translate(&View::new(&state, &claims, SigningDays::default()), &route(), &mut problems);
        let conditions = problems.conditions(None);
        let (accepted, resolved) = (&conditions[0].message, &conditions[1].message);
        let twice = "paths./orders/{id}.get: GET /orders/{id} is already matched by an earlier rule of this ConfigMap.";
        assert_eq!(*accepted, twice);
        for field in ["security[0]: Authorizer shop/customers", "servers[0].host: Service shop/orders"] {
            assert!(resolved.contains(field), "{resolved}");
        }
        let [(name, PartBody::Route(part))] = translated.parts.as_slice() else { panic!("{}", translated.parts.len()) };
        assert_eq!(
            (name.to_string().as_str(), part.object.to_string().as_str()),
            ("route/shop/petstore", "ConfigMap shop/petstore")
        );
        assert!(matches!(part.rules[0].action, RuleAction::Invalid { .. }) && part.rules.len() == 1);
    }
}
