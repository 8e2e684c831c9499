//! UsagePlan as a watched kind. `translate` has its translation.

use serde_json::Value;
use sluice_crds::UsagePlan;
use sluice_crds::condition::reason;

use crate::objects::watched::{Target, Watched, same_own};

impl Watched for UsagePlan {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec && same_own(&self.metadata, &other.metadata)
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

impl Target for UsagePlan {
    const NOT_FOUND: &'static str = reason::PLAN_NOT_FOUND;
}
