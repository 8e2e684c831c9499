//! Each CEL rule has a row that it accepts and a row that it rejects, validated here without an API server.
//! A row is `name`, `object`, `old` (the object that `object` replaces; absent when it is created), and `error`: absent when
//! the object is accepted, else a part of the error.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;
use sluice_crds::schema::{FieldError, validators};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: String,
    object: Value,
    /// The object that `object` replaces; absent when it is created.
    #[serde(default)]
    old: Option<Value>,
    #[serde(default)]
    error: Option<String>,
}

impl Row {
    /// The errors of the object.
    fn errors(&self) -> Vec<FieldError> {
        let validator = &validators().unwrap()[self.object["kind"].as_str().unwrap()];
        let mut object = self.object.clone();
        match &self.old {
            Some(old) => validator.validate_update(old, &mut object),
            None => validator.validate(&mut object),
        }
    }
}

fn rows() -> Vec<(String, Row)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cel");
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed: Vec<Row> = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        rows.extend(parsed.into_iter().map(|row| (file.clone(), row)));
    }
    rows
}

#[test]
fn every_row_is_validated_as_its_table_expects() {
    let mut wrong = Vec::new();
    for (file, row) in rows() {
        let errors: Vec<String> = row.errors().iter().map(ToString::to_string).collect();
        let as_expected = match &row.error {
            None => errors.is_empty(),
            Some(error) => errors.iter().any(|found| found.contains(error)),
        };
        if !as_expected {
            wrong.push(format!("{file}: {}: expected {:?}, found {errors:?}", row.name, row.error));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_accepted_row_is_deserialized_and_equal_with_its_defaults() {
    fn same<K: serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(name: &str, object: &Value) {
        let mut defaulted = object.clone();
        let kind = object["kind"].as_str().unwrap();
        assert_eq!(validators().unwrap()[kind].validate(&mut defaulted), []);
        let by_types: K = serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let by_schema: K = serde_json::from_value(defaulted).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(by_types, by_schema, "{name}");
    }
    for (_, row) in rows().into_iter().filter(|(_, row)| row.error.is_none()) {
        match row.object["kind"].as_str().unwrap() {
            "ApiKey" => same::<sluice_crds::ApiKey>(&row.name, &row.object),
            "ApiRoute" => same::<sluice_crds::ApiRoute>(&row.name, &row.object),
            "Authorizer" => same::<sluice_crds::Authorizer>(&row.name, &row.object),
            "Principal" => same::<sluice_crds::Principal>(&row.name, &row.object),
            "Stage" => same::<sluice_crds::Stage>(&row.name, &row.object),
            "UsagePlan" => same::<sluice_crds::UsagePlan>(&row.name, &row.object),
            other => panic!("{}: unknown kind {other}", row.name),
        }
    }
}

/// Where the rules of a schema stand, with their messages.
fn rules(path: &str, schema: &Value, found: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let message = rule["message"].as_str().unwrap_or_else(|| panic!("{path}: a rule has no message"));
        found.push((path.to_owned(), message.to_owned()));
    }
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        rules(&format!("{path}.{name}"), child, found);
    }
    for child in ["items", "additionalProperties"].into_iter().filter_map(|key| schema.get(key)) {
        rules(path, child, found);
    }
}

#[test]
fn every_rule_has_a_rejected_row_and_its_kind_an_accepted_row() {
    let mut rejected: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    let mut accepted: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (_, row) in rows() {
        let kind = row.object["kind"].as_str().unwrap().to_owned();
        if row.error.is_none() {
            accepted.entry(kind).or_default().push(row.object);
            continue;
        }
        let errors = row.errors();
        rejected.entry(kind).or_default().extend(errors.into_iter().map(|error| {
            let place: String = error
                .path
                .to_string()
                .split('[')
                .map(|part| part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ']'))
                .collect();
            (place, error.message)
        }));
    }
    let mut missing = Vec::new();
    for definition in sluice_crds::manifest::definitions().unwrap() {
        let mut found = Vec::new();
        rules("", definition.schema(), &mut found);
        for (place, message) in found {
            let place = place.trim_start_matches('.');
            let hit = rejected
                .get(&definition.kind)
                .into_iter()
                .flatten()
                .any(|(at, found)| at == place && found.contains(&message));
            if !hit {
                missing.push(format!("{}: {place}: no row is rejected with {message:?}", definition.kind));
            }
            let field = place.rsplit('.').next().unwrap_or(place);
            let passes = accepted
                .get(&definition.kind)
                .into_iter()
                .flatten()
                .any(|object| object.to_string().contains(&format!("\"{field}\"")));
            if !passes {
                missing.push(format!("{}: {place}: no accepted row has the field", definition.kind));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
