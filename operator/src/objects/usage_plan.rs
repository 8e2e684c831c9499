//! UsagePlan, apart from its translation.

use serde_json::Value;
use sluice_crds::UsagePlan;

use crate::objects::watched::{Watched, same_own};

impl Watched for UsagePlan {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec && same_own(&self.metadata, &other.metadata)
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}
