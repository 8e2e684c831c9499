//! Objects from YAML, for tests: as an API server returns them, without its schema validation.

use serde_json::Value;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{Kind, Object, ObjectKey, Unparsable};

/// One object from its JSON.
pub(crate) fn object(mut value: Value) -> Object {
    let kind = Kind::named(value["kind"].as_str().unwrap()).unwrap();
    if kind.is_namespaced() && value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "shop".into();
    }
    // As the API server does with stringData.
    if let Some(Value::Object(texts)) = value.as_object_mut().unwrap().remove("stringData") {
        for (key, text) in texts {
            let bytes = k8s_openapi::ByteString(text.as_str().unwrap().as_bytes().to_vec());
            value["data"][key] = serde_json::to_value(bytes).unwrap();
        }
    }
    let meta = &value["metadata"];
    let key = ObjectKey::new(meta["namespace"].as_str().unwrap_or_default(), meta["name"].as_str().unwrap());
    let parsed = Object::parse(kind, value.clone());
    parsed.unwrap_or_else(|error| Object::Unparsable(kind, key, Unparsable::read(kind, &value, error.to_string())))
}

/// The cluster state that YAML documents make.
pub(crate) fn state(yaml: &str) -> ClusterState {
    let documents = yaml
        .split("\n---\n")
        .filter(|document| document.lines().any(|line| !line.starts_with('#') && !line.trim().is_empty()));
    ClusterState::from_objects(documents.map(|document| {
        let value: Value = serde_saphyr::from_str(document).unwrap_or_else(|error| panic!("{error}\n{document}"));
        object(value)
    }))
}
