//! Lenient decoding: a part that this version cannot decode is decoded as far as possible, and its requests are rejected.
//! Other parts are decoded by `Part::decode`.

use serde_json::Value;
use sluice_wire::{
    Diagnostic, Hash, KeyEntry, KeysPart, ObjectRef, Part, PartBody, PartKind, RoutePart, Rule, RuleAction, StagePart,
};

/// The diagnostics of a part that cannot be read: for its object, or for each of its objects that cannot be read.
pub(super) fn diagnostics(part: &Part) -> Vec<Diagnostic> {
    let value: Value = serde_json::from_str(&part.json).unwrap_or_default();
    if part.name.kind == PartKind::Keys {
        let unreadable = entries(&value).filter(|entry| key(entry).is_none());
        return unreadable.filter_map(|entry| field(entry, "object")).map(diagnostic).collect();
    }
    vec![diagnostic(field(&value, "object").unwrap_or_else(|| part.name.object()))]
}

fn diagnostic(object: ObjectRef) -> Diagnostic {
    Diagnostic {
        object,
        message: "This proxy cannot read the object's configuration: it uses something that needs a newer version. \
                  Requests that depend on it get status 500 until the proxies are updated."
            .to_owned(),
    }
}

/// A part that keeps its place and rejects requests. None: it has no place.
pub(super) fn body(part: &Part) -> Option<PartBody> {
    if Hash::of(part.json.as_bytes()) != part.hash {
        return None;
    }
    let value: Value = serde_json::from_str(&part.json).ok()?;
    match part.name.kind {
        PartKind::Route => route(&value).map(PartBody::Route),
        PartKind::Stage => stage(value).map(PartBody::Stage),
        // A key that cannot be read is an unknown key; the other keys of the shard are served.
        PartKind::Keys => Some(PartBody::Keys(KeysPart { keys: entries(&value).filter_map(key).collect() })),
        _ => None,
    }
}

fn field<T: serde::de::DeserializeOwned>(value: &Value, name: &str) -> Option<T> {
    serde_json::from_value(value.get(name)?.clone()).ok()
}

fn entries(keys: &Value) -> impl Iterator<Item = &Value> {
    keys.get("keys").and_then(Value::as_array).into_iter().flatten()
}

fn key(entry: &Value) -> Option<KeyEntry> {
    serde_json::from_value(entry.clone()).ok()
}

fn route(value: &Value) -> Option<RoutePart> {
    let rules = value.get("rules")?.as_array()?;
    let version = match value.get("version") {
        Some(version) => Some(serde_json::from_value(version.clone()).ok()?),
        None => None,
    };
    let mut readable: Vec<Rule> = rules.iter().filter_map(rule).collect();
    if readable.len() < rules.len() {
        // A rule without a place would leave its requests to a broader rule with another policy.
        for rule in &mut readable {
            rule.action = invalid_action();
        }
    }
    Some(RoutePart { object: field(value, "object")?, stages: field(value, "stages")?, version, rules: readable })
}

/// The rule as written, if it can be decoded, or one with its place that rejects its requests. An undecodable match is left out: the rule then rejects
/// more requests than its author intended, never fewer.
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
        action: invalid_action(),
    })
}

fn invalid_action() -> RuleAction {
    RuleAction::Invalid { why: "this proxy cannot decode the rule".to_owned() }
}

/// The stage with its host and base path, that rejects every request.
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

    /// Whether each rule of a route of a newer version, with these rules, rejects its requests.
    fn invalid_rules(rules: Value) -> Vec<bool> {
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
    fn an_undecodable_rule_affects_no_other_rule_and_one_without_a_place_closes_the_route() {
        let good = serde_json::json!({"Mock": {"status": 200, "headers": [], "body": ""}});
        let newer = serde_json::json!({"Lambda": {}});
        assert_eq!(invalid_rules(serde_json::json!([rule("/{proxy+}", &good), rule("/a", &newer)])), [false, true]);
        assert_eq!(invalid_rules(serde_json::json!([rule("/{proxy+}", &good), rule("/a|b", &good)])), [true]);
    }

    #[test]
    fn an_undecodable_key_affects_no_other_key_of_its_shard() {
        let key = |name: &str, plans: Value| {
            let object = serde_json::json!({"kind": "ApiKey", "namespace": "shop", "name": name});
            serde_json::json!({"object": object, "customer": null, "digest": Hash::NONE, "plans": plans})
        };
        let keys = [key("old", serde_json::json!(["plan/shop/gold"])), key("new", serde_json::json!({"any": true}))];
        let json = serde_json::json!({"keys": keys}).to_string();
        let part = Part { name: "keys/07".parse().unwrap(), hash: Hash::of(json.as_bytes()), json: json.into() };
        let Some(PartBody::Keys(read)) = body(&part) else { panic!("no keys") };
        assert_eq!(read.keys.iter().map(|entry| &*entry.object.name).collect::<Vec<_>>(), ["old"]);
        assert_eq!(diagnostics(&part).iter().map(|found| &*found.object.name).collect::<Vec<_>>(), ["new"]);
    }
}
