//! ReferenceGrant of Gateway API: a namespace permits objects of other namespaces to refer to its objects.

use serde_json::{Value, json};

use crate::gateway_api::ReferenceGrant;
use crate::objects::key::ObjectKey;
use crate::objects::manifest_schema::{list, object};
use crate::objects::table::Kind;
use crate::objects::watched::Watched;

impl ReferenceGrant {
    /// The group of the grants in a namespace.
    #[must_use]
    pub fn of_namespace(namespace: &str) -> ObjectKey {
        ObjectKey::new(namespace, "")
    }

    /// Whether one of these grants, which are in the namespace of the target, permits objects of that kind and namespace to
    /// refer to the target.
    pub(crate) fn any_permits<'a>(
        grants: impl IntoIterator<Item = &'a Self>,
        (kind, namespace): (Kind, &str),
        (target_kind, target): (Kind, &ObjectKey),
    ) -> bool {
        let (group, target_group) = (kind.group(), target_kind.group());
        let from = (group.as_str(), kind.as_str(), namespace);
        let to = (target_group.as_str(), target_kind.as_str(), target.name.as_str());
        grants.into_iter().any(|grant| grant.permits(from, to))
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
