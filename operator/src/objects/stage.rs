//! Stage as a watched kind. `translate` has its translation.

use serde_json::Value;
use sluice_crds::Stage;
use sluice_crds::condition::reason;
use sluice_crds::reference::Reference;

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
        let secrets = secrets.map(|secret| (Kind::Secret, key.target(secret)));
        let client_auth = || self.spec.tls.iter().filter_map(|tls| tls.client_auth.as_ref());
        let of = |map: Option<&Reference>, secret: Option<&Reference>| {
            let map = map.map(|map| (Kind::ConfigMap, key.target(map)));
            map.into_iter().chain(secret.map(|secret| (Kind::Secret, key.target(secret)))).collect::<Vec<_>>()
        };
        let authorities = client_auth().flat_map(|client_auth| &client_auth.ca).flat_map(|source| {
            of(source.config_map.as_ref().map(|map| &map.object), source.secret.as_ref().map(|secret| &secret.object))
        });
        let lists = client_auth().flat_map(|client_auth| &client_auth.revocation).flat_map(|source| {
            of(source.config_map.as_ref().map(|map| &map.object), source.secret.as_ref().map(|secret| &secret.object))
        });
        secrets.chain(authorities).chain(lists).collect()
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

impl Target for Stage {
    const NOT_FOUND: &'static str = reason::STAGE_NOT_FOUND;
}
