//! Stage as a watched kind. `translate` has its translation.

use serde_json::Value;
use sluice_crds::Stage;
use sluice_crds::condition::reason;

use crate::objects::key::ObjectKey;
use crate::objects::table::Kind;
use crate::objects::watched::{Target, Watched, same_own};

impl Watched for Stage {
    fn same(&self, other: &Self) -> bool {
        let claimed = |stage: &Self| {
            stage.status.as_ref().map(|status| (status.hostnames.clone(), status.base_path.clone())).unwrap_or_default()
        };
        self.spec == other.spec && same_own(&self.metadata, &other.metadata) && claimed(self) == claimed(other)
    }

    fn names(&self) -> Vec<(Kind, ObjectKey)> {
        let key = ObjectKey::of(self);
        let secrets = self.spec.tls.iter().flat_map(|tls| &tls.certificates);
        secrets.map(|secret| (Kind::Secret, key.target(secret))).collect()
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

impl Target for Stage {
    const NOT_FOUND: &'static str = reason::STAGE_NOT_FOUND;
}
