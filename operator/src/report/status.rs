//! Compares the status that an object has with the one that it should have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sluice_crds::condition::{self, DesiredCondition, PROGRAMMED, Status, TYPES, WARNINGS, reason};
use sluice_crds::stage::ProxyCount;

use crate::objects::{Kind, Object, ObjectKey, Own as _, for_own_kind, for_own_object};
use crate::publish::Programmed;
use crate::report::last_uses::{self, Times};
use crate::translate::{DesiredStatus, Detail, Translate as _};
use crate::warning;

/// A change of a condition for which an Event is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) type_: &'static str,
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A status that differs from the present one.
#[derive(Debug)]
pub(crate) struct Patch {
    /// The status as server-side apply takes it.
    pub(crate) status: Value,
    /// The changes for which Events are written.
    pub(crate) transitions: Vec<Transition>,
    /// Whether nothing but the number of proxies differs.
    pub(crate) recounts: bool,
    /// Whether it records the time of a claim or of the last use of an access key. Such a patch must not replace a status that is
    /// newer than the one that it was made from: another operator may have recorded a time.
    pub(crate) records_times: bool,
}

/// The times that a status is written with.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Of conditions.
    pub(crate) now: Time,
    /// Of new claims: later than those of all claims that are recorded, even if clocks differ.
    pub(crate) claims: Timestamp,
    /// Of the last uses of access keys.
    pub(super) last_uses: Times,
}

/// The present status of an object.
pub(crate) struct Present {
    kind: Kind,
    namespace: String,
    pub(crate) conditions: Vec<Condition>,
    /// Of a route: its conditions by Stage.
    stages: Vec<(ObjectKey, Vec<Condition>)>,
    pub(crate) generation: Option<i64>,
    detail: Value,
}

impl Present {
    /// The conditions of a route at one of its Stages.
    pub(crate) fn at_stage(&self, stage: &ObjectKey) -> &[Condition] {
        let found = self.stages.iter().find(|(known, _)| known == stage);
        found.map(|(_, conditions)| conditions.as_slice()).unwrap_or_default()
    }
}

/// The present status of an object.
pub(crate) fn present(object: &Object) -> Present {
    let (kind, key) = object.identity();
    let namespace = key.namespace;
    let present = for_own_object!(object, object => Present {
        kind,
        namespace: namespace.clone(),
        stages: object.present_stages(),
        conditions: object.conditions().to_vec(),
        generation: object.observed_generation(),
        detail: object.present_detail(),
    });
    present.unwrap_or_else(|| Present {
        kind,
        namespace,
        conditions: Vec::new(),
        stages: Vec::new(),
        generation: None,
        detail: Value::Null,
    })
}

/// Whether the proxies had time to connect. Right after a start of the operator they are still reconnecting; without this
/// every status would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fleet {
    /// Proxies are connecting: a condition that is True remains True.
    Settling,
    /// They are connected.
    Settled,
}

/// The patch that an object needs; none when its status is up to date. `stages` is what the proxies add to each of the
/// Stages of a route.
pub(crate) fn patch(
    present: &Present,
    desired: &DesiredStatus,
    programmed: &Programmed,
    stages: &[Programmed],
    fleet: Fleet,
    clock: &Clock,
) -> Option<Patch> {
    let now = &clock.now;
    let mut conditions = present.conditions.clone();
    let mut changes = Changes { changed: present.generation != desired.generation, ..Changes::default() };
    let kept = fleet == Fleet::Settling && keeps(&present.conditions, desired, programmed);
    merge(&mut conditions, desired, (!kept).then_some(&programmed.condition), &mut changes, now);
    warn(&mut conditions, desired, &mut changes, now);
    let at_stages = at_stages(present, desired, stages, fleet, &mut changes, now);
    let kept_proxies = || present.detail.get("proxies").cloned().unwrap_or_default();
    let proxies = if kept { kept_proxies() } else { counted_proxies(programmed) };
    let mut detail = detail(present.kind, desired, proxies, clock.claims);
    let used = last_uses::insert(&mut detail, &clock.last_uses);
    let (rest, present_rest) = (without_counts(&detail), without_counts(&present.detail));
    changes.changed |= rest != present_rest;
    changes.counted |= detail != present.detail;
    if !changes.changed && !changes.counted {
        return None;
    }
    conditions.retain(|condition| TYPES.contains(&condition.type_.as_str()));
    let mut status = json!({"conditions": conditions});
    if let Some(fields) = status.as_object_mut() {
        if let Some(generation) = desired.generation {
            fields.insert("observedGeneration".to_owned(), json!(generation));
        }
        if !at_stages.is_empty() {
            fields.insert("stages".to_owned(), Value::Array(at_stages));
        }
        if let Value::Object(detail) = detail {
            fields.extend(detail.into_iter().filter(|(_, value)| !value.is_null()));
        }
    }
    let claims = matches!(&desired.detail, Detail::Stage { claims, .. } if claims.has_new());
    Some(Patch { status, transitions: changes.transitions, recounts: !changes.changed, records_times: claims || used })
}

/// How a status differs from the present one.
#[derive(Default)]
struct Changes {
    changed: bool,
    /// Whether a number of proxies differs.
    counted: bool,
    transitions: Vec<Transition>,
}

/// Sets the desired conditions among the present ones.
fn merge(
    conditions: &mut Vec<Condition>,
    desired: &DesiredStatus,
    programmed: Option<&condition::DesiredCondition>,
    changes: &mut Changes,
    now: &Time,
) {
    for condition in desired.conditions.iter().chain(programmed) {
        let before = condition::find(conditions, condition.type_);
        let recount = before.is_some_and(|before| recounts(before, condition));
        let before = before.map(|before| before.status.clone());
        if !condition::set_condition(conditions, condition, now) {
            continue;
        }
        if recount {
            changes.counted = true;
            continue;
        }
        changes.changed = true;
        let good_news = before.is_none() && condition.status != Status::False;
        let flipped = before.is_none_or(|before| before != condition.status.as_str()) && !good_news;
        if flipped && condition.reason != reason::PENDING && condition.reason != reason::NO_PROXIES {
            changes.transitions.push(Transition {
                type_: condition.type_,
                status: condition.status,
                reason: condition.reason,
                message: condition.message.clone(),
            });
        }
    }
}

/// Sets the condition `Warnings`, or removes it when no warning holds.
fn warn(conditions: &mut Vec<Condition>, desired: &DesiredStatus, changes: &mut Changes, now: &Time) {
    let Some(condition) = warning::condition(&desired.warnings, now.0.as_second(), desired.generation) else {
        let before = conditions.len();
        conditions.retain(|condition| condition.type_ != WARNINGS);
        changes.changed |= conditions.len() != before;
        return;
    };
    let is_new = condition::find(conditions, WARNINGS).is_none_or(|before| before.reason != condition.reason);
    if condition::set_condition(conditions, &condition, now) {
        changes.changed = true;
        if is_new {
            let DesiredCondition { type_, status, reason, message, .. } = condition;
            changes.transitions.push(Transition { type_, status, reason, message });
        }
    }
}

/// The status of a route at each of its Stages. Events are written for the conditions of the whole object only.
fn at_stages(
    present: &Present,
    desired: &DesiredStatus,
    programmed: &[Programmed],
    fleet: Fleet,
    changes: &mut Changes,
    now: &Time,
) -> Vec<Value> {
    let mut all = Vec::new();
    for ((stage, desired), programmed) in desired.stages.iter().zip(programmed) {
        let before = present.stages.iter().find(|(known, _)| known == stage);
        let mut conditions = before.map(|(_, conditions)| conditions.clone()).unwrap_or_default();
        let kept = fleet == Fleet::Settling && keeps(&conditions, desired, programmed);
        let mut here = Changes::default();
        merge(&mut conditions, desired, (!kept).then_some(&programmed.condition), &mut here, now);
        changes.changed |= here.changed;
        changes.counted |= here.counted;
        conditions.retain(|condition| TYPES.contains(&condition.type_.as_str()));
        let mut status = json!({"name": stage.name, "conditions": conditions});
        if stage.namespace != present.namespace {
            status["namespace"] = json!(stage.namespace);
        }
        all.push(status);
    }
    let before = present.stages.iter().map(|(stage, _)| stage);
    changes.changed |= !before.eq(desired.stages.iter().map(|(stage, _)| stage));
    all
}

/// Whether nothing but the number of proxies differs.
fn recounts(before: &Condition, desired: &condition::DesiredCondition) -> bool {
    let total = |message: &str| message.split_once(" of ").map(|(_, total)| total.to_owned());
    let (old, new) = (total(&before.message), total(&desired.message));
    desired.type_ == PROGRAMMED
        && before.status == desired.status.as_str()
        && before.reason == desired.reason
        && matches!(desired.reason, reason::PROGRAMMED | reason::PENDING)
        && before.observed_generation == desired.observed_generation
        && old != new
}

/// A detail without the number of proxies.
fn without_counts(detail: &Value) -> Value {
    let mut detail = detail.clone();
    if let Some(fields) = detail.as_object_mut() {
        fields.remove("proxies");
    }
    detail
}

fn keeps(present: &[Condition], desired: &DesiredStatus, programmed: &Programmed) -> bool {
    let before = condition::find(present, PROGRAMMED);
    let good = before.is_some_and(|before| before.status == "True" && before.observed_generation == desired.generation);
    good && !programmed.contradicted && programmed.condition.reason != reason::REJECTED
}

fn counted_proxies(programmed: &Programmed) -> Value {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    json!(ProxyCount::new(count(programmed.serving), count(programmed.total)))
}

fn detail(kind: Kind, desired: &DesiredStatus, proxies: Value, now: Timestamp) -> Value {
    for_own_kind!(kind, K => K::desired_detail(&desired.detail, proxies, now)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
