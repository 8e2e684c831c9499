//! Metrics of authorizers: counters of their decisions, and how many they remember.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntGaugeVec, Opts};

use super::counters::{Histogram, count};
use crate::auth::{Authorizer, KINDS, Outcome};

/// The counters of one kind of authorizer.
#[derive(Default)]
pub(super) struct AuthorizerCounters {
    pub(super) outcomes: [AtomicU64; Outcome::TEXTS.len()],
    pub(super) duration: Histogram,
}

impl AuthorizerCounters {
    /// A decision; `took` if a credential was verified for it.
    pub(super) fn record(&self, outcome: Outcome, took: Option<Duration>) {
        count(&self.outcomes[outcome as usize]);
        if let Some(took) = took {
            self.duration.observe(took);
        }
    }
}

/// The Prometheus collector of what authorizers remember.
#[derive(Clone)]
pub(super) struct AuthorizerCollector {
    all: Arc<Mutex<BTreeMap<Box<str>, Weak<Authorizer>>>>,
    remembered: IntGaugeVec,
}

impl AuthorizerCollector {
    pub(super) fn new() -> Result<Self, prometheus::Error> {
        let options = Opts::new("sluice_authorizer_remembered_decisions", "Decisions that an Authorizer remembers.");
        Ok(Self { all: Arc::default(), remembered: IntGaugeVec::new(options, &["authorizer", "kind"])? })
    }

    /// An Authorizer was compiled, or is gone.
    pub(super) fn set(&self, name: &str, authorizer: Option<&Arc<Authorizer>>) {
        let mut all = self.all();
        match authorizer {
            Some(authorizer) => drop(all.insert(name.into(), Arc::downgrade(authorizer))),
            None => drop(all.remove(name)),
        }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Weak<Authorizer>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for AuthorizerCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.remembered.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.remembered.reset();
        for (name, authorizer) in self.all().iter() {
            let Some(authorizer) = authorizer.upgrade() else { continue };
            let Some(kind) = KINDS.get(authorizer.kind()) else { continue };
            let count = i64::try_from(authorizer.remembered()).unwrap_or(i64::MAX);
            self.remembered.with_label_values(&[&**name, *kind]).set(count);
        }
        self.remembered.collect()
    }
}
