//! One object's status: what it should say, and whether it says so already. Writing it is `report`'s.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use serde_json::{Value, json};
use sluice_crds::condition::{self, PROGRAMMED, Status, TYPES, reason};
use sluice_crds::stage::ProxyCount;

use crate::publish::Programmed;
use crate::translate::{Detail, Wanted};
use crate::world::Object;

/// A change of a condition that is worth an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Transition {
    pub(crate) type_: &'static str,
    pub(crate) status: Status,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// A status that differs from the one there is.
#[derive(Debug)]
pub(crate) struct Patch {
    /// The status as server-side apply takes it.
    pub(crate) status: Value,
    /// What changed for people.
    pub(crate) transitions: Vec<Transition>,
}

/// What an object's status says right now.
pub(crate) struct Present {
    pub(crate) conditions: Vec<Condition>,
    pub(crate) generation: Option<i64>,
    detail: Value,
}

pub(crate) fn present(object: &Object) -> Present {
    let present = |conditions: Option<&Vec<Condition>>, generation: Option<i64>, detail| Present {
        conditions: conditions.cloned().unwrap_or_default(),
        generation,
        detail,
    };
    match object {
        Object::Stage(object) => {
            let status = object.status.as_ref();
            let detail = json!({
                "proxies": status.and_then(|status| status.proxies.as_ref()),
                "routes": status.and_then(|status| status.routes),
            });
            present(status.map(|s| &s.conditions), status.and_then(|s| s.observed_generation), detail)
        }
        Object::ApiKey(object) => {
            let status = object.status.as_ref();
            let detail = json!({
                "prefix": status.and_then(|status| status.prefix.as_ref()),
                "secretName": status.and_then(|status| status.secret_name.as_ref()),
            });
            present(status.map(|s| &s.conditions), status.and_then(|s| s.observed_generation), detail)
        }
        Object::ApiRoute(object) => {
            let status = object.status.as_ref();
            present(status.map(|s| &s.conditions), status.and_then(|s| s.observed_generation), Value::Null)
        }
        Object::Authorizer(object) => {
            let status = object.status.as_ref();
            present(status.map(|s| &s.conditions), status.and_then(|s| s.observed_generation), Value::Null)
        }
        Object::UsagePlan(object) => {
            let status = object.status.as_ref();
            present(status.map(|s| &s.conditions), status.and_then(|s| s.observed_generation), Value::Null)
        }
        _ => present(None, None, Value::Null),
    }
}

/// Whether what the status says about the fleet is kept for a while: right after a start the fleet is only just
/// connecting again, and every object would say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fleet {
    /// Connecting: a good word stays.
    Settling,
    /// As it is.
    Settled,
}

/// The patch that an object needs; none when its status says all there is to say.
pub(crate) fn patch(
    present: &Present,
    wanted: &Wanted,
    programmed: &Programmed,
    fleet: Fleet,
    now: &Time,
) -> Option<Patch> {
    let mut conditions = present.conditions.clone();
    let mut transitions = Vec::new();
    let mut changed = present.generation != wanted.generation;
    let kept = fleet == Fleet::Settling && keeps(present, wanted, programmed);
    let fleet_says = (!kept).then_some(&programmed.condition);
    for condition in wanted.conditions.iter().chain(fleet_says) {
        let before = condition::find(&conditions, condition.type_).map(|before| before.status.clone());
        if !condition::set_condition(&mut conditions, condition, now) {
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
    let detail = if kept { kept_detail(present, wanted) } else { detail(wanted, programmed) };
    changed |= detail != present.detail;
    if !changed {
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
    Some(Patch { status, transitions })
}

fn keeps(present: &Present, wanted: &Wanted, programmed: &Programmed) -> bool {
    let before = condition::find(&present.conditions, PROGRAMMED);
    let good = before.is_some_and(|before| before.status == "True" && before.observed_generation == wanted.generation);
    good && programmed.condition.reason != reason::REJECTED
}

fn detail(wanted: &Wanted, programmed: &Programmed) -> Value {
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    match &wanted.detail {
        Detail::None => Value::Null,
        Detail::Stage { routes } => json!({
            "proxies": ProxyCount::new(count(programmed.serving), count(programmed.total)),
            "routes": count(*routes),
        }),
        Detail::ApiKey { prefix, secret, .. } => json!({"prefix": prefix, "secretName": secret}),
    }
}

fn kept_detail(present: &Present, wanted: &Wanted) -> Value {
    match &wanted.detail {
        Detail::Stage { routes } => json!({
            "proxies": present.detail.get("proxies"),
            "routes": i32::try_from(*routes).unwrap_or(i32::MAX),
        }),
        _ => detail(
            wanted,
            &Programmed {
                condition: condition::Wanted {
                    type_: PROGRAMMED,
                    status: Status::Unknown,
                    reason: reason::PENDING,
                    message: String::new(),
                    observed_generation: None,
                },
                serving: 0,
                total: 0,
            },
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sluice_crds::Stage;
    use sluice_wire::ObjectRef;

    use super::*;
    use crate::publish::{Published, programmed};
    use crate::translate::translate;
    use crate::world::World;

    fn time(second: u8) -> Time {
        serde_json::from_value(json!(format!("2026-01-01T00:00:{second:02}Z"))).unwrap()
    }

    fn stage(status: &Value) -> Stage {
        serde_json::from_value(json!({
            "metadata": {"name": "prod", "namespace": "shop", "generation": 2}, "spec": {}, "status": status,
        }))
        .unwrap()
    }

    /// The patch for a stage that says `status`, without any proxy.
    fn patch_of(status: &Value, fleet: Fleet, second: u8) -> Option<Patch> {
        let stage = stage(status);
        let translation = translate(&World::from_objects([stage.clone().into()]));
        let object = ObjectRef::new("Stage", "shop", "prod");
        let wanted = translation.statuses[&object].clone();
        let judged = programmed(&object, &wanted, &Published::new(translation.parts), &BTreeMap::new());
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
    fn while_the_fleet_connects_a_good_word_stays_and_then_the_truth_is_told() {
        let mut status = patch_of(&Value::Null, Fleet::Settled, 1).unwrap().status;
        let programmed = &mut status["conditions"][2];
        programmed["status"] = json!("True");
        programmed["reason"] = json!("Programmed");
        programmed["message"] = json!("2 of 2 proxies");
        status["proxies"] = json!({"serving": 2, "total": 2, "summary": "2/2"});
        assert!(patch_of(&status, Fleet::Settling, 5).is_none());
        let late = patch_of(&status, Fleet::Settled, 5).unwrap();
        assert_eq!(late.status["conditions"][2]["reason"], "NoProxies");
        assert_eq!(late.status["conditions"][2]["lastTransitionTime"], "2026-01-01T00:00:05Z");
        assert_eq!(late.status["conditions"][0]["lastTransitionTime"], "2026-01-01T00:00:01Z");
        // What was said about an older generation is no good word about this one.
        status["conditions"][2]["observedGeneration"] = json!(1);
        assert!(patch_of(&status, Fleet::Settling, 5).is_some());
    }

    #[test]
    fn conditions_of_other_writers_are_not_applied_by_us() {
        let mut status = patch_of(&Value::Null, Fleet::Settled, 1).unwrap().status;
        let mut other = status["conditions"][0].clone();
        other["type"] = json!("example.org/Audited");
        status["conditions"].as_array_mut().unwrap().push(other);
        assert!(patch_of(&status, Fleet::Settled, 2).is_none());
        status["routes"] = json!(9);
        let patch = patch_of(&status, Fleet::Settled, 2).unwrap();
        assert_eq!(patch.status["conditions"].as_array().unwrap().len(), 3);
    }
}
