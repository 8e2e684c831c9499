//! Uses of access keys that proxies report, until they are reported in statuses. A proxy is trusted for the Principals that its
//! fleet serves, and for no others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::jiff::Timestamp;
use sluice_wire::{FleetName, MAX_KEY_USES, ObjectRef, PartKind, Used};
use tokio::sync::watch;

use crate::publish::configuration::Current;
use crate::translate::Detail;

/// Keys that wait: more than any cluster has Principals. Others are reported again when they are used again.
const MAX_WAITING: usize = 262_144;

/// A Principal, and the id of one of its access keys.
pub type AccessKeyOf = (ObjectRef, String);

/// Uses that were reported and not taken yet. Clones are the same.
#[derive(Clone, Debug)]
pub struct KeyUses {
    waiting: Arc<Mutex<BTreeMap<AccessKeyOf, Timestamp>>>,
    changed: watch::Sender<()>,
}

impl Default for KeyUses {
    fn default() -> Self {
        Self { waiting: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl KeyUses {
    /// A proxy of a fleet reports uses.
    pub(crate) fn record(&self, used: Used, fleet: &FleetName, current: &Current, now: Timestamp) {
        let served = &current.of(fleet).parts;
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = false;
        for one in used.keys.into_iter().take(MAX_KEY_USES) {
            if one.principal.kind != PartKind::Principal || served.get(&one.principal).is_none() {
                continue;
            }
            let object = one.principal.object();
            let detail = current.statuses.get(&object).map(|status| &status.detail);
            let has_key = |detail: &Detail| matches!(detail, Detail::Principal { access_key_ids, .. } if access_key_ids.contains(&one.id));
            // A clock that is ahead would hide later uses.
            let at = i64::try_from(one.at).ok().and_then(|at| Timestamp::from_second(at).ok());
            let (true, Some(at)) = (detail.is_some_and(has_key), at.map(|at| at.min(now))) else { continue };
            let id = (object, one.id);
            if waiting.len() < MAX_WAITING || waiting.contains_key(&id) {
                let latest = waiting.entry(id).or_insert(at);
                *latest = at.max(*latest);
                changed = true;
            }
        }
        drop(waiting);
        if changed {
            self.changed.send_replace(());
        }
    }

    /// The latest use of each key that was reported since the last call.
    #[must_use]
    pub fn take(&self) -> BTreeMap<AccessKeyOf, Timestamp> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves after a report.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
