//! ApiKey, apart from its translation.

use kube::ResourceExt as _;
use serde_json::Value;
use sluice_crds::ApiKey;
use sluice_crds::api_key::SECRET_NAME_SUFFIX;

use crate::objects::key::ObjectKey;
use crate::objects::table::Kind;
use crate::objects::watched::{Watched, same_own};

impl Watched for ApiKey {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec && same_own(&self.metadata, &other.metadata)
    }

    fn names(&self) -> Vec<(Kind, ObjectKey)> {
        vec![(Kind::Secret, ObjectKey::new(ObjectKey::of(self).namespace, secret_of(self)))]
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

/// The name of the Secret that holds an ApiKey's key: the named one, or the one that the operator creates.
#[must_use]
pub fn secret_of(api_key: &ApiKey) -> String {
    let created = || format!("{}{SECRET_NAME_SUFFIX}", api_key.name_any());
    api_key.spec.secret.as_ref().map_or_else(created, |secret| secret.name.clone())
}
