//! The properties of each kind besides its row in the table.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use sluice_crds::schema::Path;
use sluice_crds::warning::SILENCE;

use crate::objects::key::ObjectKey;
use crate::objects::table::{Kind, Tabled};

/// A kind of object that the operator watches.
pub trait Watched: Tabled {
    /// Whether the content of manifests must not appear in messages.
    const SENSITIVE: bool = false;

    /// Whether everything that translation reads is the same in two versions of an object. Statuses and most metadata change
    /// without an effect.
    fn same(&self, other: &Self) -> bool;

    /// The group in which other objects look for objects of this kind, where they do not look for single ones: the slices
    /// of a Service, for example.
    fn group(&self) -> Option<ObjectKey> {
        None
    }

    /// The objects of kinds with `Watch::ByName` that this object names.
    fn names(&self) -> Vec<(Kind, ObjectKey)> {
        Vec::new()
    }

    /// The schema of a manifest of this kind, as far as configuration depends on it; none for kinds of Sluice, whose schemas
    /// are in their CustomResourceDefinitions.
    fn manifest_schema() -> Option<Value>;

    /// Changes a valid manifest as an API server does when it stores the object.
    ///
    /// # Errors
    /// The field that an API server would reject, and a sentence about it.
    fn normalize(_manifest: &mut Value) -> Result<(), (Path, String)> {
        Ok(())
    }
}

/// A kind that other objects refer to.
pub trait Target: Watched {
    /// The reason of `ResolvedRefs` when there is no object of that name.
    const NOT_FOUND: &'static str;
}

/// Whether the metadata of an object of Sluice is the same for translation.
pub(super) fn same_own(a: &ObjectMeta, b: &ObjectMeta) -> bool {
    let silence = |meta: &ObjectMeta| meta.annotations.as_ref().and_then(|all| all.get(SILENCE)).cloned();
    a.uid == b.uid
        && a.generation == b.generation
        && a.creation_timestamp == b.creation_timestamp
        && silence(a) == silence(b)
}
