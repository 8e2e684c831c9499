//! The compiled configuration: hosts, Stages and rules with everything that is done for their requests. Immutable, and replaced
//! as a whole. `compile` makes it from parts, `pipeline` uses it.

mod hosts;
pub(crate) mod path;
mod readings;
mod request_policy;
pub(crate) mod router;
mod stage;
mod stage_path;

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_wire::{Hash, PartName};

use crate::key::Keys;

pub(crate) use hosts::{HostTable, below};
pub(crate) use readings::readings;
pub(crate) use request_policy::ResolvedPolicy;
pub(crate) use stage::{
    AWS_BODY, Action, Authorize, Caching, ClientAuth, Edits, ExternalHttp, Integration, KeySource, Matched, Mock,
    Operation, PathSegment, Policy, RequestHead, Rule, Stage, TlsPolicy, body_limit,
};
pub(crate) use stage_path::{Reduced, StagePath};

/// One configuration, complete.
pub(crate) struct Gateway {
    pub(crate) version: Hash,
    pub(crate) hosts: HostTable,
    pub(crate) stages: BTreeMap<PartName, Arc<Stage>>,
    pub(crate) keys: Keys,
    /// How many proxies share each limit.
    pub(crate) fleet: u32,
    /// Whether an authorizer verifies signatures: it needs requests as clients sent them.
    pub(crate) has_signatures: bool,
}

impl Gateway {
    /// Nothing is configured: every request is rejected as not configured.
    pub(crate) fn empty() -> Self {
        Self {
            version: Hash::NONE,
            hosts: HostTable::default(),
            stages: BTreeMap::new(),
            keys: Keys::default(),
            fleet: 1,
            has_signatures: false,
        }
    }
}
