//! Schema of the fields that every object has: `apiVersion`, `kind` and `metadata`. It does not depend on the kinds.

use serde_json::{Value, json};

use crate::field::{DNS_LABEL, OBJECT_NAME};

/// A kind's schema with the fields of every object; the kind's own rules for its name are kept.
pub(super) fn whole_object(schema: &Value) -> Value {
    let mut whole = schema.clone();
    let mut metadata = metadata();
    if let Some(name) = schema["properties"]["metadata"]["properties"]["name"].as_object() {
        for (key, value) in name {
            metadata["properties"]["name"][key] = value.clone();
        }
    }
    whole["properties"]["apiVersion"] = json!({"type": "string", "maxLength": 317});
    whole["properties"]["kind"] = json!({"type": "string", "maxLength": 63});
    whole["properties"]["metadata"] = metadata;
    if let Some(required) = whole["required"].as_array_mut() {
        required.push(json!("metadata"));
    } else {
        whole["required"] = json!(["metadata"]);
    }
    whole
}

fn metadata() -> Value {
    let anything = json!({"x-kubernetes-preserve-unknown-fields": true});
    let texts = json!({"type": "object", "additionalProperties": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["name"],
        "properties": {
            "name": {
                "type": "string", "minLength": 1, "maxLength": 253, "pattern": OBJECT_NAME,
                "description": "The object's name. Example: `orders`.",
            },
            "namespace": {
                "type": "string", "minLength": 1, "maxLength": 63, "pattern": DNS_LABEL,
                "description": "The object's namespace. Example: `shop`.",
            },
            "labels": texts,
            "annotations": texts,
            "generation": {"type": "integer"},
            "creationTimestamp": anything, "deletionGracePeriodSeconds": anything, "deletionTimestamp": anything,
            "finalizers": anything, "generateName": anything, "managedFields": anything, "ownerReferences": anything,
            "resourceVersion": anything, "selfLink": anything, "uid": anything,
        },
    })
}
