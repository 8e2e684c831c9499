//! Types of Gateway API that the operator reads. It never writes them, so they are defined here and not in `crds`.

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// A ReferenceGrant. `v1beta1` is the version that every release of Gateway API serves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ReferenceGrant {
    /// Its metadata; the namespace is the one whose objects may be referred to.
    pub metadata: ObjectMeta,
    /// What it permits.
    pub spec: ReferenceGrantSpec,
}

/// What a ReferenceGrant permits: every `from` may refer to every `to`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ReferenceGrantSpec {
    /// The objects that may refer.
    #[serde(default)]
    pub from: Vec<ReferenceGrantFrom>,
    /// The objects that they may refer to.
    #[serde(default)]
    pub to: Vec<ReferenceGrantTo>,
}

/// All objects of a kind in a namespace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ReferenceGrantFrom {
    /// The API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace.
    pub namespace: String,
}

/// Objects of a kind in the namespace of the grant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct ReferenceGrantTo {
    /// The API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The name; none: every object of the kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl k8s_openapi::Resource for ReferenceGrant {
    const API_VERSION: &'static str = "gateway.networking.k8s.io/v1beta1";
    const GROUP: &'static str = "gateway.networking.k8s.io";
    const KIND: &'static str = "ReferenceGrant";
    const VERSION: &'static str = "v1beta1";
    const URL_PATH_SEGMENT: &'static str = "referencegrants";
    type Scope = NamespaceResourceScope;
}

impl k8s_openapi::Metadata for ReferenceGrant {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

impl ReferenceGrant {
    /// Whether objects of a group, kind and namespace may refer to the object of this group, kind and name in the namespace of
    /// the grant.
    #[must_use]
    pub fn permits(&self, from: (&str, &str, &str), to: (&str, &str, &str)) -> bool {
        let from = self.spec.from.iter().any(|may| (&*may.group, &*may.kind, &*may.namespace) == from);
        let names = |name: &Option<String>| name.as_deref().is_none_or(|name| name.is_empty() || name == to.2);
        from && self.spec.to.iter().any(|target| (&*target.group, &*target.kind) == (to.0, to.1) && names(&target.name))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_grant_permits_what_it_names_and_nothing_else() {
        let grant = ReferenceGrant {
            spec: serde_json::from_value(json!({
                "from": [{"group": "sluice.dev", "kind": "Stage", "namespace": "shop"}],
                "to": [{"group": "", "kind": "Secret", "name": "tls"}, {"group": "", "kind": "ConfigMap"}],
            }))
            .unwrap(),
            ..ReferenceGrant::default()
        };
        let stage = ("sluice.dev", "Stage", "shop");
        for (from, to, permitted) in [
            (stage, ("", "Secret", "tls"), true),
            (stage, ("", "ConfigMap", "any"), true),
            (stage, ("", "Secret", "other"), false),
            (stage, ("", "Service", "tls"), false),
            (stage, ("sluice.dev", "Secret", "tls"), false),
            (("sluice.dev", "Stage", "other"), ("", "Secret", "tls"), false),
            (("sluice.dev", "ApiRoute", "shop"), ("", "Secret", "tls"), false),
            (("", "Stage", "shop"), ("", "Secret", "tls"), false),
        ] {
            assert_eq!(grant.permits(from, to), permitted, "{from:?} to {to:?}");
        }
        assert!(!ReferenceGrant::default().permits(stage, ("", "Secret", "tls")), "an empty grant permits nothing");
    }
}
