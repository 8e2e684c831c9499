//! ApiRoute as a watched kind. `translate` has its translation.

use serde_json::Value;
use sluice_crds::ApiRoute;
use sluice_crds::condition::reason;

use crate::objects::watched::{Target, Watched, same_own};

impl Watched for ApiRoute {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec && same_own(&self.metadata, &other.metadata)
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

impl Target for ApiRoute {
    const NOT_FOUND: &'static str = reason::ROUTE_NOT_FOUND;
}
