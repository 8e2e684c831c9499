//! The table `evaluate.json`. Each group has a claim and a policy; each row an expected verdict, context keys, and what
//! differs from the default request.
//!
//! A group has a whole `policy`, or members of its one `statement`: without others, it allows every action on every
//! resource. Its `kind` is Identity unless it says otherwise.

use serde_json::{Value, json};
use sluice_iam::{Accounts, Decided, Kind, Policy, Request, Verdict, combine};

use crate::naive;
use crate::support::{Keys, OPTIONS, PREFIX, principal, text_of};

fn keys(value: &Value) -> Keys {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let values = |value: &Value| match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => vec![text(value)],
    };
    Keys(value.as_object().unwrap().iter().map(|(key, value)| (key.to_lowercase(), values(value))).collect())
}

fn policy_of(group: &Value) -> Value {
    if let Some(policy) = group.get("policy") {
        return policy.clone();
    }
    let mut statement = json!({"Effect": "Allow"});
    let members = group["statement"].as_object().unwrap();
    for (element, negated) in [("Action", "NotAction"), ("Resource", "NotResource")] {
        if !members.contains_key(element) && !members.contains_key(negated) {
            statement[element] = json!("*");
        }
    }
    for (name, value) in members {
        statement[name] = value.clone();
    }
    json!({"Version": "2012-10-17", "Statement": statement})
}

#[test]
fn every_row_of_the_table_has_its_verdict() {
    let table: Value = serde_json::from_str(include_str!("evaluate.json")).unwrap();
    let (mut rows, mut failed) = (0, Vec::new());
    for group in table.as_array().unwrap() {
        let claim = group["claim"].as_str().unwrap();
        let kind = match group.get("kind").and_then(Value::as_str) {
            None => Kind::Identity,
            Some("Resource") => Kind::Resource,
            Some("Authorizer") => Kind::Authorizer,
            Some(other) => panic!("{other}"),
        };
        let document = policy_of(group);
        let policy = Policy::from_value(&document, kind, OPTIONS).unwrap_or_else(|error| panic!("{claim}: {error}"));
        for row in group["rows"].as_array().unwrap() {
            rows += 1;
            let keys = keys(&row[1]);
            let given = |name: &str, default: &str| {
                row.get(2).and_then(|given| given.get(name)).and_then(Value::as_str).unwrap_or(default).to_owned()
            };
            let resource = given("resource", "/prod/GET/pets");
            let resource = if resource.starts_with('/') { format!("{PREFIX}{resource}") } else { resource };
            let (action, caller) = (given("action", "execute-api:Invoke"), given("principal", "anonymous"));
            let request =
                Request { action: &action, resource: &resource, principal: principal(&caller), context: &keys };
            let verdict = text_of(policy.evaluate(&request));
            assert!(policy.can_deny() || naive::evaluate(&document, &request) != "Deny", "{claim}: {row}");
            let expected = row[0].as_str().unwrap();
            if verdict != expected {
                failed.push(format!("{claim}: {row}: {verdict}"));
            }
            let naive = naive::evaluate(&document, &request);
            assert!(expected.starts_with(naive), "{claim}: {row}: the naive evaluator returns {naive}");
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(rows >= 150, "{rows} rows");
}

#[test]
fn verdicts_of_two_policies_are_combined_by_the_tables_of_aws() {
    let at = |statement| Decided { statement, sid: None };
    let (deny, allow, silent) = (Verdict::Deny(at(1)), Verdict::Allow(at(1)), Verdict::Silent);
    let (deny_too, allow_too) = (Verdict::Deny(at(2)), Verdict::Allow(at(2)));
    for (caller, resource, same, cross) in [
        (allow, allow_too, allow, allow),
        (allow, silent, allow, silent),
        (allow, deny_too, deny_too, deny_too),
        (silent, allow_too, allow_too, silent),
        (silent, silent, silent, silent),
        (silent, deny_too, deny_too, deny_too),
        (deny, allow_too, deny, deny),
        (deny, silent, deny, deny),
        (deny, deny_too, deny, deny),
    ] {
        assert_eq!(combine(Accounts::Same, caller, resource), same, "{caller:?} {resource:?}");
        assert_eq!(combine(Accounts::Cross, caller, resource), cross, "{caller:?} {resource:?}");
    }
}
