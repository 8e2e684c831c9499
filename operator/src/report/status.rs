//! Compares the status that an object has with the one that it should have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sluice_crds::condition::{self, DesiredCondition, PROGRAMMED, Status, TYPES, WARNINGS, reason};
use sluice_crds::stage::ProxyCount;

use crate::objects::{Kind, Object, ObjectKey, Own as _, for_own_kind, for_own_object};
use crate::publish::Programmed;
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
    /// Whether it records the time of a claim. Such a patch must not replace a status that is newer than the one that it was
    /// made from: another operator may have recorded the time.
    pub(crate) claims: bool,
}

/// The times that a status is written with.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Of conditions.
    pub(crate) now: Time,
    /// Of new claims: later than those of all claims that are recorded, even if clocks differ.
    pub(crate) claims: Timestamp,
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
    let detail = detail(present.kind, desired, proxies, clock.claims);
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
    Some(Patch { status, transitions: changes.transitions, recounts: !changes.changed, claims })
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
mod tests {
    use sluice_crds::{ApiRoute, Stage};
    use sluice_wire::{FleetName, Hash, Hello, ObjectRef, PartName, Parts};

    use super::*;
    use crate::cluster_state::ClusterState;
    use crate::metrics::Metrics;
    use crate::publish::{Current, Proxies, Rollout, programmed};
    use crate::translate::translate;

    fn time(second: u8) -> Time {
        serde_json::from_value(json!(format!("2026-01-01T00:00:{second:02}Z"))).unwrap()
    }

    fn clock(second: u8) -> Clock {
        Clock { now: time(second), claims: time(second).0 }
    }

    fn stage(status: &Value) -> Stage {
        serde_json::from_value(json!({
            "metadata": {"name": "prod", "namespace": "shop", "generation": 2}, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    /// The patch for a Stage with this status, without any proxy.
    fn patch_of(status: &Value, fleet: Fleet, second: u8) -> Option<Patch> {
        patch_with(status, fleet, second, &proxies())
    }

    fn proxies() -> Proxies {
        Proxies::new(Metrics::new(&prometheus::Registry::new()).unwrap())
    }

    fn patch_with(status: &Value, fleet: Fleet, second: u8, proxies: &Proxies) -> Option<Patch> {
        let stage = stage(status);
        let translation = translate(&ClusterState::from_objects([stage.clone().into()]));
        let object = ObjectRef::new("Stage", "shop", "prod");
        let desired = translation.statuses[&object].clone();
        let programmed = programmed(&object, &desired, &Rollout::of(proxies, &Current::from(translation)));
        patch(&present(&Object::from(stage)), &desired, &programmed, &[], fleet, &clock(second))
    }

    /// The patch for a route at the Stage `prod`, which exists, and at `absent`, which does not.
    fn patch_of_route(status: &Value, proxies: &Proxies) -> Option<Patch> {
        let route: ApiRoute = serde_json::from_value(json!({
            "metadata": {"name": "orders", "namespace": "shop", "generation": 1},
            "spec": {
                "stages": [{"name": "prod"}, {"name": "absent"}], "authorization": {"type": "None"},
                "rules": [{"name": "a", "methods": ["GET"], "path": "/a", "integration": {"type": "Mock", "mock": {}}}],
            },
            "status": status,
        }))
        .unwrap();
        let translation = translate(&ClusterState::from_objects([stage(&Value::Null).into(), route.clone().into()]));
        let object = ObjectRef::new("ApiRoute", "shop", "orders");
        let desired = translation.statuses[&object].clone();
        let rollout = Rollout::of(proxies, &Current::from(translation));
        let stages: Vec<_> = desired.stages.iter().map(|(_, at)| programmed(&object, at, &rollout)).collect();
        let programmed = programmed(&object, &desired, &rollout);
        patch(&present(&Object::from(route)), &desired, &programmed, &stages, Fleet::Settled, &clock(1))
    }

    #[test]
    fn a_route_has_conditions_for_each_of_its_stages() {
        let proxies = proxies();
        let first = patch_of_route(&Value::Null, &proxies).unwrap();
        let summary = |stage: usize, condition: usize| {
            let condition = &first.status["stages"][stage]["conditions"][condition];
            format!("{} {}", condition["status"].as_str().unwrap(), condition["reason"].as_str().unwrap())
        };
        assert_eq!(first.status["stages"][0]["name"], "prod");
        assert_eq!((summary(0, 0), summary(0, 2)), ("True Accepted".to_owned(), "False NoProxies".to_owned()));
        assert_eq!((summary(1, 0), summary(1, 2)), ("False StageNotFound".to_owned(), "False Rejected".to_owned()));
        assert_eq!(
            first.status["conditions"][0]["reason"], "StageNotFound",
            "the summary has the problem of each Stage"
        );
        assert_eq!(first.transitions.len(), 1, "one Event for one problem: {:?}", first.transitions);
        assert!(patch_of_route(&first.status, &proxies).is_none());
        let mut changed = first.status.clone();
        changed["stages"][1]["name"] = json!("other");
        assert!(patch_of_route(&changed, &proxies).is_some(), "a Stage that is no longer named is removed");
    }

    #[test]
    fn a_status_that_was_written_needs_no_second_patch() {
        let first = patch_of(&Value::Null, Fleet::Settled, 1).unwrap();
        assert_eq!(first.status["observedGeneration"], 2);
        assert_eq!(first.status["proxies"]["summary"], "0/0");
        assert!(first.transitions.is_empty(), "a good start and a fleet that is not there yet are no events");
        assert!(patch_of(&first.status, Fleet::Settled, 9).is_none());
    }

    #[test]
    fn while_the_fleet_connects_a_true_condition_stays_and_is_then_updated() {
        let mut status = good();
        assert!(patch_of(&status, Fleet::Settling, 5).is_none());
        let late = patch_of(&status, Fleet::Settled, 5).unwrap();
        assert_eq!(late.status["conditions"][2]["reason"], "NoProxies");
        assert_eq!(late.status["conditions"][2]["lastTransitionTime"], "2026-01-01T00:00:05Z");
        assert_eq!(late.status["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:01Z");
        // A condition of an older generation is not kept.
        status["conditions"][2]["observedGeneration"] = json!(1);
        assert!(patch_of(&status, Fleet::Settling, 5).is_some());
    }

    #[test]
    fn the_time_of_a_claim_is_recorded_once_and_removed_with_the_claim() {
        let first = patch_of(&Value::Null, Fleet::Settled, 1).unwrap();
        assert!(first.claims);
        let since = "2026-01-01T00:00:01.000000Z";
        assert_eq!(first.status["hostnames"], json!([{"name": "*", "since": since}]));
        assert_eq!(first.status["basePath"], json!({"path": "/", "fleet": "default", "since": since}));
        let mut status = first.status;
        status["rules"] = json!(9);
        let second = patch_of(&status, Fleet::Settled, 2).unwrap();
        assert!(!second.claims);
        assert_eq!(second.status["hostnames"], json!([{"name": "*", "since": since}]));
        status["hostnames"] =
            json!([{"name": "gone.example", "since": since}, {"name": "*", "since": "2026-01-01T00:00:00Z"}]);
        status["basePath"]["path"] = json!("/gone");
        let third = patch_of(&status, Fleet::Settled, 3).unwrap();
        assert!(third.claims);
        assert_eq!(third.status["hostnames"], json!([{"name": "*", "since": "2026-01-01T00:00:00.000000Z"}]));
        assert_eq!(third.status["basePath"]["since"], "2026-01-01T00:00:03.000000Z");
    }

    fn good() -> Value {
        let mut status = patch_of(&Value::Null, Fleet::Settled, 1).unwrap().status;
        let programmed = &mut status["conditions"][2];
        programmed["status"] = json!("True");
        programmed["reason"] = json!("Programmed");
        programmed["message"] = json!("2 of 2 proxies");
        status["proxies"] = json!({"serving": 2, "total": 2, "summary": "2/2"});
        status
    }

    #[test]
    fn a_true_condition_does_not_stay_when_a_proxy_reports_another_version() {
        let proxies = proxies();
        let name = PartName::new(sluice_wire::PartKind::Stage, "shop/prod");
        let old: Parts<Hash> = [(name.clone(), Hash::of(b"old"))].into_iter().collect();
        let translation = translate(&ClusterState::from_objects([stage(&Value::Null).into()]));
        let same: Parts<Hash> = [(name.clone(), translation.parts.get(&name).unwrap().hash)].into_iter().collect();
        let _one = proxies.join(&Hello::new("one", "test"), same);
        assert!(patch_with(&good(), Fleet::Settling, 5, &proxies).is_none());
        let _two = proxies.join(&Hello::new("two", "test"), old);
        let patch = patch_with(&good(), Fleet::Settling, 5, &proxies).unwrap();
        assert_eq!(patch.status["conditions"][2]["status"], "False");
        assert!(!patch.recounts);
    }

    #[test]
    fn another_number_of_proxies_is_a_recount_and_a_flip_is_not() {
        let proxies = proxies();
        let translation = translate(&ClusterState::from_objects([stage(&Value::Null).into()]));
        let current = Current::from(translation);
        let members: Vec<_> = ["a", "b", "c"].map(|name| proxies.join(&Hello::new(name, "test"), Parts::new())).into();
        assert!(!patch_with(&good(), Fleet::Settled, 5, &proxies).unwrap().recounts);
        members.iter().for_each(|member| member.applied(current.of(&FleetName::default()), Vec::new()));
        let patch = patch_with(&good(), Fleet::Settled, 5, &proxies).unwrap();
        assert_eq!(patch.status["conditions"][2]["message"], "3 of 3 proxies");
        assert!(patch.recounts && patch.transitions.is_empty());
        let mut status = good();
        status["rules"] = json!(9);
        assert!(!patch_with(&status, Fleet::Settled, 5, &proxies).unwrap().recounts);
    }

    #[test]
    fn warnings_are_a_condition_that_appears_with_an_event_and_disappears() {
        let object = ObjectRef::new("Stage", "shop", "prod");
        let translation = translate(&ClusterState::from_objects([stage(&Value::Null).into()]));
        let mut desired = DesiredStatus::clone(&translation.statuses[&object]);
        let programmed = programmed(&object, &desired, &Rollout::of(&proxies(), &Current::from(translation)));
        let patch_of = |status: &Value, desired: &DesiredStatus, second: u8| {
            let present = present(&Object::from(stage(status)));
            // The time of its claims is the same each time.
            let clock = Clock { now: time(second), ..clock(1) };
            patch(&present, desired, &programmed, &[], Fleet::Settled, &clock)
        };
        let start = time(10).0.as_second();
        let warning = |code, from| warning::Warning { code, message: "Why.".to_owned(), from, until: None };
        desired.warnings = vec![warning(sluice_crds::warning::CERTIFICATE_EXPIRED, Some(start))];
        let before = patch_of(&Value::Null, &desired, 9).unwrap();
        assert_eq!(before.status["conditions"].as_array().unwrap().len(), 3);
        let after = patch_of(&before.status, &desired, 10).unwrap();
        let condition = after.status["conditions"].as_array().unwrap().last().unwrap().clone();
        assert_eq!((&condition["type"], &condition["status"]), (&json!("Warnings"), &json!("True")));
        assert_eq!((&condition["reason"], &condition["observedGeneration"]), (&json!("CertificateExpired"), &json!(2)));
        assert_eq!(after.transitions.len(), 1);
        assert!(patch_of(&after.status, &desired, 11).is_none());
        desired.warnings.push(warning(sluice_crds::warning::CERTIFICATE_NAME, None));
        let two = patch_of(&after.status, &desired, 12).unwrap();
        assert_eq!(two.status["conditions"].as_array().unwrap().last().unwrap()["reason"], "SeveralWarnings");
        desired.warnings.clear();
        let gone = patch_of(&two.status, &desired, 13).unwrap();
        assert_eq!(gone.status["conditions"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn conditions_of_other_writers_are_not_applied_by_us() {
        let mut status = patch_of(&Value::Null, Fleet::Settled, 1).unwrap().status;
        let mut other = status["conditions"][0].clone();
        other["type"] = json!("example.org/Audited");
        status["conditions"].as_array_mut().unwrap().push(other);
        assert!(patch_of(&status, Fleet::Settled, 2).is_none());
        status["rules"] = json!(9);
        let patch = patch_of(&status, Fleet::Settled, 2).unwrap();
        assert_eq!(patch.status["conditions"].as_array().unwrap().len(), 3);
    }
}
