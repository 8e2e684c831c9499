//! Schemas of the Kubernetes kinds that a directory may hold beside ours, as far as configuration depends on them.
//! Fields that exist in Kubernetes and do not matter here are known by name only.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::{Map, Value, json};
use sluice_crds::schema::{Judge, SchemaError};

/// A kind of Kubernetes that configuration is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CoreKind {
    Secret,
    ConfigMap,
    Service,
    EndpointSlice,
}

impl CoreKind {
    pub(super) const ALL: [Self; 4] = [Self::Secret, Self::ConfigMap, Self::Service, Self::EndpointSlice];

    pub(super) const fn api_version(self) -> &'static str {
        match self {
            Self::EndpointSlice => "discovery.k8s.io/v1",
            _ => "v1",
        }
    }
}

/// The judges of these kinds; made once.
pub(super) fn judges() -> Result<&'static BTreeMap<CoreKind, Judge>, &'static SchemaError> {
    static JUDGES: OnceLock<Result<BTreeMap<CoreKind, Judge>, SchemaError>> = OnceLock::new();
    JUDGES
        .get_or_init(|| CoreKind::ALL.into_iter().map(|kind| Ok((kind, Judge::new(&schema(kind))?))).collect())
        .as_ref()
}

fn schema(kind: CoreKind) -> Value {
    let texts = || json!({"type": "object", "additionalProperties": {"type": "string"}});
    let yes_or_no = || json!({"type": "boolean"});
    let text = || json!({"type": "string"});
    match kind {
        CoreKind::Secret => {
            object(&[], &[("type", text()), ("data", texts()), ("stringData", texts()), ("immutable", yes_or_no())])
        }
        CoreKind::ConfigMap => object(&[], &[("data", texts()), ("binaryData", texts()), ("immutable", yes_or_no())]),
        CoreKind::Service => object(&["spec"], &[("spec", service_spec()), ("status", anything())]),
        CoreKind::EndpointSlice => {
            let address_types = json!({"type": "string", "enum": ["IPv4", "IPv6", "FQDN"]});
            let port = object(
                &[],
                &[
                    ("name", text()),
                    ("port", json!({"type": "integer", "minimum": 1, "maximum": 65535})),
                    ("protocol", protocol()),
                    ("appProtocol", text()),
                ],
            );
            object(
                &["addressType", "endpoints"],
                &[("addressType", address_types), ("endpoints", list(endpoint())), ("ports", list(port))],
            )
        }
    }
}

fn service_spec() -> Value {
    let mut port = object(
        &["port"],
        &[
            ("name", json!({"type": "string"})),
            ("port", json!({"type": "integer", "minimum": 1, "maximum": 65535, "description": "Example: `80`."})),
            ("targetPort", json!({"x-kubernetes-int-or-string": true})),
            ("nodePort", json!({"type": "integer"})),
            ("protocol", protocol()),
            ("appProtocol", json!({"type": "string"})),
        ],
    );
    port["description"] = json!("A port of the Service.");
    let types = json!({"type": "string", "enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"], "default": "ClusterIP"});
    let mut spec = object(
        &[],
        &[
            ("type", types),
            ("externalName", json!({"type": "string", "minLength": 1, "maxLength": 253})),
            ("ports", list(port)),
            ("selector", json!({"type": "object", "additionalProperties": {"type": "string"}})),
            ("clusterIP", json!({"type": "string"})),
        ],
    );
    for name in [
        "allocateLoadBalancerNodePorts",
        "clusterIPs",
        "externalIPs",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "internalTrafficPolicy",
        "ipFamilies",
        "ipFamilyPolicy",
        "loadBalancerClass",
        "loadBalancerIP",
        "loadBalancerSourceRanges",
        "publishNotReadyAddresses",
        "sessionAffinity",
        "sessionAffinityConfig",
        "trafficDistribution",
    ] {
        spec["properties"][name] = anything();
    }
    spec
}

fn endpoint() -> Value {
    let conditions = object(
        &[],
        &[
            ("ready", json!({"type": "boolean"})),
            ("serving", json!({"type": "boolean"})),
            ("terminating", json!({"type": "boolean"})),
        ],
    );
    object(
        &["addresses"],
        &[
            ("addresses", json!({"type": "array", "minItems": 1, "maxItems": 100, "items": {"type": "string"}})),
            ("conditions", conditions),
            ("hostname", json!({"type": "string"})),
            ("nodeName", json!({"type": "string"})),
            ("zone", json!({"type": "string"})),
            ("targetRef", anything()),
            ("hints", anything()),
            ("deprecatedTopology", anything()),
        ],
    )
}

fn protocol() -> Value {
    json!({"type": "string", "enum": ["TCP", "UDP", "SCTP"], "default": "TCP"})
}

fn anything() -> Value {
    json!({"x-kubernetes-preserve-unknown-fields": true})
}

fn list(items: Value) -> Value {
    json!({"type": "array", "items": items})
}

fn object(required: &[&str], properties: &[(&str, Value)]) -> Value {
    let properties: Map<String, Value> =
        properties.iter().map(|(name, schema)| ((*name).to_owned(), schema.clone())).collect();
    json!({"type": "object", "required": required, "properties": properties})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_can_be_judged() {
        assert_eq!(judges().unwrap().len(), CoreKind::ALL.len());
    }
}
