//! Holds the current configurations and makes new ones known to the streams and to the status writer.

use std::sync::Arc;

use sluice_wire::Parts;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::publish::configuration::Current;
use crate::translate::Translation;

/// Where the current configurations are put; none before the first.
#[derive(Clone, Debug)]
pub struct Publisher {
    current: watch::Sender<Option<Arc<Current>>>,
    metrics: Metrics,
}

impl Publisher {
    /// Nothing is published yet.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self { current: watch::Sender::new(None), metrics }
    }

    /// Follows the current configurations.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Option<Arc<Current>>> {
        self.current.subscribe()
    }

    /// Publishes a translation: to each fleet its configuration.
    pub fn publish(&self, translation: Translation) {
        let before = self.current.borrow().clone();
        let now = Current::from(translation);
        for (fleet, published) in &now.fleets {
            let before = before.as_ref().and_then(|current| current.fleets.get(fleet));
            if before.is_some_and(|before| before.version == published.version) {
                continue;
            }
            let growth = published.growth(before.map_or(&Parts::new(), |before| &before.parts));
            let (replaced, version) = (before.map(|before| before.version.short()), published.version.short());
            self.metrics.published(fleet, replaced.as_deref(), &version, growth);
            let parts = published.parts.len();
            tracing::info!(fleet.name = %fleet, config.version = version, config.parts = parts, "configuration published");
        }
        for (fleet, gone) in before.iter().flat_map(|current| &current.fleets) {
            if !now.fleets.contains_key(fleet) {
                self.metrics.unpublished(fleet, &gone.version.short());
                tracing::info!(fleet.name = %fleet, "no Stage names the fleet any more; its configuration is empty");
            }
        }
        self.current.send_replace(Some(Arc::new(now)));
    }
}
