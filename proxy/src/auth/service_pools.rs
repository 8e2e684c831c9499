//! The Services that authorizers call: the endpoints of each, by its part. Their connections are apart from those of integrations, so
//! that neither waits for the other. `state` updates the endpoints.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http_body_util::Empty;
use sluice_wire::PartName;

use crate::transport::{Context, Failures, Pool};

/// The endpoints of one server.
pub(crate) type Servers = Pool<Empty<Bytes>>;

/// The Services that are called.
pub(crate) struct ServicePools {
    pools: Mutex<BTreeMap<PartName, Arc<Servers>>>,
    transport: Context,
}

impl ServicePools {
    pub(super) fn new(transport: Context) -> Self {
        Self { pools: Mutex::default(), transport }
    }

    fn pools(&self) -> MutexGuard<'_, BTreeMap<PartName, Arc<Servers>>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The endpoints of a Service; a new one has none until they are updated.
    pub(super) fn get_or_new(&self, part: &PartName) -> Arc<Servers> {
        // The authorizers log failures.
        let new = || Arc::new(Servers::new(Failures::unlogged(), self.transport.clone()));
        self.pools().entry(part.clone()).or_insert_with(new).clone()
    }

    /// The endpoints of a Service; none: no authorizer calls it.
    pub(super) fn get(&self, part: &PartName) -> Option<Arc<Servers>> {
        self.pools().get(part).cloned()
    }

    /// Forgets the Services that no authorizer calls any more.
    pub(super) fn sweep(&self) {
        self.pools().retain(|_, pool| Arc::strong_count(pool) > 1);
    }
}
