//! The counters of stages and routes, and their collector.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};

use super::authorizers::AuthorizerCounters;
use super::counters::{Histogram, PerWorker, count};
use crate::auth::{KINDS, Outcome};
use crate::cache::Phase;
use crate::reject::REASONS;

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
const SCOPES: [&str; 3] = ["key", "client", "rule"];
/// Maximum number of routes with their own metrics. Further routes are counted for the stage only.
pub(super) const MAX_ROUTES: usize = 5_000;

/// The kind of throttle that rejected a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Of an API key.
    Key,
    /// Of a client at a rule.
    Client,
    /// Of a rule.
    Rule,
}

/// The counters of one stage.
pub(crate) struct StageMetrics {
    counters: PerWorker<StageCounters>,
    routes: Mutex<BTreeMap<Box<str>, Arc<RouteMetrics>>>,
    /// Requests without a route, or of a route without its own counters.
    pub(crate) unrouted: Arc<RouteMetrics>,
    named: Arc<AtomicUsize>,
    workers: usize,
}

struct StageCounters {
    rejects: [AtomicU64; REASONS.len()],
    throttled: [AtomicU64; SCOPES.len()],
    cache: [AtomicU64; Phase::TEXTS.len()],
    authorizers: [AuthorizerCounters; KINDS.len()],
}

// Arrays of more than 32 have no default.
impl Default for StageCounters {
    fn default() -> Self {
        Self {
            rejects: [const { AtomicU64::new(0) }; REASONS.len()],
            throttled: Default::default(),
            cache: Default::default(),
            authorizers: Default::default(),
        }
    }
}

/// The counters of one route at one stage.
pub(crate) struct RouteMetrics(PerWorker<RouteCounters>);

#[derive(Default)]
struct RouteCounters {
    classes: [AtomicU64; CLASSES.len()],
    duration: Histogram,
    upstream: Histogram,
}

impl StageMetrics {
    fn new(workers: usize, named: Arc<AtomicUsize>) -> Self {
        let unrouted = Arc::new(RouteMetrics(PerWorker::new(workers)));
        Self { counters: PerWorker::new(workers), routes: Mutex::default(), unrouted, named, workers }
    }

    /// The counters of a route, which are created if they do not exist; those of the stage if there are too many routes.
    pub(crate) fn route(&self, route: &str) -> Arc<RouteMetrics> {
        let mut routes = locked(&self.routes);
        if let Some(known) = routes.get(route) {
            return known.clone();
        }
        if self.named.fetch_add(1, Ordering::Relaxed) >= MAX_ROUTES {
            self.named.fetch_sub(1, Ordering::Relaxed);
            return self.unrouted.clone();
        }
        let made = Arc::new(RouteMetrics(PerWorker::new(self.workers)));
        routes.insert(route.into(), made.clone());
        made
    }

    /// Removes a route.
    pub(crate) fn remove_route(&self, route: &str) {
        if locked(&self.routes).remove(route).is_some() {
            self.named.fetch_sub(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn reject(&self, worker: usize, reason: usize) {
        if let Some(number) = self.counters.of(worker).rejects.get(reason) {
            count(number);
        }
    }

    pub(crate) fn throttled(&self, worker: usize, scope: Scope) {
        count(&self.counters.of(worker).throttled[scope as usize]);
    }

    /// A decision of an authorizer of the kind at this place in `KINDS`; `took` if a credential was verified for it.
    pub(crate) fn authorized(&self, worker: usize, kind: usize, outcome: Outcome, took: Option<Duration>) {
        let Some(counters) = self.counters.of(worker).authorizers.get(kind) else { return };
        counters.record(outcome, took);
    }

    pub(crate) fn cache(&self, worker: usize, phase: Phase) {
        count(&self.counters.of(worker).cache[phase.index()]);
    }
}

impl Drop for StageMetrics {
    fn drop(&mut self) {
        self.named.fetch_sub(locked(&self.routes).len(), Ordering::Relaxed);
    }
}

impl RouteMetrics {
    pub(crate) fn record(&self, worker: usize, status: u16, took: Duration) {
        let counters = self.0.of(worker);
        let class = usize::from(status / 100).wrapping_sub(1).min(CLASSES.len() - 1);
        count(&counters.classes[class]);
        counters.duration.observe(took);
    }

    pub(crate) fn upstream(&self, worker: usize, took: Duration) {
        self.0.of(worker).upstream.observe(took);
    }
}

/// The Prometheus collector of all stages.
#[derive(Clone)]
pub(super) struct StageCollector {
    all: Arc<Mutex<BTreeMap<Box<str>, Arc<StageMetrics>>>>,
    descriptions: Arc<[Desc; FAMILIES.len()]>,
    /// Number of routes with their own counters.
    named: Arc<AtomicUsize>,
    workers: usize,
}

struct Family {
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    kind: MetricType,
}

const fn family(name: &'static str, help: &'static str, labels: &'static [&'static str], kind: MetricType) -> Family {
    Family { name, help, labels, kind }
}

const FAMILIES: [Family; 8] = {
    use MetricType::{COUNTER, HISTOGRAM};
    [
        family("sluice_requests_total", "Completed requests.", &["stage", "route", "code"], COUNTER),
        family(
            "sluice_request_duration_seconds",
            "Time from the head of the request to the end of the response.",
            &["stage", "route"],
            HISTOGRAM,
        ),
        family(
            "sluice_upstream_duration_seconds",
            "Time from forwarding the request to the head of the response.",
            &["stage", "route"],
            HISTOGRAM,
        ),
        family("sluice_rejects_total", "Requests rejected by the gateway, by reason.", &["stage", "reason"], COUNTER),
        family("sluice_throttled_total", "Requests rejected by a throttle.", &["stage", "scope"], COUNTER),
        family(
            "sluice_cache_requests_total",
            "Requests to rules with a cache, by result.",
            &["stage", "result"],
            COUNTER,
        ),
        family(
            "sluice_authorizer_decisions_total",
            "Decisions of authorizers, by kind and outcome.",
            &["stage", "kind", "outcome"],
            COUNTER,
        ),
        family(
            "sluice_authorizer_duration_seconds",
            "Time to verify a credential for which no decision was remembered, including calls to other servers.",
            &["stage", "kind"],
            HISTOGRAM,
        ),
    ]
};

impl StageCollector {
    pub(super) fn new(workers: usize) -> Result<Self, prometheus::Error> {
        let description = |family: &Family| {
            let labels = family.labels.iter().map(|label| (*label).to_owned()).collect();
            Desc::new(family.name.to_owned(), family.help.to_owned(), labels, Default::default())
        };
        let [a, b, c, d, e, f, g, h] = FAMILIES.each_ref().map(description);
        let descriptions = Arc::new([a?, b?, c?, d?, e?, f?, g?, h?]);
        Ok(Self { all: Arc::default(), descriptions, named: Arc::default(), workers })
    }

    /// The counters of a stage, which are created if they do not exist.
    pub(super) fn stage(&self, stage: &str) -> Arc<StageMetrics> {
        let mut all = locked(&self.all);
        let made = || Arc::new(StageMetrics::new(self.workers, self.named.clone()));
        all.entry(stage.into()).or_insert_with(made).clone()
    }

    /// Removes a stage with its routes.
    pub(super) fn remove(&self, stage: &str) {
        locked(&self.all).remove(stage);
    }
}

impl Collector for StageCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let stages: Vec<(Box<str>, Arc<StageMetrics>)> =
            locked(&self.all).iter().map(|(name, stage)| (name.clone(), stage.clone())).collect();
        let mut out = Page::default();
        for (name, stage) in &stages {
            out.route(name, "", &stage.unrouted);
            let routes: Vec<(Box<str>, Arc<RouteMetrics>)> =
                locked(&stage.routes).iter().map(|(route, counters)| (route.clone(), counters.clone())).collect();
            for (route, counters) in routes {
                out.route(name, &route, &counters);
            }
            for (at, reason) in REASONS.iter().enumerate() {
                out.counter(3, &[name, reason], stage.counters.sum(|counters| &counters.rejects[at]));
            }
            for (at, scope) in SCOPES.iter().enumerate() {
                out.counter(4, &[name, scope], stage.counters.sum(|counters| &counters.throttled[at]));
            }
            for (at, result) in Phase::TEXTS.iter().enumerate() {
                out.counter(5, &[name, result], stage.counters.sum(|counters| &counters.cache[at]));
            }
            for (kind, text) in KINDS.iter().enumerate() {
                for (at, outcome) in Outcome::TEXTS.iter().enumerate() {
                    let sum = stage.counters.sum(|counters| &counters.authorizers[kind].outcomes[at]);
                    out.counter(6, &[name, text, outcome], sum);
                }
                let duration = stage.counters.histogram(|counters| &counters.authorizers[kind].duration);
                out.histogram(7, &[name, text], duration);
            }
        }
        out.families()
    }
}

/// Metrics by family.
#[derive(Default)]
struct Page([Vec<proto::Metric>; FAMILIES.len()]);

impl Page {
    fn route(&mut self, stage: &str, route: &str, counters: &RouteMetrics) {
        for (at, class) in CLASSES.iter().enumerate() {
            self.counter(0, &[stage, route, class], counters.0.sum(|counters| &counters.classes[at]));
        }
        self.histogram(1, &[stage, route], counters.0.histogram(|counters| &counters.duration));
        self.histogram(2, &[stage, route], counters.0.histogram(|counters| &counters.upstream));
    }

    /// Counters that are 0 are left out.
    fn counter(&mut self, family: usize, labels: &[&str], value: u64) {
        if value == 0 {
            return;
        }
        let mut counter = proto::Counter::default();
        #[allow(clippy::cast_precision_loss, reason = "Prometheus counts in floating point")]
        counter.set_value(value as f64);
        let mut metric = proto::Metric::from_label(pairs(family, labels));
        metric.set_counter(counter);
        self.0[family].push(metric);
    }

    fn histogram(&mut self, family: usize, labels: &[&str], histogram: Option<proto::Histogram>) {
        let Some(histogram) = histogram else { return };
        let mut metric = proto::Metric::from_label(pairs(family, labels));
        metric.set_histogram(histogram);
        self.0[family].push(metric);
    }

    /// A family without metrics is left out, because the registry rejects it.
    fn families(self) -> Vec<MetricFamily> {
        let named = FAMILIES.iter().zip(self.0).filter(|(_, metrics)| !metrics.is_empty());
        named
            .map(|(family, metrics)| {
                let mut out = MetricFamily::default();
                out.set_name(family.name.to_owned());
                out.set_help(family.help.to_owned());
                out.set_field_type(family.kind);
                out.set_metric(metrics);
                out
            })
            .collect()
    }
}

fn pairs(family: usize, values: &[&str]) -> Vec<LabelPair> {
    let mut pairs: Vec<LabelPair> = FAMILIES[family]
        .labels
        .iter()
        .zip(values)
        .map(|(name, value)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        })
        .collect();
    pairs.sort_by(|a, b| a.name().cmp(b.name()));
    pairs
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
