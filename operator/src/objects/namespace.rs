//! Namespace as a watched kind. Selectors of namespaces select by its labels.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::Value;

use crate::objects::manifest_schema::{anything, object};
use crate::objects::watched::Watched;

impl Watched for Namespace {
    fn same(&self, other: &Self) -> bool {
        self.metadata.labels == other.metadata.labels
    }

    fn manifest_schema() -> Option<Value> {
        Some(object(&[], &[("spec", anything()), ("status", anything())]))
    }
}
