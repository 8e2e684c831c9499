//! What authorizers share: key sets, and the means to call other servers.

use std::sync::Arc;

use sluice_wire::PartName;
use tokio::runtime::Handle;

use super::fetch::Fetcher;
use super::jwt::KeySets;
use super::principals::Principals;
use super::service_pools::Servers;
use crate::access_review::AccessReviews;

/// What authorizers are compiled with.
pub(crate) struct Services {
    /// Where calls run that several requests wait for.
    pub(super) runtime: Handle,
    pub(super) key_sets: KeySets,
    /// None: there is no network, and authorizers that need one cannot be used.
    pub(super) fetcher: Option<Fetcher>,
    pub(super) access_reviews: AccessReviews,
    /// Whose signatures are accepted.
    pub(crate) principals: Principals,
}

impl Services {
    /// Over the network.
    pub(crate) fn new(runtime: Handle, fetcher: Fetcher, access_reviews: AccessReviews) -> Self {
        let key_sets = KeySets::new(runtime.clone(), fetcher.clone());
        Self { runtime, key_sets, fetcher: Some(fetcher), access_reviews, principals: Principals::default() }
    }

    /// With key sets only, which may come from elsewhere.
    pub(crate) fn without_network(runtime: Handle, key_sets: KeySets) -> Self {
        Self {
            runtime,
            key_sets,
            fetcher: None,
            access_reviews: AccessReviews::default(),
            principals: Principals::default(),
        }
    }

    /// The endpoints of a Service that authorizers call; none: no authorizer calls it.
    pub(crate) fn called(&self, part: &PartName) -> Option<Arc<Servers>> {
        self.fetcher.as_ref().and_then(|fetcher| fetcher.services().get(part))
    }

    /// Forgets the Services that no authorizer calls any more.
    pub(crate) fn sweep(&self) {
        if let Some(fetcher) = &self.fetcher {
            fetcher.services().sweep();
        }
    }
}
