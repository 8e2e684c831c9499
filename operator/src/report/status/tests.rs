//! Which patch a status needs.

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
    Clock { now: time(second), claims: time(second).0, last_uses: Times::new() }
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
    assert_eq!(first.status["conditions"][0]["reason"], "StageNotFound", "the summary has the problem of each Stage");
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
    assert!(first.records_times);
    let since = "2026-01-01T00:00:01.000000Z";
    assert_eq!(first.status["hostnames"], json!([{"name": "*", "since": since}]));
    assert_eq!(first.status["basePath"], json!({"path": "/", "fleet": "default", "since": since}));
    let mut status = first.status;
    status["rules"] = json!(9);
    let second = patch_of(&status, Fleet::Settled, 2).unwrap();
    assert!(!second.records_times);
    assert_eq!(second.status["hostnames"], json!([{"name": "*", "since": since}]));
    status["hostnames"] =
        json!([{"name": "gone.example", "since": since}, {"name": "*", "since": "2026-01-01T00:00:00Z"}]);
    status["basePath"]["path"] = json!("/gone");
    let third = patch_of(&status, Fleet::Settled, 3).unwrap();
    assert!(third.records_times);
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

#[test]
fn the_last_use_of_an_access_key_is_written_to_the_version_that_it_was_made_from() {
    let id = "SLCEAAAAAAAAAAAAAAA1";
    let objects = |status: &Value| {
        let principal = json!({
            "metadata": {"name": "ann", "namespace": "shop", "generation": 2},
            "spec": {"accessKeys": [{"secret": {"name": "key"}}]}, "status": status,
        });
        let secret = json!({
            "metadata": {"name": "key", "namespace": "shop"},
            "data": {"AWS_ACCESS_KEY_ID": "U0xDRUFBQUFBQUFBQUFBQUFBQTE=", "AWS_SECRET_ACCESS_KEY": "YWFhYWFhYWFhYWFhYWFhYQ=="},
        });
        [(Kind::Principal, principal), (Kind::Secret, secret)]
            .map(|(kind, object)| Object::parse(kind, object).unwrap())
    };
    let patched = |status: &Value, time: Option<&str>| {
        let [principal, secret] = objects(status);
        let translation = translate(&ClusterState::from_objects([principal.clone(), secret]));
        let object = ObjectRef::new("Principal", "shop", "ann");
        let desired = translation.statuses[&object].clone();
        let programmed = programmed(&object, &desired, &Rollout::of(&proxies(), &Current::from(translation)));
        let times = time.map(|time| (id.to_owned(), time.parse().unwrap()));
        let clock = Clock { last_uses: times.into_iter().collect(), ..clock(1) };
        patch(&present(&principal), &desired, &programmed, &[], Fleet::Settled, &clock)
    };
    let first = patched(&Value::Null, None).unwrap();
    assert_eq!(first.status["accessKeys"], json!([{"id": id}]));
    assert!(!first.records_times && patched(&first.status, None).is_none());
    let used = patched(&first.status, Some("2026-01-01T10:00:00Z")).unwrap();
    assert_eq!(used.status["accessKeys"], json!([{"id": id, "lastUsed": "2026-01-01T10:00:00Z"}]));
    assert!(used.records_times && used.transitions.is_empty());
    assert!(patched(&used.status, Some("2026-01-01T10:00:00Z")).is_none());
}
