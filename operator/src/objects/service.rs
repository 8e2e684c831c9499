//! Service as a watched kind: its schema in manifests, and what counts as a change.

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};
use sluice_crds::condition::reason;
use sluice_crds::reference::{CaSourceType, ServiceReference};

use crate::objects::key::ObjectKey;
use crate::objects::manifest_schema::{anything, list, object, protocol};
use crate::objects::table::Kind;
use crate::objects::watched::{Target, Watched};

impl Watched for Service {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec
    }

    fn manifest_schema() -> Option<Value> {
        Some(object(&["spec"], &[("spec", service_spec()), ("status", anything())]))
    }
}

/// The ConfigMap or Secret with the authorities of a Service that the object `key` names.
pub(super) fn authorities(key: &ObjectKey, service: &ServiceReference) -> Option<(Kind, ObjectKey)> {
    let source = service.tls.as_ref()?.ca.as_ref()?;
    let (kind, named) = match source.type_ {
        CaSourceType::ConfigMap => (Kind::ConfigMap, &source.config_map),
        CaSourceType::Secret => (Kind::Secret, &source.secret),
    };
    Some((kind, key.target(&named.as_ref()?.object)))
}

impl Target for Service {
    const NOT_FOUND: &'static str = reason::BACKEND_NOT_FOUND;
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
