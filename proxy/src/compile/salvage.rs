//! Parts of a shape this version does not know: what can be read is read, and the rest refuses.
//! Parts that can be read are not its business.

use serde_json::Value;
use sluice_wire::{Diagnostic, Hash, ObjectRef, Part, PartBody, PartKind, RoutePart, Rule, RuleAction, StagePart};

/// What the author of the object is told.
pub(super) fn diagnostic(part: &Part) -> Diagnostic {
    let name = &part.name;
    let kind = match name.kind {
        PartKind::Stage => "Stage",
        PartKind::Route => "ApiRoute",
        PartKind::Authorizer => "Authorizer",
        PartKind::Keys => "ApiKey",
        PartKind::Plan => "UsagePlan",
        PartKind::Upstream => "Service",
        PartKind::Certificate => "Secret",
        PartKind::Unknown => "",
    };
    let (namespace, object) = name.id.split_once('/').unwrap_or(("", &name.id));
    let said = || field(&serde_json::from_str(&part.json).ok()?, "object");
    let named = || ObjectRef::new(kind, namespace, object.split('@').next().unwrap_or_default());
    Diagnostic {
        object: said().unwrap_or_else(named),
        message: "This proxy cannot read the object's configuration: it uses something that needs a newer version. \
                  What depends on it is refused with 500 until the proxies are updated."
            .to_owned(),
    }
}

/// A part that keeps its place and refuses; none: it has no place to keep.
pub(super) fn body(part: &Part) -> Option<PartBody> {
    if Hash::of(part.json.as_bytes()) != part.hash {
        return None;
    }
    let value: Value = serde_json::from_str(&part.json).ok()?;
    match part.name.kind {
        PartKind::Route => route(&value).map(PartBody::Route),
        PartKind::Stage => stage(value).map(PartBody::Stage),
        _ => None,
    }
}

fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Option<T> {
    serde_json::from_value(value.get(name)?.clone()).ok()
}

fn route(value: &Value) -> Option<RoutePart> {
    let rules = value.get("rules")?.as_array()?;
    let version = match value.get("version") {
        Some(version) => Some(serde_json::from_value(version.clone()).ok()?),
        None => None,
    };
    let mut readable: Vec<Rule> = rules.iter().filter_map(rule).collect();
    if readable.len() < rules.len() {
        // A rule without a place would leave its requests to a broader rule beside it, with another policy.
        for rule in &mut readable {
            rule.action = refuse();
        }
    }
    Some(RoutePart { object: field(value, "object")?, stages: field(value, "stages")?, version, rules: readable })
}

/// A rule that can be read as it is, or its place with a refusal. An unreadable match is left out: the rule then refuses
/// more than it was meant to, never less.
fn rule(value: &Value) -> Option<Rule> {
    if let Ok(rule) = serde_json::from_value(value.clone()) {
        return Some(rule);
    }
    Some(Rule {
        name: field(value, "name").unwrap_or_default(),
        methods: field(value, "methods").unwrap_or_default(),
        path: field(value, "path")?,
        headers: field(value, "headers").unwrap_or_default(),
        query: field(value, "query").unwrap_or_default(),
        action: refuse(),
    })
}

fn refuse() -> RuleAction {
    RuleAction::Invalid { why: "this proxy cannot read the rule".to_owned() }
}

/// The stage with its host and base path, refusing everything.
fn stage(mut value: Value) -> Option<StagePart> {
    let fields = value.as_object_mut()?;
    fields.retain(|name, _| matches!(name.as_str(), "object" | "hostnames" | "base_path"));
    fields.insert("behavior".into(), "Native".into());
    fields.insert("access_log".into(), true.into());
    fields.insert("invalid".into(), "This proxy cannot read the Stage.".into());
    serde_json::from_value(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a route with these rules, written by a newer version, comes to: whether each rule refuses.
    fn refusals(rules: Value) -> Vec<bool> {
        let json = serde_json::json!({
            "object": {"kind": "ApiRoute", "namespace": "shop", "name": "orders"}, "stages": ["stage/shop/prod"], "rules": rules,
        });
        let rules = route(&json).unwrap().rules;
        rules.iter().map(|rule| matches!(rule.action, RuleAction::Invalid { .. })).collect()
    }

    fn rule(path: &str, integration: &Value) -> Value {
        let policy = serde_json::json!({"api_key": false, "timeout_ms": 1000, "integration": integration});
        let action = serde_json::json!({"Serve": policy});
        serde_json::json!({"name": path, "methods": [], "path": path, "headers": [], "query": [], "action": action})
    }

    #[test]
    fn a_rule_that_cannot_be_read_refuses_alone_and_one_without_a_place_takes_the_route_with_it() {
        let good = serde_json::json!({"Mock": {"status": 200, "headers": [], "body": ""}});
        let newer = serde_json::json!({"Lambda": {}});
        assert_eq!(refusals(serde_json::json!([rule("/{proxy+}", &good), rule("/a", &newer)])), [false, true]);
        assert_eq!(refusals(serde_json::json!([rule("/{proxy+}", &good), rule("/a|b", &good)])), [true]);
    }
}
