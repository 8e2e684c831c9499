//! Objects from YAML, for tests: what the API server would hand out, without its schema checks.

use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::Value;
use sluice_crds::{ApiKey, ApiRoute, Authorizer, Stage, UsagePlan};
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{Kind, Object, ObjectKey, Unparsable};

fn typed<K: serde::de::DeserializeOwned>(kind: Kind, value: Value) -> Object
where
    Object: From<K>,
{
    let meta = &value["metadata"];
    let key = ObjectKey::new(meta["namespace"].as_str().unwrap(), meta["name"].as_str().unwrap());
    let generation = meta["generation"].as_i64();
    match serde_json::from_value::<K>(value) {
        Ok(object) => object.into(),
        Err(error) => Object::Unparsable(kind, key, Unparsable { generation, uid: None, why: error.to_string() }),
    }
}

/// One object from its JSON.
pub(crate) fn object(mut value: Value) -> Object {
    let kind = value["kind"].as_str().unwrap().to_owned();
    if value["metadata"]["namespace"].is_null() {
        value["metadata"]["namespace"] = "shop".into();
    }
    match kind.as_str() {
        "Stage" => typed::<Stage>(Kind::Stage, value),
        "ApiRoute" => typed::<ApiRoute>(Kind::ApiRoute, value),
        "Authorizer" => typed::<Authorizer>(Kind::Authorizer, value),
        "ApiKey" => typed::<ApiKey>(Kind::ApiKey, value),
        "UsagePlan" => typed::<UsagePlan>(Kind::UsagePlan, value),
        "Service" => typed::<Service>(Kind::Service, value),
        "EndpointSlice" => typed::<EndpointSlice>(Kind::EndpointSlice, value),
        "ConfigMap" => typed::<ConfigMap>(Kind::ConfigMap, value),
        "Secret" => {
            // As the API server does with stringData.
            if let Some(Value::Object(texts)) = value.as_object_mut().unwrap().remove("stringData") {
                for (key, text) in texts {
                    let bytes = k8s_openapi::ByteString(text.as_str().unwrap().as_bytes().to_vec());
                    value["data"][key] = serde_json::to_value(bytes).unwrap();
                }
            }
            typed::<Secret>(Kind::Secret, value)
        }
        other => panic!("no such kind: {other}"),
    }
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
