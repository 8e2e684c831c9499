//! Translates one object of any kind to its parts and its desired status. Which objects are translated, and when, is decided
//! by `incremental`; what each kind is translated to, by its own file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kube::Resource as _;
use sluice_wire::{KeyEntry, MAX_PART_BYTES, Part, PartName};

use crate::cluster_state::{ClusterState, Stored as _};
use crate::objects::{Kind, ObjectKey, for_own_kind};
use crate::problem::Problems;
use crate::translate::api_keys;
use crate::translate::budget;
use crate::translate::conflicts::{Claimant, Standing, age};
use crate::translate::desired::{DesiredStatus, Detail, Served};
use crate::translate::fleets::Links;
use crate::translate::kind::{AtStage, Translate, Translated};
use crate::translate::output::{self, Output};
use crate::translate::view::View;
use crate::warning::Warnings;

/// The claims of an object; none when it has none, or is gone. An object that cannot be parsed keeps what must not become
/// another's.
pub(crate) fn claims(view: &View<'_>, state: &ClusterState, kind: Kind, key: &ObjectKey) -> Option<Standing> {
    for_own_kind!(kind, K => {
        let (created, claims) = match K::store(state).get(key) {
            Some(object) => {
                let claims = object.claims(view, key).into_iter();
                let since = claims.map(|claim| (object.since(&claim), claim)).map(|(since, claim)| (claim, since));
                (object.meta().creation_timestamp.as_ref(), since.collect::<BTreeMap<_, _>>())
            }
            None => {
                let unparsable = state.unparsable.get(&(kind, key.clone()))?;
                let claims = K::claims_of_unparsable(unparsable).into_iter();
                let since = claims.map(|claim| (K::since_of_unparsable(unparsable, &claim), claim));
                (unparsable.created.as_ref(), since.map(|(since, claim)| (claim, since)).collect())
            }
        };
        (!claims.is_empty()).then(|| (Claimant::new(kind, key, created), claims))
    })?
}

/// Translates an object; none when it is gone.
pub(crate) fn translate(view: &View<'_>, state: &ClusterState, kind: Kind, key: &ObjectKey) -> Option<Output> {
    for_own_kind!(kind, K => one::<K>(view, state, key))?
}

fn one<K: Translate>(view: &View<'_>, state: &ClusterState, key: &ObjectKey) -> Option<Output> {
    let mut problems = Problems::default();
    let mut output = Output::default();
    let mut parts: BTreeSet<PartName> = [K::part_name(key)].into();
    let mut detail = Detail::None;
    let mut stages = Vec::new();
    let mut nothing = false;
    let mut warnings = Vec::new();
    let (generation, translated);
    if let Some(unparsable) = state.unparsable.get(&(K::KIND, key.clone())) {
        problems.invalid("", format_args!("The object cannot be parsed: {}", unparsable.why));
        generation = unparsable.generation;
        output.created = unparsable.created.as_ref().map(age);
        translated = K::translate_unparsable(view, key, unparsable);
    } else {
        let object = K::store(state).get(key)?;
        generation = object.meta().generation;
        output.created = object.meta().creation_timestamp.as_ref().map(age);
        translated = Some(object.translate(view, key, &mut problems));
        let mut found = Warnings::of(object.meta());
        object.warnings(view, key, &mut found);
        warnings = found.into_vec();
    }
    if let Some(translated) = translated {
        parts.extend(translated.relies_on);
        let Translated {
            parts: own,
            needs,
            key: entry,
            rules,
            detail: found,
            fleet: translated_fleet,
            stages: at_stages,
            closed,
            ..
        } = translated;
        (output.needs, output.rules, detail, nothing) = (needs, rules, found, closed);
        for (name, body) in own {
            parts.insert(name.clone());
            output.links.push((name.clone(), Links::of(&body, translated_fleet.as_ref())));
            output.parts.extend(fitting(Part::new(name, &body), &mut problems).map(Arc::new));
        }
        let own = K::part_name(key);
        stages =
            at_stages.into_iter().map(|at| (at.stage.clone(), status_at_stage(at, own.clone(), generation))).collect();
        output.weight = weight(&output.parts, entry.as_ref());
        output.key = entry;
    }
    nothing |= output.parts.is_empty() && output.key.is_none() && problems.count() > 0;
    let status = DesiredStatus {
        conditions: problems.conditions(generation),
        generation,
        parts,
        fleets: BTreeSet::new(),
        served: if nothing { Served::Nothing } else { Served::Yes },
        detail,
        warnings,
        problems: problems.reasons().collect(),
        stages,
    };
    output.status = Some((K::KIND.object(key), status));
    Some(output)
}

fn status_at_stage(AtStage { problems, part, .. }: AtStage, own: PartName, generation: Option<i64>) -> DesiredStatus {
    DesiredStatus {
        conditions: problems.conditions(generation),
        generation,
        served: if part.is_none() && problems.count() > 0 { Served::Nothing } else { Served::Yes },
        parts: part.into_iter().chain([own]).collect(),
        fleets: BTreeSet::new(),
        detail: Detail::None,
        warnings: Vec::new(),
        problems: Vec::new(),
        stages: Vec::new(),
    }
}

fn weight(parts: &[Arc<Part>], entry: Option<&KeyEntry>) -> usize {
    entry.map_or(0, api_keys::weight) + parts.iter().map(|part| budget::weight(part)).sum::<usize>()
}

/// The part, or its reduced form when it is longer than proxies accept.
fn fitting(part: Part, problems: &mut Problems) -> Option<Part> {
    if part.json.len() <= MAX_PART_BYTES {
        return Some(part);
    }
    let bytes = part.json.len();
    problems.invalid(
        "spec",
        format_args!("the object makes {bytes} bytes of configuration; at most {MAX_PART_BYTES} are served"),
    );
    output::closed(&part).filter(|part| part.json.len() <= MAX_PART_BYTES)
}
