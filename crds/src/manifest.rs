//! Generates the CustomResourceDefinitions from the types, with structural and strict schemas. [`crate::schema`] validates
//! objects by them without an API server.

use kube::{CustomResourceExt, Resource};
use serde_json::{Map, Value, json};

/// Why a manifest could not be made from the types.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// The definition has no JSON form.
    #[error("cannot write the definition of {plural} as JSON")]
    Json {
        /// The plural name.
        plural: String,
        /// The error of the serializer.
        source: serde_json::Error,
    },
    /// The definition has no YAML form.
    #[error("cannot write the definition of {plural} as YAML: {reason}")]
    Yaml {
        /// The plural name.
        plural: String,
        /// The error of the serializer.
        reason: String,
    },
}

/// One CustomResourceDefinition.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The kind, `ApiRoute`.
    pub kind: String,
    /// The plural name, `apiroutes`.
    pub plural: String,
    /// The whole object; keys are in order.
    pub object: Value,
}

impl Definition {
    /// The name of the file that holds the manifest: `apiroutes.sluice.dev.yaml`.
    #[must_use]
    pub fn file_name(&self) -> String {
        format!("{}.{}.yaml", self.plural, crate::group::GROUP)
    }

    /// The schema of the served version.
    #[must_use]
    pub fn schema(&self) -> &Value {
        &self.object["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    }

    /// The manifest as it is committed.
    ///
    /// # Errors
    ///
    /// When the object has no YAML form, which no definition of ours lacks.
    pub fn yaml(&self) -> Result<String, ManifestError> {
        let body = serde_saphyr::to_string(&self.object)
            .map_err(|error| ManifestError::Yaml { plural: self.plural.clone(), reason: error.to_string() })?;
        Ok(format!("# Generated from crds/src by `make generate`. Do not edit.\n{body}"))
    }
}

/// Every CustomResourceDefinition of the group, by plural name.
///
/// # Errors
///
/// When a definition has no JSON form, which none of ours lacks.
pub fn definitions() -> Result<Vec<Definition>, ManifestError> {
    Ok(vec![
        definition::<crate::ApiKey>()?,
        definition::<crate::ApiRoute>()?,
        definition::<crate::Authorizer>()?,
        definition::<crate::Principal>()?,
        definition::<crate::Stage>()?,
        definition::<crate::UsagePlan>()?,
    ])
}

fn definition<K>() -> Result<Definition, ManifestError>
where
    K: CustomResourceExt + Resource<DynamicType = ()>,
{
    let plural = K::plural(&()).into_owned();
    let mut object =
        serde_json::to_value(K::crd()).map_err(|source| ManifestError::Json { plural: plural.clone(), source })?;
    object["metadata"]["labels"] = json!({"app.kubernetes.io/part-of": "sluice"});
    let schema = &mut object["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    let suffix = match K::kind(&()).as_ref() {
        "ApiKey" => Some(crate::api_key::SECRET_NAME_SUFFIX),
        "Principal" => Some(crate::principal::SECRET_NAME_SUFFIX),
        _ => None,
    };
    if let Some(suffix) = suffix {
        // The operator's Secret is named after the object; its name must fit as well.
        let longest = 253 - suffix.len();
        schema["properties"]["metadata"] =
            json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": longest}}});
    }
    Ok(Definition { kind: K::kind(&()).into_owned(), plural, object: sorted(object) })
}

/// Makes a schema say what it means to an API server: absent instead of null, known formats, flowing text.
fn tidy(schema: &mut Value) {
    let Value::Object(node) = schema else { return };
    node.remove("nullable");
    node.remove("title");
    if matches!(node.get("format").and_then(Value::as_str), Some("uint8" | "uint16" | "uint32" | "uint64" | "double")) {
        node.remove("format");
    }
    for bound in ["minimum", "maximum"] {
        if let Some(value) = node.get_mut(bound) {
            whole(value);
        }
    }
    if let Some(Value::String(text)) = node.get_mut("description") {
        *text = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    for list in ["properties", "patternProperties"] {
        if let Some(Value::Object(children)) = node.get_mut(list) {
            children.values_mut().for_each(tidy);
        }
    }
    for child in ["items", "additionalProperties"] {
        if let Some(child) = node.get_mut(child) {
            tidy(child);
        }
    }
}

/// Writes `300.0` as `300`.
#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small")]
fn whole(value: &mut Value) {
    if let Some(number) = value.as_f64()
        && number.fract() == 0.0
        && number.abs() < 9e15
    {
        *value = json!(number as i64);
    }
}

/// The same value with sorted keys in every object, with any map type of serde_json.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_loses_what_an_api_server_would_misread() {
        let mut schema = json!({
            "title": "T", "nullable": true, "type": "object", "description": "a\nb\n\nc",
            "properties": {
                "title": {"type": "integer", "format": "uint16", "minimum": 1.0, "maximum": 0.5},
                "format": {"type": "integer", "format": "int64"},
            },
        });
        tidy(&mut schema);
        assert_eq!(
            schema,
            json!({
                "type": "object", "description": "a b\n\nc",
                "properties": {
                    "title": {"type": "integer", "minimum": 1, "maximum": 0.5},
                    "format": {"type": "integer", "format": "int64"},
                },
            })
        );
    }

    #[test]
    fn every_kind_has_a_status_a_short_name_and_our_category() {
        let definitions = definitions().unwrap();
        assert_eq!(definitions.len(), 6);
        for definition in definitions {
            let names = &definition.object["spec"]["names"];
            assert_eq!(names["categories"], json!(["sluice"]), "{}", definition.kind);
            assert_eq!(names["shortNames"].as_array().map(Vec::len), Some(1), "{}", definition.kind);
            let version = &definition.object["spec"]["versions"][0];
            assert!(version["subresources"]["status"].is_object(), "{}", definition.kind);
            assert!(version["additionalPrinterColumns"].as_array().is_some_and(|columns| columns.len() > 3));
            let conditions = &definition.schema()["properties"]["status"]["properties"]["conditions"];
            assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]), "{}", definition.kind);
        }
    }

    #[test]
    fn every_field_is_described_and_every_text_and_list_is_bounded() {
        fn walk(path: &str, schema: &Value, faults: &mut Vec<String>) {
            let bounded = |key: &str| schema.get(key).is_some();
            match schema.get("type").and_then(Value::as_str) {
                Some("string") if !bounded("maxLength") && !bounded("enum") && !bounded("format") => {
                    faults.push(format!("{path}: no maxLength"));
                }
                Some("array") if !bounded("maxItems") => faults.push(format!("{path}: no maxItems")),
                Some("object") if bounded("additionalProperties") && !bounded("maxProperties") => {
                    faults.push(format!("{path}: no maxProperties"));
                }
                Some(_) => {}
                None if bounded("x-kubernetes-int-or-string") => {}
                None => faults.push(format!("{path}: no type")),
            }
            for (name, child) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let path = format!("{path}.{name}");
                if child.get("description").and_then(Value::as_str).is_none_or(str::is_empty) {
                    faults.push(format!("{path}: no description"));
                }
                walk(&path, child, faults);
            }
            for child in ["items", "additionalProperties"].into_iter().filter_map(|key| schema.get(key)) {
                walk(&format!("{path}[]"), child, faults);
            }
        }
        let mut faults = Vec::new();
        for definition in definitions().unwrap() {
            for part in ["spec", "status"] {
                walk(&format!("{}.{part}", definition.kind), &definition.schema()["properties"][part], &mut faults);
            }
        }
        assert!(faults.is_empty(), "{faults:#?}");
    }

    #[test]
    fn every_optional_field_says_what_unset_means() {
        fn walk(path: &str, schema: &Value, silent: &mut Vec<String>) {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            for (name, child) in schema["properties"].as_object().into_iter().flatten() {
                let path = format!("{path}.{name}");
                let description = child["description"].as_str().unwrap_or_default();
                let documented = ["Unset", "Empty:", "Required with"].iter().any(|start| description.contains(start));
                if !documented && !required.contains(&json!(name)) {
                    silent.push(format!("{path}: {description}"));
                }
                walk(&path, child, silent);
                walk(&format!("{path}[]"), &child["items"], silent);
            }
        }
        let mut silent = Vec::new();
        for definition in definitions().unwrap() {
            walk(&definition.kind, &definition.schema()["properties"]["spec"], &mut silent);
        }
        assert!(silent.is_empty(), "{silent:#?}");
    }

    #[test]
    fn a_chart_can_hold_the_manifests_as_they_are() {
        for definition in definitions().unwrap() {
            assert!(!definition.yaml().unwrap().contains("{{"), "{}", definition.plural);
        }
    }
}
