//! Entry points for the micro-benchmarks (`tests/microbench`), which measure a change without an API server. Not an API: anything
//! here may change or go.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::json;
use sluice_wire::{FleetName, Hello, Part, Parts};
use tokio::sync::watch;

use crate::cluster_state::ClusterState;
use crate::metrics::Metrics;
use crate::objects::Object;
use crate::publish::{Current, Membership, Proxies, Publisher, Rollout, delta};
use crate::report::{StatusCache, StatusQueue};
use crate::translate::Translator;

/// An operator with one Stage, many ApiRoutes and one proxy.
pub struct Operator {
    state: ClusterState,
    translator: Translator,
    metrics: Metrics,
    publisher: Publisher,
    current: watch::Receiver<Option<Arc<Current>>>,
    proxies: Proxies,
    proxy: Membership,
    /// What the proxy serves.
    served: Parts<Arc<Part>>,
    cache: StatusCache,
    queue: StatusQueue,
    changes: usize,
}

/// What a change caused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Translated nodes.
    pub translated: usize,
    /// Parts sent to the proxy.
    pub sent: usize,
    /// Statuses that were compared with those in the cluster.
    pub compared: usize,
}

fn route(number: usize, version: usize) -> Object {
    let value = json!({
        "metadata": {"name": format!("r{number}"), "namespace": "shop", "generation": version + 1},
        "spec": {
            "stages": [{"name": "prod"}],
            "authorization": {"type": "None"},
            "rules": [{"name": "get", "methods": ["GET"], "path": format!("/r{number}/v{version}/{{id}}"),
                "integration": {"type": "Mock", "mock": {}}}],
        },
    });
    serde_json::from_value::<sluice_crds::ApiRoute>(value).expect("the route has the schema").into()
}

impl Operator {
    /// With this number of ApiRoutes, all of which the proxy serves.
    ///
    /// # Errors
    /// The metrics cannot be registered.
    pub fn new(routes: usize) -> Result<Self, prometheus::Error> {
        let stage = json!({"metadata": {"name": "prod", "namespace": "shop"}, "spec": {}});
        let stage = serde_json::from_value::<sluice_crds::Stage>(stage).expect("the Stage has the schema");
        let objects = (0..routes).map(|number| route(number, 0)).chain([stage.into()]);
        let metrics = Metrics::new(&prometheus::Registry::new())?;
        let (publisher, proxies) = (Publisher::new(metrics.clone()), Proxies::new(metrics.clone()));
        let current = publisher.subscribe();
        let proxy = proxies.join(&Hello::new("one", "test"), Parts::new());
        let (cache, queue) = (StatusCache::default(), StatusQueue::default());
        let (state, translator) = (ClusterState::from_objects(objects), Translator::new());
        let (served, changes) = (Parts::new(), 0);
        let mut operator =
            Self { state, translator, metrics, publisher, current, proxies, proxy, served, cache, queue, changes };
        let translation = operator.translator.translate(&operator.state);
        operator.publisher.publish(translation);
        operator.report();
        operator.acknowledge();
        operator.report();
        Ok(operator)
    }

    /// Changes one ApiRoute: translation, publication, the delta for the proxy, its acknowledgement, and which statuses differ.
    pub fn change(&mut self) -> Cost {
        self.changes += 1;
        let changed = route(0, self.changes);
        let (kind, key) = changed.identity();
        let changed_objects = BTreeSet::from([(kind, key)]);
        self.state.apply(changed);
        self.cache.update(&self.state, &changed_objects);
        let mut cost = Cost::default();
        if let Some(translation) = self.translator.translate_changed(&self.state, &changed_objects) {
            cost.translated = self.translator.translated();
            self.metrics.problems(translation.statuses.problems());
            self.publisher.publish(translation);
        }
        cost.compared += self.report();
        cost.sent = self.acknowledge();
        cost.compared += self.report();
        cost
    }

    fn latest(&self) -> Arc<Current> {
        self.current.borrow().clone().expect("it has published")
    }

    /// Compares the statuses that may differ.
    fn report(&mut self) -> usize {
        let current = self.latest();
        let rollout = Arc::new(Rollout::of(&self.proxies, &current));
        self.queue.update(&current, &rollout, self.cache.take_changed());
        let pending: Vec<_> = self.queue.pending().cloned().collect();
        pending.iter().for_each(|object| self.queue.remove(object));
        pending.len()
    }

    /// The proxy applies what is published.
    fn acknowledge(&mut self) -> usize {
        let current = self.latest();
        let published = current.of(&FleetName::default());
        let sent = delta(&self.served, published).upsert.len();
        self.served = published.parts.clone();
        self.proxy.applied(published, Vec::new());
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_change_does_not_depend_on_the_number_of_routes() {
        for routes in [1, 10, 2_000] {
            let mut operator = Operator::new(routes).unwrap();
            for _ in 0..3 {
                assert_eq!(operator.change(), Cost { translated: 1, sent: 1, compared: 2 }, "{routes} routes");
            }
        }
    }
}
