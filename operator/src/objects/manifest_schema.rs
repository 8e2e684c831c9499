//! Schemas for manifests of kinds of Kubernetes, limited to the fields that configuration depends on. Other fields of
//! Kubernetes are listed by name only.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};
use sluice_crds::schema::{Path, Step};

pub(super) fn protocol() -> Value {
    json!({"type": "string", "enum": ["TCP", "UDP", "SCTP"], "default": "TCP"})
}

pub(super) fn anything() -> Value {
    json!({"x-kubernetes-preserve-unknown-fields": true})
}

pub(super) fn texts() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

pub(super) fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

pub(super) fn object(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

/// Removes line ends from the Base64 entries of a field, as an API server does; or the entry that is not Base64.
pub(super) fn base64_entries(manifest: &mut Value, field: &str, hint: &str) -> Result<(), (Path, String)> {
    let Some(Value::Object(entries)) = manifest.get_mut(field) else { return Ok(()) };
    for (key, entry) in entries {
        let Value::String(text) = entry else { continue };
        text.retain(|c| !matches!(c, '\r' | '\n'));
        if STANDARD.decode(text.as_bytes()).is_err() {
            let path: Path = [Step::Key(field.to_owned()), Step::Key(key.clone())].into_iter().collect();
            let message = format!("{path} is not Base64.{hint}");
            return Err((path, message));
        }
    }
    Ok(())
}
