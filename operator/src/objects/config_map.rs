//! ConfigMap as a watched kind: its schema in manifests, and what counts as a change.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use sluice_crds::condition::reason;
use sluice_crds::schema::Path;

use crate::objects::manifest_schema::{base64_entries, object, texts};
use crate::objects::watched::{Target, Watched};

impl Watched for ConfigMap {
    fn same(&self, other: &Self) -> bool {
        self.data == other.data && self.binary_data == other.binary_data
    }

    fn manifest_schema() -> Option<Value> {
        let immutable = json!({"type": "boolean"});
        Some(object(&[], &[("data", texts()), ("binaryData", texts()), ("immutable", immutable)]))
    }

    fn normalize(manifest: &mut Value) -> Result<(), (Path, String)> {
        base64_entries(manifest, "binaryData", "")
    }
}

impl Target for ConfigMap {
    const NOT_FOUND: &'static str = reason::CONFIG_MAP_NOT_FOUND;
}
