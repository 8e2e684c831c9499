//! EndpointSlice as a watched kind: its schema in manifests, and what counts as a change.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde_json::{Value, json};

use crate::objects::key::ObjectKey;
use crate::objects::manifest_schema::{anything, list, object, protocol};
use crate::objects::watched::Watched;

/// The label by which an EndpointSlice names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

impl Watched for EndpointSlice {
    fn same(&self, other: &Self) -> bool {
        self.endpoints == other.endpoints && self.ports == other.ports && self.address_type == other.address_type
    }

    /// The Service of the slice.
    fn group(&self) -> Option<ObjectKey> {
        let service = self.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        Some(ObjectKey::new(ObjectKey::of(self).namespace, service))
    }

    fn manifest_schema() -> Option<Value> {
        let address_types = json!({"type": "string", "enum": ["IPv4", "IPv6", "FQDN"]});
        let port = object(
            &[],
            &[
                ("name", json!({"type": "string"})),
                ("port", json!({"type": "integer", "minimum": 1, "maximum": 65535})),
                ("protocol", protocol()),
                ("appProtocol", json!({"type": "string"})),
            ],
        );
        Some(object(
            &["addressType", "endpoints"],
            &[("addressType", address_types), ("endpoints", list(endpoint())), ("ports", list(port))],
        ))
    }
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
