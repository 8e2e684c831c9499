//! ReferenceGrant of Gateway API: a namespace permits objects of other namespaces to refer to its objects.

use serde_json::{Value, json};

use crate::gateway_api::ReferenceGrant;
use crate::objects::key::ObjectKey;
use crate::objects::manifest_schema::{list, object};
use crate::objects::watched::Watched;

impl ReferenceGrant {
    /// The group of the grants in a namespace.
    #[must_use]
    pub fn of_namespace(namespace: &str) -> ObjectKey {
        ObjectKey::new(namespace, "")
    }
}

impl Watched for ReferenceGrant {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec
    }

    fn group(&self) -> Option<ObjectKey> {
        Some(Self::of_namespace(&ObjectKey::of(self).namespace))
    }

    fn manifest_schema() -> Option<Value> {
        let text = || json!({"type": "string", "maxLength": 253});
        let from =
            object(&["group", "kind", "namespace"], &[("group", text()), ("kind", text()), ("namespace", text())]);
        let to = object(&["group", "kind"], &[("group", text()), ("kind", text()), ("name", text())]);
        let spec = object(&["from", "to"], &[("from", list(from)), ("to", list(to))]);
        Some(object(&["spec"], &[("spec", spec)]))
    }
}
