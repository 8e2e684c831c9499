//! Conditions: types, reasons, and merging a desired condition into the conditions of an object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::{Schema, SchemaGenerator, json_schema};

/// The object is valid and does not conflict with an older one.
pub const ACCEPTED: &str = "Accepted";
/// Each referenced object exists and is usable.
pub const RESOLVED_REFS: &str = "ResolvedRefs";
/// Each connected proxy serves this generation of the object.
pub const PROGRAMMED: &str = "Programmed";
/// The object is valid, but probably not what its author meant. An object without warnings does not have this condition.
pub const WARNINGS: &str = "Warnings";

/// The condition types of all kinds, in display order.
pub const TYPES: [&str; 4] = [ACCEPTED, RESOLVED_REFS, PROGRAMMED, WARNINGS];

/// What a reason looks like.
pub(crate) const REASON: &str = "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";

/// The longest message that the API server accepts; longer ones are cut.
pub const MAX_MESSAGE_BYTES: usize = 32_768;

/// Reasons of conditions. Once released, a reason is API.
pub mod reason {
    /// `Accepted` is true.
    pub const ACCEPTED: &str = "Accepted";
    /// A field has an invalid value.
    pub const INVALID: &str = "Invalid";
    /// An older object already claims what this one claims.
    pub const CONFLICTED: &str = "Conflicted";
    /// The Stage does not exist.
    pub const STAGE_NOT_FOUND: &str = "StageNotFound";
    /// The Stage is in another namespace, and does not accept ApiRoutes of this one or does not exist.
    pub const NOT_ALLOWED_BY_STAGE: &str = "NotAllowedByStage";
    /// The Stage exists and is not served; its own `Accepted` condition has the reason.
    pub const STAGE_NOT_SERVED: &str = "StageNotServed";
    /// The namespace exceeds its configuration quota.
    pub const QUOTA_EXCEEDED: &str = "QuotaExceeded";
    /// Not decided yet; with `Programmed`: `n of m proxies`.
    pub const PENDING: &str = "Pending";

    /// `ResolvedRefs` is true.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// The object is in another namespace, and no ReferenceGrant there permits the reference.
    pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    /// The Service does not exist.
    pub const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    /// The Service has no such port.
    pub const PORT_NOT_FOUND: &str = "PortNotFound";
    /// The `appProtocol` of the Service's port is not one that proxies support.
    pub const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
    /// The Authorizer does not exist.
    pub const AUTHORIZER_NOT_FOUND: &str = "AuthorizerNotFound";
    /// The issuer of the cluster's tokens, or its key set, cannot be read.
    pub const ISSUER_NOT_FOUND: &str = "IssuerNotFound";
    /// The Secret does not exist.
    pub const SECRET_NOT_FOUND: &str = "SecretNotFound";
    /// The Secret exists, and the required content is missing or invalid.
    pub const SECRET_INVALID: &str = "SecretInvalid";
    /// The ConfigMap does not exist.
    pub const CONFIG_MAP_NOT_FOUND: &str = "ConfigMapNotFound";
    /// The ConfigMap exists, and the required content is missing or invalid.
    pub const CONFIG_MAP_INVALID: &str = "ConfigMapInvalid";
    /// The UsagePlan does not exist.
    pub const PLAN_NOT_FOUND: &str = "PlanNotFound";
    /// The ApiRoute does not exist.
    pub const ROUTE_NOT_FOUND: &str = "RouteNotFound";
    /// The ApiRoute exists and has no such rule.
    pub const RULE_NOT_FOUND: &str = "RuleNotFound";

    /// `Programmed` is true.
    pub const PROGRAMMED: &str = "Programmed";
    /// A proxy could not use the object.
    pub const REJECTED: &str = "Rejected";
    /// No proxy is connected.
    pub const NO_PROXIES: &str = "NoProxies";

    /// `Warnings` is true with several codes; with one, the code is the reason.
    pub const SEVERAL_WARNINGS: &str = "SeveralWarnings";

    /// Every reason of the `Accepted` condition.
    pub const ALL_ACCEPTED: &[&str] = &[
        ACCEPTED,
        INVALID,
        CONFLICTED,
        STAGE_NOT_FOUND,
        NOT_ALLOWED_BY_STAGE,
        STAGE_NOT_SERVED,
        QUOTA_EXCEEDED,
        PENDING,
    ];
    /// Every reason of the `ResolvedRefs` condition.
    pub const ALL_RESOLVED_REFS: &[&str] = &[
        RESOLVED_REFS,
        REF_NOT_PERMITTED,
        BACKEND_NOT_FOUND,
        PORT_NOT_FOUND,
        UNSUPPORTED_PROTOCOL,
        AUTHORIZER_NOT_FOUND,
        ISSUER_NOT_FOUND,
        SECRET_NOT_FOUND,
        SECRET_INVALID,
        CONFIG_MAP_NOT_FOUND,
        CONFIG_MAP_INVALID,
        STAGE_NOT_FOUND,
        PLAN_NOT_FOUND,
        ROUTE_NOT_FOUND,
        RULE_NOT_FOUND,
    ];
    /// Every reason of the `Programmed` condition.
    pub const ALL_PROGRAMMED: &[&str] = &[PROGRAMMED, PENDING, REJECTED, NO_PROXIES];
}

/// The three states of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// True.
    True,
    /// False.
    False,
    /// Not known yet.
    Unknown,
}

impl Status {
    /// The value in the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// A desired condition, without times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DesiredCondition {
    /// One of [`TYPES`].
    pub type_: &'static str,
    /// The status.
    pub status: Status,
    /// A constant of [`reason`], or the code of a warning.
    pub reason: &'static str,
    /// The message, in complete sentences; cut at [`MAX_MESSAGE_BYTES`].
    pub message: String,
    /// The generation of the object. None: it has none.
    pub observed_generation: Option<i64>,
}

/// Merges `desired` into `conditions` and returns whether anything but times changed.
///
/// `lastTransitionTime` becomes `now` only when the status flips or the condition is new. Conditions of other types,
/// also those of other writers, are not changed.
pub fn set_condition(conditions: &mut Vec<Condition>, desired: &DesiredCondition, now: &Time) -> bool {
    let message = cut(&desired.message);
    let status = desired.status.as_str();
    let Some(current) = conditions.iter_mut().find(|condition| condition.type_ == desired.type_) else {
        conditions.push(Condition {
            type_: desired.type_.to_owned(),
            status: status.to_owned(),
            reason: desired.reason.to_owned(),
            message: message.to_owned(),
            observed_generation: desired.observed_generation,
            last_transition_time: now.clone(),
        });
        return true;
    };
    let equal = current.status == status
        && current.reason == desired.reason
        && current.message == message
        && current.observed_generation == desired.observed_generation;
    if equal {
        return false;
    }
    if current.status != status {
        current.last_transition_time = now.clone();
    }
    status.clone_into(&mut current.status);
    desired.reason.clone_into(&mut current.reason);
    message.clone_into(&mut current.message);
    current.observed_generation = desired.observed_generation;
    true
}

/// The condition of a type, if any.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Cuts a message at [`MAX_MESSAGE_BYTES`], at a character boundary.
fn cut(message: &str) -> &str {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message;
    }
    let end = (0..=MAX_MESSAGE_BYTES).rev().find(|end| message.is_char_boundary(*end)).unwrap_or(0);
    message.get(..end).unwrap_or_default()
}

/// The schema of `status.conditions`: a map keyed by `type`, so that several writers have their own entries.
pub(crate) fn conditions_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 16,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "reason", "message", "lastTransitionTime"],
            "properties": {
                "type": {
                    "type": "string", "maxLength": 316,
                    "description": "Type of the condition: Accepted, ResolvedRefs, Programmed or Warnings.",
                },
                "status": {
                    "type": "string", "enum": ["True", "False", "Unknown"],
                    "description": "Status of the condition: True, False or Unknown.",
                },
                "reason": {
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": REASON,
                    "description": "Machine-readable reason of the status, in CamelCase.",
                },
                "message": {
                    "type": "string", "maxLength": MAX_MESSAGE_BYTES,
                    "description": "Human-readable details of the status.",
                },
                "observedGeneration": {
                    "type": "integer", "format": "int64", "minimum": 0,
                    "description": "The generation of the object that the condition is about.",
                },
                "lastTransitionTime": {
                    "type": "string", "format": "date-time",
                    "description": "When the status last changed.",
                },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: i64) -> Time {
        serde_json::from_value(serde_json::json!(format!("2026-01-01T00:00:{second:02}Z"))).unwrap()
    }

    fn desired(status: Status, message: &str) -> DesiredCondition {
        DesiredCondition {
            type_: PROGRAMMED,
            status,
            reason: reason::PENDING,
            message: message.to_owned(),
            observed_generation: Some(1),
        }
    }

    #[test]
    fn a_time_moves_only_when_the_status_flips() {
        let mut conditions = Vec::new();
        assert!(set_condition(&mut conditions, &desired(Status::False, "1 of 2 proxies"), &time(1)));
        assert!(set_condition(&mut conditions, &desired(Status::False, "2 of 3 proxies"), &time(2)));
        assert_eq!(conditions[0].last_transition_time, time(1));
        assert_eq!(conditions[0].message, "2 of 3 proxies");
        assert!(set_condition(&mut conditions, &desired(Status::True, "3 of 3 proxies"), &time(3)));
        assert_eq!(conditions[0].last_transition_time, time(3));
    }

    #[test]
    fn an_equal_state_changes_nothing() {
        let mut conditions = Vec::new();
        assert!(set_condition(&mut conditions, &desired(Status::True, "2 of 2 proxies"), &time(1)));
        let before = conditions.clone();
        assert!(!set_condition(&mut conditions, &desired(Status::True, "2 of 2 proxies"), &time(9)));
        assert_eq!(conditions, before);
    }

    #[test]
    fn conditions_of_others_stay() {
        let other = Condition {
            type_: "example.org/Audited".into(),
            status: "True".into(),
            reason: "Done".into(),
            message: String::new(),
            observed_generation: None,
            last_transition_time: time(0),
        };
        let mut conditions = vec![other.clone()];
        set_condition(&mut conditions, &desired(Status::True, "ok"), &time(1));
        assert_eq!(conditions[0], other);
        assert_eq!(conditions.len(), 2);
        assert!(find(&conditions, PROGRAMMED).is_some());
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_and_then_equals_itself() {
        let long = "ä".repeat(MAX_MESSAGE_BYTES);
        let mut conditions = Vec::new();
        assert!(set_condition(&mut conditions, &desired(Status::True, &format!("x{long}")), &time(1)));
        assert!(conditions[0].message.len() <= MAX_MESSAGE_BYTES);
        assert!(conditions[0].message.len() >= MAX_MESSAGE_BYTES - 1);
        assert!(!set_condition(&mut conditions, &desired(Status::True, &format!("x{long}")), &time(2)));
    }
}
