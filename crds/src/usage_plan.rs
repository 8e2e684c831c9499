//! UsagePlan: the stages and throttles of API keys. ApiKeys reference their plans.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    condition::conditions_schema,
    field::{DNS_LABEL, Throttle},
    reference::Reference,
};

/// The stages for which the plan's keys are valid, and their throttles.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "UsagePlan",
    plural = "usageplans",
    shortname = "uplan",
    category = "sluice",
    namespaced,
    status = "UsagePlanStatus",
    derive = "PartialEq",
    doc = "A UsagePlan defines for which Stages its API keys are valid and how many requests each key may send (AWS: usage plan).",
    printcolumn(
        name = "Stage",
        type_ = "string",
        json_path = ".spec.stages[*].name",
        description = "The first stage of the plan."
    ),
    printcolumn(
        name = "Rate",
        type_ = "integer",
        json_path = ".spec.throttle.rate",
        description = "The number of requests that each key may send in a period."
    ),
    printcolumn(
        name = "Per",
        type_ = "string",
        json_path = ".spec.throttle.per",
        description = "The length of the period."
    ),
    printcolumn(
        name = "Burst",
        type_ = "integer",
        json_path = ".spec.throttle.burst",
        description = "The number of requests that each key may send at once."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the object is valid and has no conflict."
    ),
    printcolumn(
        name = "ResolvedRefs",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ResolvedRefs\")].status",
        description = "Whether each referenced object exists and is usable."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether each connected proxy serves this generation."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason",
        description = "Reason of the first condition that is False; empty if there is none."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "Message of the first condition that is False."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct UsagePlanSpec {
    /// The Stages for which the plan's keys are valid. From 1 to 32. Example: `[{name: prod}]`.
    #[schemars(
        length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x.name == y.name && (has(x.__namespace__) ? x.__namespace__ : '') == (has(y.__namespace__) ? y.__namespace__ : '')))",
            "message": "each Stage may be listed once"
        }])
    )]
    pub stages: Vec<PlanStage>,
    /// The throttle of each key, over all stages of the plan. Unset: keys have no throttle of their own; the throttles of
    /// rules and stages still apply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
}

/// A stage of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanStage {
    /// The Stage.
    #[serde(flatten)]
    pub stage: Reference,
    /// Throttles of each key for single rules in this stage, which apply before the plan's own throttle.
    /// Empty: none. At most 64. Example: `[{route: {name: orders}, rule: get-order, rate: 5, per: 1m, burst: 10}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x.route == y.route && x.rule == y.rule))",
            "message": "each rule may be listed once"
        }])
    )]
    pub throttles: Vec<RuleThrottle>,
}

/// A throttle of each key for one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleThrottle {
    /// The ApiRoute that has the rule. Example: `{name: orders}`.
    pub route: Reference,
    /// The name of the rule. At most 63 characters. Example: `get-order`.
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub rule: String,
    /// The rate and burst of each key.
    #[serde(flatten)]
    pub throttle: Throttle,
}

/// The observed state of a UsagePlan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UsagePlanStatus {
    /// Accepted, ResolvedRefs and Programmed; Warnings while there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The most recent generation observed by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}
