//! Stage, apart from its translation.

use serde_json::Value;
use sluice_crds::Stage;

use crate::objects::key::ObjectKey;
use crate::objects::table::Kind;
use crate::objects::watched::{Watched, same_own};

impl Watched for Stage {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec && same_own(&self.metadata, &other.metadata)
    }

    fn names(&self) -> Vec<(Kind, ObjectKey)> {
        let namespace = ObjectKey::of(self).namespace;
        let secrets = self.spec.tls.iter().map(|tls| &tls.secret_name);
        secrets.map(|name| (Kind::Secret, ObjectKey::new(namespace.clone(), name))).collect()
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}
