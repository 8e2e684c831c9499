//! ApiRoute as a watched kind. `translate` has its translation.

use serde_json::Value;
use sluice_crds::ApiRoute;
use sluice_crds::condition::reason;

use crate::objects::key::ObjectKey;
use crate::objects::service::authorities;
use crate::objects::table::Kind;
use crate::objects::watched::{Target, Watched, same_own};

impl Watched for ApiRoute {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec && same_own(&self.metadata, &other.metadata)
    }

    fn names(&self) -> Vec<(Kind, ObjectKey)> {
        let key = ObjectKey::of(self);
        let services = self.spec.rules.iter().filter_map(|rule| rule.integration.service.as_ref());
        services.filter_map(|service| authorities(&key, service)).collect()
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

impl Target for ApiRoute {
    const NOT_FOUND: &'static str = reason::ROUTE_NOT_FOUND;
}
