//! Compares the status that an object has with the one that it should have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use sluice_crds::condition::{self, PROGRAMMED, Status, TYPES, reason};
use sluice_crds::stage::ProxyCount;

use crate::objects::{Kind, Object, Own as _, for_own_kind, for_own_object};
use crate::publish::Programmed;
use crate::translate::{DesiredStatus, Translate as _};

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
}

/// The present status of an object.
pub(crate) struct Present {
    kind: Kind,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) generation: Option<i64>,
    detail: Value,
}

/// The present status of an object.
pub(crate) fn present(object: &Object) -> Present {
    let (kind, _) = object.identity();
    let present = for_own_object!(object, object => Present {
        kind,
        conditions: object.conditions().to_vec(),
        generation: object.observed_generation(),
        detail: object.present_detail(),
    });
    present.unwrap_or_else(|| Present { kind, conditions: Vec::new(), generation: None, detail: Value::Null })
}

/// Whether the proxies had time to connect. Right after a start of the operator they are still reconnecting; without this
/// every status would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fleet {
    /// They are connecting: a condition that is True stays.
    Settling,
    /// They are connected.
    Settled,
}

/// The patch that an object needs; none when its status is up to date.
pub(crate) fn patch(
    present: &Present,
    wanted: &DesiredStatus,
    programmed: &Programmed,
    fleet: Fleet,
    now: &Time,
) -> Option<Patch> {
    let mut conditions = present.conditions.clone();
    let mut transitions = Vec::new();
    let mut changed = present.generation != wanted.generation;
    let mut counted = false;
    let kept = fleet == Fleet::Settling && keeps(present, wanted, programmed);
    let fleet_says = (!kept).then_some(&programmed.condition);
    for condition in wanted.conditions.iter().chain(fleet_says) {
        let before = condition::find(&conditions, condition.type_);
        let recount = before.is_some_and(|before| recounts(before, condition));
        let before = before.map(|before| before.status.clone());
        if !condition::set_condition(&mut conditions, condition, now) {
            continue;
        }
        if recount {
            counted = true;
            continue;
        }
        changed = true;
        let good_news = before.is_none() && condition.status != Status::False;
        let flipped = before.is_none_or(|before| before != condition.status.as_str()) && !good_news;
        if flipped && condition.reason != reason::PENDING && condition.reason != reason::NO_PROXIES {
            transitions.push(Transition {
                type_: condition.type_,
                status: condition.status,
                reason: condition.reason,
                message: condition.message.clone(),
            });
        }
    }
    let kept_proxies = || present.detail.get("proxies").cloned().unwrap_or_default();
    let proxies = if kept { kept_proxies() } else { counted_proxies(programmed) };
    let detail = detail(present.kind, wanted, proxies);
    let (rest, present_rest) = (without_counts(&detail), without_counts(&present.detail));
    changed |= rest != present_rest;
    counted |= detail != present.detail;
    if !changed && !counted {
        return None;
    }
    conditions.retain(|condition| TYPES.contains(&condition.type_.as_str()));
    let mut status = json!({"conditions": conditions});
    if let Some(fields) = status.as_object_mut() {
        if let Some(generation) = wanted.generation {
            fields.insert("observedGeneration".to_owned(), json!(generation));
        }
        if let Value::Object(detail) = detail {
            fields.extend(detail.into_iter().filter(|(_, value)| !value.is_null()));
        }
    }
    Some(Patch { status, transitions, recounts: !changed })
}

/// Whether nothing but the number of proxies differs.
fn recounts(before: &Condition, wanted: &condition::Wanted) -> bool {
    let total = |message: &str| message.split_once(" of ").map(|(_, total)| total.to_owned());
    let (old, new) = (total(&before.message), total(&wanted.message));
    wanted.type_ == PROGRAMMED
        && before.status == wanted.status.as_str()
        && before.reason == wanted.reason
        && matches!(wanted.reason, reason::PROGRAMMED | reason::PENDING)
        && before.observed_generation == wanted.observed_generation
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

fn keeps(present: &Present, wanted: &DesiredStatus, programmed: &Programmed) -> bool {
    let before = condition::find(&present.conditions, PROGRAMMED);
    let good = before.is_some_and(|before| before.status == "True" && before.observed_generation == wanted.generation);
    good && !programmed.contradicted && programmed.condition.reason != reason::REJECTED
}

fn counted_proxies(programmed: &Programmed) -> Value {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    json!(ProxyCount::new(count(programmed.serving), count(programmed.total)))
}

fn detail(kind: Kind, wanted: &DesiredStatus, proxies: Value) -> Value {
    for_own_kind!(kind, K => K::desired_detail(&wanted.detail, proxies)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use sluice_crds::Stage;
    use sluice_wire::{FleetName, Hash, Hello, ObjectRef, PartName, Parts};

    use super::*;
    use crate::cluster_state::ClusterState;
    use crate::metrics::Metrics;
    use crate::publish::{Current, Proxies, Rollout, programmed};
    use crate::translate::translate;

    fn time(second: u8) -> Time {
        serde_json::from_value(json!(format!("2026-01-01T00:00:{second:02}Z"))).unwrap()
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
        let wanted = translation.statuses[&object].clone();
        let judged = programmed(&object, &wanted, &Rollout::of(proxies, &Current::from(translation)));
        patch(&present(&Object::from(stage)), &wanted, &judged, fleet, &time(second))
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
