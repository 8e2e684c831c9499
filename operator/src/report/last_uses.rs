//! The times of the last uses of access keys that statuses should have. A status is written for a use only if it is much later
//! than the one before.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sluice_crds::principal::{AccessKeyStatus, MAX_STATUS_KEYS};
use sluice_wire::ObjectRef;

/// The least time between two times that are written.
const PAUSE: SignedDuration = SignedDuration::from_hours(1);

/// Times by the id of an access key.
pub(super) type Times = BTreeMap<String, Timestamp>;

/// Times that are not in statuses yet.
#[derive(Debug, Default)]
pub(super) struct LastUses(HashMap<ObjectRef, Times>);

impl LastUses {
    /// A key was used; whether a status has to be written for it. `recorded` is what the status has.
    pub(super) fn used(&mut self, object: &ObjectRef, id: &str, at: Timestamp, recorded: &[AccessKeyStatus]) -> bool {
        let pending = self.0.get(object).and_then(|times| times.get(id)).copied();
        let known = time_of(recorded, id).max(pending);
        if known.is_some_and(|known| at.duration_since(known) < PAUSE) {
            return false;
        }
        let times = self.0.entry(object.clone()).or_default();
        if times.len() >= MAX_STATUS_KEYS && !times.contains_key(id) {
            times.retain(|id, _| recorded.iter().any(|key| key.id == *id));
        }
        times.insert(id.to_owned(), at);
        true
    }

    /// A status has arrived.
    pub(super) fn arrived(&mut self, object: &ObjectRef, recorded: &[AccessKeyStatus]) {
        if let Some(times) = self.0.get_mut(object) {
            times.retain(|id, time| time_of(recorded, id).is_none_or(|recorded| recorded < *time));
            if times.is_empty() {
                self.0.remove(object);
            }
        }
    }

    /// The object is gone.
    pub(super) fn remove(&mut self, object: &ObjectRef) {
        self.0.remove(object);
    }

    /// The times that the status should have: never earlier than those that it has.
    pub(super) fn of(&self, object: &ObjectRef, recorded: &[AccessKeyStatus]) -> Times {
        let mut times = self.0.get(object).cloned().unwrap_or_default();
        for key in recorded {
            if let Some(Time(recorded)) = &key.last_used {
                let time = times.entry(key.id.clone()).or_insert(*recorded);
                *time = (*time).max(*recorded);
            }
        }
        times
    }
}

fn time_of(recorded: &[AccessKeyStatus], id: &str) -> Option<Timestamp> {
    let key = recorded.iter().find(|key| key.id == id)?;
    key.last_used.as_ref().map(|time| time.0)
}

/// Inserts the times into a status; whether there are any.
pub(super) fn insert(status: &mut Value, times: &Times) -> bool {
    let keys = status.get_mut("accessKeys").and_then(Value::as_array_mut);
    let mut inserted = false;
    for key in keys.into_iter().flatten() {
        if let Some(time) = key.get("id").and_then(Value::as_str).and_then(|id| times.get(id)) {
            key["lastUsed"] = json!(Time(*time));
            inserted = true;
        }
    }
    inserted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}:00Z").parse().unwrap()
    }

    fn recorded(id: &str, time: Option<&str>) -> AccessKeyStatus {
        AccessKeyStatus { id: id.to_owned(), last_used: time.map(|time| Time(at(time))) }
    }

    #[test]
    fn a_time_is_written_an_hour_after_the_one_before_at_the_earliest_and_never_goes_back() {
        let object = ObjectRef::new("Principal", "shop", "ann");
        let mut uses = LastUses::default();
        let none = [recorded("A", None), recorded("B", None)];
        let mut status = json!({"accessKeys": [{"id": "A"}, {"id": "B"}]});
        assert!(!insert(&mut status, &uses.of(&object, &none)));
        assert!(uses.used(&object, "A", at("10:00"), &none));
        for (time, is_written) in
            [("10:00", false), ("09:00", false), ("10:59", false), ("11:00", true), ("10:30", false)]
        {
            assert_eq!(uses.used(&object, "A", at(time), &none), is_written, "{time}");
        }
        assert!(insert(&mut status, &uses.of(&object, &none)));
        assert_eq!(status, json!({"accessKeys": [{"id": "A", "lastUsed": "2026-01-01T11:00:00Z"}, {"id": "B"}]}));
        // The status arrives, and the operator restarts.
        let written = [recorded("A", Some("11:00")), recorded("B", None)];
        uses.arrived(&object, &written);
        assert!(uses.0.is_empty());
        assert!(!uses.used(&object, "A", at("11:59"), &written) && !uses.used(&object, "A", at("08:00"), &written));
        assert_eq!(uses.of(&object, &written), Times::from([("A".to_owned(), at("11:00"))]));
        assert!(uses.used(&object, "B", at("08:00"), &written) && uses.used(&object, "A", at("12:00"), &written));
        // A status that another operator wrote with an earlier time does not remove the later one.
        uses.arrived(&object, &[recorded("A", Some("11:30"))]);
        assert_eq!(uses.of(&object, &written)["A"], at("12:00"));
        uses.remove(&object);
        assert!(uses.0.is_empty());
    }

    #[test]
    fn keys_that_were_replaced_take_no_place_for_ever() {
        let object = ObjectRef::new("Principal", "shop", "ann");
        let mut uses = LastUses::default();
        for number in 0..100 {
            assert!(uses.used(&object, &number.to_string(), at("10:00"), &[]));
        }
        assert!(uses.of(&object, &[]).len() <= MAX_STATUS_KEYS && uses.of(&object, &[]).contains_key("99"));
    }
}
