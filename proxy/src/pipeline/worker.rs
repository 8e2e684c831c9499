//! A worker thread's handle on the configuration and on its recorder.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::gateway::Gateway;
use crate::observe::Recorder;

/// The configuration of one request. Each worker thread has its own reference count, so that requests write to no memory of
/// other threads.
pub(crate) struct ConfigSnapshot {
    pub(crate) gateway: Arc<Gateway>,
}

/// One worker thread.
pub(crate) struct Worker {
    pub(crate) recorder: Arc<Recorder>,
    current: Arc<ArcSwap<Gateway>>,
    snapshot: Mutex<Arc<ConfigSnapshot>>,
}

impl Worker {
    pub(crate) fn new(current: Arc<ArcSwap<Gateway>>, recorder: Recorder) -> Arc<Self> {
        let snapshot = Mutex::new(Arc::new(ConfigSnapshot { gateway: current.load_full() }));
        Arc::new(Self { recorder: Arc::new(recorder), current, snapshot })
    }

    /// The current configuration. Called once per request.
    pub(crate) fn snapshot(&self) -> Arc<ConfigSnapshot> {
        let current = self.current.load();
        let mut snapshot = self.snapshot.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&snapshot.gateway, &current) {
            *snapshot = Arc::new(ConfigSnapshot { gateway: Arc::clone(&current) });
        }
        snapshot.clone()
    }
}
