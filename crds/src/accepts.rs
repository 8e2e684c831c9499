//! `Stage.spec.accepts`: which namespaces may attach ApiRoutes to a Stage.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The label that Kubernetes gives each namespace with its name as the value.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// Which ApiRoutes may attach to a Stage.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accepts {
    /// The namespaces whose ApiRoutes may attach. Unset: the namespace of the Stage.
    #[serde(default)]
    pub namespaces: AcceptedNamespaces,
}

impl Accepts {
    /// Whether it has its default value.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A set of namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(has(self.from) && self.from == 'Selector') == has(self.selector)",
    "message": "selector is required with from: Selector, and not allowed otherwise"
}]))]
pub struct AcceptedNamespaces {
    /// `Same`: the namespace of the Stage; `All`: every namespace; `Selector`: the namespace of the Stage and those that
    /// `selector` selects by their labels. Unset: `Same`. Example: `Selector`.
    #[serde(default)]
    pub from: NamespacesFrom,
    /// Selects namespaces by their labels. Required with `from: Selector`.
    /// Example: `{matchLabels: {sluice.dev/tenant: partner}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces are accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NamespacesFrom {
    /// The namespace of the Stage.
    #[default]
    Same,
    /// Every namespace.
    All,
    /// The namespace of the Stage, and those that the selector selects.
    Selector,
}

/// Selects objects by labels: every part must hold. An empty selector selects every object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have these values. Empty: none. At most 16. Example: `{team: shop}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16, "additionalProperties" = {"type": "string", "maxLength": 63}))]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements. Empty: none. At most 16.
    /// Example: `[{key: environment, operator: In, values: [prod, test]}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelRequirement>,
}

/// A requirement on one label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
    "message": "values are required with the operators In and NotIn, and not allowed with Exists and DoesNotExist"
}]))]
pub struct LabelRequirement {
    /// The label. At most 317 characters. Example: `environment`.
    #[schemars(length(min = 1, max = 317))]
    pub key: String,
    /// The relation between the label and `values`. Example: `In`.
    pub operator: LabelOperator,
    /// The values. Required with `In` and `NotIn`. At most 32. Example: `[prod]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 63)), extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

/// The relation between a label and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// The label has one of the values.
    In,
    /// The label has none of the values, or is absent.
    NotIn,
    /// The label is present.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

impl AcceptedNamespaces {
    /// Whether a namespace other than that of the Stage is in the set. `labels` are those of the namespace.
    #[must_use]
    pub fn contains(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        match self.from {
            NamespacesFrom::Same => false,
            NamespacesFrom::All => true,
            // Without a selector, which the schema does not allow, nothing is selected.
            NamespacesFrom::Selector => self.selector.as_ref().is_some_and(|it| it.selects(namespace, labels)),
        }
    }
}

impl LabelSelector {
    fn selects(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> bool {
        let value = |key: &str| match labels.and_then(|labels| labels.get(key)) {
            Some(value) => Some(value.as_str()),
            None if key == NAME_LABEL => Some(namespace),
            None => None,
        };
        let equal = self.match_labels.iter().all(|(key, required)| value(key) == Some(required));
        equal
            && self.match_expressions.iter().all(|requirement| {
                let found = value(&requirement.key);
                let listed = found.is_some_and(|found| requirement.values.iter().any(|value| value == found));
                match requirement.operator {
                    LabelOperator::In => listed,
                    LabelOperator::NotIn => !listed,
                    LabelOperator::Exists => found.is_some(),
                    LabelOperator::DoesNotExist => found.is_none(),
                }
            })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn namespaces_are_accepted_as_written() {
        let labels: BTreeMap<String, String> =
            [("team".to_owned(), "shop".to_owned()), ("tier".to_owned(), String::new())].into();
        let selector = |selector: Value| json!({"from": "Selector", "selector": selector});
        let expression = |key: &str, operator: &str, values: &[&str]| {
            selector(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        for (written, accepted) in [
            (json!({}), false),
            (json!({"from": "Same"}), false),
            (json!({"from": "All"}), true),
            (json!({"from": "Selector"}), false),
            (selector(json!({})), true),
            (selector(json!({"matchLabels": {"team": "shop"}})), true),
            (selector(json!({"matchLabels": {"team": "shop", "tier": ""}})), true),
            (selector(json!({"matchLabels": {"team": "other"}})), false),
            (selector(json!({"matchLabels": {"absent": ""}})), false),
            (selector(json!({"matchLabels": {NAME_LABEL: "partner"}})), true),
            (expression("team", "In", &["a", "shop"]), true),
            (expression("absent", "In", &["a"]), false),
            (expression("team", "NotIn", &["shop"]), false),
            (expression("absent", "NotIn", &["a"]), true),
            (expression("team", "Exists", &[]), true),
            (expression("absent", "Exists", &[]), false),
            (expression("team", "DoesNotExist", &[]), false),
            (expression("absent", "DoesNotExist", &[]), true),
        ] {
            let set: AcceptedNamespaces = serde_json::from_value(written.clone()).unwrap();
            assert_eq!(set.contains("partner", Some(&labels)), accepted, "{written}");
        }
        assert!(!AcceptedNamespaces::default().contains("partner", None));
    }
}
