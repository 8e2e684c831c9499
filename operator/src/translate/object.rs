//! Translates one object to its parts and its desired status. Which objects are translated, and when, is decided by
//! `incremental`.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_crds::condition::{self, ACCEPTED, RESOLVED_REFS, Status, reason};
use sluice_wire::{MAX_PART_BYTES, Part, PartBody, PartName};

use crate::cluster_state::ClusterState;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::conflicts::{Claim, Claimant, created};
use crate::translate::desired::{DesiredStatus, Detail, Served};
use crate::translate::node::Node;
use crate::translate::output::{Output, closed};
use crate::translate::view::View;
use crate::translate::{api_keys, authorizers, budget, routes, stages, usage_plans};

pub(crate) fn claims_of(
    view: &View<'_>,
    state: &ClusterState,
    kind: Kind,
    key: &ObjectKey,
) -> Option<(Claimant, BTreeSet<Claim>)> {
    let (meta, claims): (&ObjectMeta, _) = match kind {
        Kind::Stage => state.stages.get(key).map(|stage| (&stage.metadata, stages::claims(stage)))?,
        Kind::ApiRoute => state.api_routes.get(key).map(|route| (&route.metadata, routes::claims(key, route)))?,
        Kind::ApiKey => state.api_keys.get(key).map(|k| (&k.metadata, api_keys::claims(view, key, k)))?,
        _ => return None,
    };
    (!claims.is_empty()).then(|| (Claimant::new(kind, key, meta), claims))
}

/// Translates one object; none when it is gone.
pub(crate) fn translate(view: &View<'_>, state: &ClusterState, kind: Kind, key: &ObjectKey) -> Option<Output> {
    if let Some(unparsable) = state.unparsable.get(&(kind, key.clone())) {
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
            let stage = state.stages.get(key)?;
            meta = &stage.metadata;
            let (part, secret) = stages::translate(view, key, stage, &mut problems);
            parts.extend(part.map(|part| (stages::part_name(key), part)));
            expected.extend(secret.as_ref().map(stages::certificate_name));
            output.needs.extend(secret.map(Node::Certificate));
            detail = Detail::Stage { routes: 0 };
        }
        Kind::ApiRoute => {
            let route = state.api_routes.get(key)?;
            meta = &route.metadata;
            let translated = routes::translate(view, key, route, &mut problems);
            parts.extend(translated.parts.into_iter().map(|(name, part)| (name, PartBody::Route(part))));
            output.needs = translated.upstreams.into_iter().map(|(key, port)| Node::Upstream(key, port)).collect();
            output.rules = translated.rules;
        }
        Kind::Authorizer => {
            let authorizer = state.authorizers.get(key)?;
            meta = &authorizer.metadata;
            parts.push((own_part(kind, key), authorizers::translate(view, key, authorizer, &mut problems)));
        }
        Kind::UsagePlan => {
            let plan = state.usage_plans.get(key)?;
            meta = &plan.metadata;
            parts.push((own_part(kind, key), usage_plans::translate(view, key, plan, &mut problems)));
        }
        Kind::ApiKey => {
            let api_key = state.api_keys.get(key)?;
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
    let wanted = DesiredStatus {
        conditions,
        generation,
        parts,
        served: if nothing { Served::Nothing } else { Served::Yes },
        detail,
        problems: problems.reasons().collect(),
    };
    output.status = Some((kind.object(key), wanted));
}
