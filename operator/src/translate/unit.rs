//! One object to its parts and what is to be said about it, and what is left of it when it may not have its parts. Which
//! objects are translated, and when, is `memo`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_crds::condition::{self, ACCEPTED, RESOLVED_REFS, Status, reason};
use sluice_wire::{
    AuthorizerPart, KeyEntry, MAX_PART_BYTES, ObjectRef, Part, PartBody, PartName, PlanPart, RoutePart, RuleAction,
    StagePart,
};

use crate::translate::budget::{self, Cut};
use crate::translate::conflicts::{Claim, Claimant, created};
use crate::translate::problem::Problems;
use crate::translate::references::View;
use crate::translate::{Detail, Served, Wanted, api_keys, authorizers, routes, stages, usage_plans};
use crate::world::{Kind, ObjectKey, World};

/// Something that is translated for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Unit {
    Object(Kind, ObjectKey),
    Upstream(ObjectKey, u16),
    Certificate(ObjectKey),
}

impl Unit {
    pub(crate) fn namespace(&self) -> &str {
        let (Self::Object(_, key) | Self::Upstream(key, _) | Self::Certificate(key)) = self;
        &key.namespace
    }

    pub(crate) fn is_stage(&self) -> bool {
        matches!(self, Self::Object(Kind::Stage, _))
    }
}

/// What a unit leads to.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) parts: Vec<Arc<Part>>,
    pub(crate) status: Option<(ObjectRef, Wanted)>,
    pub(crate) needs: BTreeSet<Unit>,
    pub(crate) key: Option<KeyEntry>,
    pub(crate) rules: BTreeMap<ObjectKey, usize>,
    /// When the object was created.
    pub(crate) created: Option<(i64, i32)>,
    /// What the parts and the key weigh together.
    pub(crate) weight: usize,
    /// The parts that only keep their places; made when there is need.
    closed: OnceLock<Vec<Arc<Part>>>,
}

impl Output {
    /// An output of parts alone.
    pub(crate) fn of(parts: Vec<Arc<Part>>) -> Self {
        let weight = parts.iter().map(|part| budget::weight(part)).sum();
        Self { parts, weight, ..Self::default() }
    }

    /// The parts that only keep their places. What has no other form than the one it has stays as it is.
    pub(crate) fn closed(&self) -> &[Arc<Part>] {
        self.closed.get_or_init(|| self.parts.iter().filter_map(|part| closed(part)).map(Arc::new).collect())
    }

    /// What is published of it, and what is said.
    pub(crate) fn after(&self, cut: Option<Cut>) -> (&[Arc<Part>], Option<(ObjectRef, Wanted)>) {
        let Some(cut) = cut else { return (&self.parts, self.status.clone()) };
        let status = self.status.clone().map(|(object, wanted)| (object, refused(wanted)));
        (if cut == Cut::Closed { self.closed() } else { &[] }, status)
    }
}

fn refused(mut wanted: Wanted) -> Wanted {
    let why = "The configuration of the namespace, or of all API keys together, is longer than proxies take, and newer \
               objects give way to older ones: nothing of this object is served. Make objects smaller or fewer.";
    if let Some(accepted) = wanted.conditions.iter_mut().find(|condition| condition.type_ == ACCEPTED) {
        accepted.status = Status::False;
        accepted.reason = reason::INVALID;
        accepted.message = why.to_owned();
    }
    wanted.problems.push(reason::INVALID);
    wanted.served = Served::Nothing;
    wanted
}

/// The part in a form that keeps its place and refuses; none when it has no place to keep.
fn closed(part: &Part) -> Option<Part> {
    let body = match part.decode().ok()? {
        PartBody::Route(route) => PartBody::Route(closed_route(route)),
        PartBody::Stage(stage) => PartBody::Stage(StagePart {
            throttle: None,
            cache: None,
            cors: None,
            invalid: Some("too long".to_owned()),
            ..stage
        }),
        PartBody::Authorizer(AuthorizerPart { object, .. }) => {
            PartBody::Authorizer(AuthorizerPart { object, jwt: None, invalid: Some("too long".to_owned()) })
        }
        PartBody::Plan(PlanPart { object, .. }) => {
            PartBody::Plan(PlanPart { object, stages: Vec::new(), throttle: None })
        }
        // What a rule leads to is not what makes it a rule's turn.
        PartBody::Keys(_) | PartBody::Upstream(_) | PartBody::Certificate(_) => return Some(part.clone()),
    };
    Some(Part::new(part.name.clone(), &body))
}

fn closed_route(mut route: RoutePart) -> RoutePart {
    for rule in &mut route.rules {
        rule.action = RuleAction::Invalid { why: "too long".to_owned() };
    }
    route
}

pub(crate) fn claims_of(
    view: &View<'_>,
    world: &World,
    kind: Kind,
    key: &ObjectKey,
) -> Option<(Claimant, BTreeSet<Claim>)> {
    let (meta, claims): (&ObjectMeta, _) = match kind {
        Kind::Stage => world.stages.get(key).map(|stage| (&stage.metadata, stages::claims(stage)))?,
        Kind::ApiRoute => world.api_routes.get(key).map(|route| (&route.metadata, routes::claims(key, route)))?,
        Kind::ApiKey => world.api_keys.get(key).map(|k| (&k.metadata, api_keys::claims(view, key, k)))?,
        _ => return None,
    };
    (!claims.is_empty()).then(|| (Claimant::new(kind, key, meta), claims))
}

/// Translates one object; none when it is gone.
pub(crate) fn object(view: &View<'_>, world: &World, kind: Kind, key: &ObjectKey) -> Option<Output> {
    if let Some(unparsable) = world.unparsable.get(&(kind, key.clone())) {
        let mut problems = Problems::default();
        problems.invalid("", format_args!("The object cannot be read: {}", unparsable.why));
        let mut output = Output::default();
        let own = own_part(kind, key);
        finish(&mut output, kind, key, unparsable.generation, &problems, [own].into(), Detail::None);
        return Some(output);
    }
    let mut problems = Problems::default();
    let mut output = Output::default();
    let mut parts: Vec<(PartName, PartBody)> = Vec::new();
    let mut expected: BTreeSet<PartName> = [own_part(kind, key)].into();
    let mut detail = Detail::None;
    let meta: &ObjectMeta;
    match kind {
        Kind::Stage => {
            let stage = world.stages.get(key)?;
            meta = &stage.metadata;
            let (part, secret) = stages::translate(view, key, stage, &mut problems);
            parts.extend(part.map(|part| (stages::part_name(key), part)));
            expected.extend(secret.as_ref().map(stages::certificate_name));
            output.needs.extend(secret.map(Unit::Certificate));
            detail = Detail::Stage { routes: 0 };
        }
        Kind::ApiRoute => {
            let route = world.api_routes.get(key)?;
            meta = &route.metadata;
            let translated = routes::translate(view, key, route, &mut problems);
            parts.extend(translated.parts.into_iter().map(|(name, part)| (name, PartBody::Route(part))));
            output.needs = translated.upstreams.into_iter().map(|(key, port)| Unit::Upstream(key, port)).collect();
            output.rules = translated.rules;
        }
        Kind::Authorizer => {
            let authorizer = world.authorizers.get(key)?;
            meta = &authorizer.metadata;
            parts.push((own_part(kind, key), authorizers::translate(view, key, authorizer, &mut problems)));
        }
        Kind::UsagePlan => {
            let plan = world.usage_plans.get(key)?;
            meta = &plan.metadata;
            parts.push((own_part(kind, key), usage_plans::translate(view, key, plan, &mut problems)));
        }
        Kind::ApiKey => {
            let api_key = world.api_keys.get(key)?;
            meta = &api_key.metadata;
            let translated = api_keys::translate(view, key, api_key, &mut problems);
            output.key = translated.entry;
            let api_keys::Translated { prefix, secret, must_generate, .. } = translated;
            detail = Detail::ApiKey { prefix, secret, must_generate };
        }
        _ => return None,
    }
    output.created = created(meta);
    for (name, body) in parts {
        expected.insert(name.clone());
        output.parts.extend(fitting(Part::new(name, &body), &mut problems).map(Arc::new));
    }
    let entry = output.key.as_ref().map_or(0, api_keys::weight);
    output.weight = entry + output.parts.iter().map(|part| budget::weight(part)).sum::<usize>();
    finish(&mut output, kind, key, meta.generation, &problems, expected, detail);
    Some(output)
}

/// The part, or its place when it is longer than proxies take.
fn fitting(part: Part, problems: &mut Problems) -> Option<Part> {
    if part.json.len() <= MAX_PART_BYTES {
        return Some(part);
    }
    let bytes = part.json.len();
    problems.invalid(
        "spec",
        format_args!("the object makes {bytes} bytes of configuration; at most {MAX_PART_BYTES} are served"),
    );
    closed(&part).filter(|part| part.json.len() <= MAX_PART_BYTES)
}

pub(crate) fn own_part(kind: Kind, key: &ObjectKey) -> PartName {
    match kind {
        Kind::Stage => stages::part_name(key),
        Kind::Authorizer => authorizers::part_name(key),
        Kind::UsagePlan => usage_plans::part_name(key),
        Kind::ApiKey => api_keys::shard_name(api_keys::shard_of(key)),
        _ => routes::part_name(key),
    }
}

fn finish(
    output: &mut Output,
    kind: Kind,
    key: &ObjectKey,
    generation: Option<i64>,
    problems: &Problems,
    parts: BTreeSet<PartName>,
    detail: Detail,
) {
    let nothing = output.parts.is_empty() && output.key.is_none() && problems.count() > 0;
    let mut conditions = problems.conditions(generation);
    if kind == Kind::ApiKey
        && let Detail::ApiKey { must_generate: true, .. } = detail
        && let Some(accepted) = conditions.iter_mut().find(|c| c.type_ == ACCEPTED && c.status == Status::True)
    {
        accepted.status = Status::Unknown;
        accepted.reason = reason::PENDING;
        accepted.message = "The operator is making the key.".to_owned();
    }
    debug_assert!(conditions.iter().all(|c: &condition::Wanted| c.type_ == ACCEPTED || c.type_ == RESOLVED_REFS));
    let wanted = Wanted {
        conditions,
        generation,
        parts,
        served: if nothing { Served::Nothing } else { Served::Yes },
        detail,
        problems: problems.reasons().collect(),
    };
    output.status = Some((kind.object(key), wanted));
}
