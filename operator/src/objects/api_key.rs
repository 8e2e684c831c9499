//! ApiKey as a watched kind. `translate` has its translation.

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
        vec![(Kind::Secret, secret_of(self))]
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

/// The Secret that holds an ApiKey's key: the one it refers to, or the one that the operator creates.
#[must_use]
pub fn secret_of(api_key: &ApiKey) -> ObjectKey {
    let key = ObjectKey::of(api_key);
    match &api_key.spec.secret {
        Some(secret) => key.target(secret),
        None => ObjectKey::new(key.namespace, format!("{}{SECRET_NAME_SUFFIX}", key.name)),
    }
}
