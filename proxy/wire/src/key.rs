//! What ApiKeys and UsagePlans configure. Keys are here as SHA-256 digests only.

use serde::{Deserialize, Serialize};

use crate::{Hash, ObjectRef, PartName, Throttle};

/// One shard of keys, so that a changed key does not send all of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeysPart {
    /// Enabled keys only.
    pub keys: Vec<KeyEntry>,
}

/// One enabled key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// The ApiKey.
    pub object: ObjectRef,
    /// Whose key it is, for access logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// SHA-256 of the key.
    pub digest: Hash,
    /// Plan parts it belongs to, in order.
    pub plans: Vec<PartName>,
}

/// One UsagePlan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanPart {
    /// The UsagePlan.
    pub object: ObjectRef,
    /// Stages its keys may call.
    pub stages: Vec<PlanStage>,
    /// Each key's bucket over all stages of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
}

/// One stage of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanStage {
    /// The stage's part.
    pub stage: PartName,
    /// Each key's bucket for single rules.
    pub throttles: Vec<RuleThrottle>,
}

/// A bucket for one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleThrottle {
    /// The part that the whole ApiRoute has.
    pub route: PartName,
    /// Rule's name.
    pub rule: String,
    /// Its bucket.
    pub throttle: Throttle,
}
