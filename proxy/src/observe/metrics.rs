//! What is counted. Children are resolved when a stage or rule is compiled and removed when it is gone.
//! Where they are served is the daemon's business.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

use crate::exchange::reject::REASONS;

const CLASSES: [&str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];
const BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];
/// Routes with metrics of their own; those that come later are counted under the stage only.
const MAX_ROUTES: usize = 5_000;

/// Every family of the request path.
pub(crate) struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    upstream: HistogramVec,
    rejects: IntCounterVec,
    throttled: IntCounterVec,
    cache: IntCounterVec,
    version: GaugeVec,
    pub(crate) applied: Gauge,
    pub(crate) rejected: IntCounter,
    pub(crate) log_dropped: IntCounter,
    pub(crate) connections: IntGauge,
    pub(crate) connections_refused: IntCounter,
}

/// The handles of one stage.
pub(crate) struct StageMetrics {
    stage: String,
    rejects: [OnceLock<IntCounter>; REASONS.len()],
    families: (IntCounterVec, IntCounterVec, IntCounterVec),
    pub(crate) unrouted: RouteMetrics,
}

/// The handles of one route at one stage.
pub(crate) struct RouteMetrics {
    stage: String,
    route: String,
    requests: IntCounterVec,
    classes: [OnceLock<IntCounter>; CLASSES.len()],
    duration: Histogram,
    pub(crate) upstream: Histogram,
}

impl Metrics {
    /// Builds and registers all families.
    pub(crate) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| -> Result<IntCounterVec, prometheus::Error> {
            let family = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let histogram = |name: &str, help: &str| -> Result<HistogramVec, prometheus::Error> {
            let family =
                HistogramVec::new(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()), &["stage", "route"])?;
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        };
        let single = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let version =
            GaugeVec::new(Opts::new("sluice_config_version_info", "The configuration that is served."), &["version"])?;
        registry.register(Box::new(version.clone()))?;
        let applied =
            Gauge::new("sluice_config_last_applied_timestamp_seconds", "When the configuration last changed.")?;
        registry.register(Box::new(applied.clone()))?;
        let connections = IntGauge::new("sluice_connections", "Open client connections.")?;
        registry.register(Box::new(connections.clone()))?;
        Ok(Self {
            requests: counter("sluice_requests_total", "Answered requests.", &["stage", "route", "code"])?,
            duration: histogram("sluice_request_duration_seconds", "From a request's head to the end of its answer.")?,
            upstream: histogram(
                "sluice_upstream_duration_seconds",
                "From sending a request to the head of the answer.",
            )?,
            rejects: counter("sluice_rejects_total", "Requests refused by the gateway.", &["stage", "reason"])?,
            throttled: counter("sluice_throttled_total", "Requests refused by a limit.", &["stage", "scope"])?,
            cache: counter("sluice_cache_requests_total", "Requests to cached rules.", &["stage", "result"])?,
            version,
            applied,
            rejected: single("sluice_config_rejected_total", "Configurations that were refused.")?,
            log_dropped: single(
                "sluice_access_log_dropped_total",
                "Access log lines lost because their reader is too slow.",
            )?,
            connections,
            connections_refused: single(
                "sluice_connections_refused_total",
                "Client connections closed because there were too many.",
            )?,
        })
    }

    pub(crate) fn set_version(&self, version: &str) {
        self.version.reset();
        self.version.with_label_values(&[version]).set(1.0);
    }

    pub(crate) fn stage(&self, stage: &str) -> StageMetrics {
        StageMetrics {
            stage: stage.to_owned(),
            rejects: Default::default(),
            families: (self.rejects.clone(), self.throttled.clone(), self.cache.clone()),
            unrouted: self.route(stage, "", 0),
        }
    }

    /// Handles for the `count`th route of a stage; beyond a bound it is counted without its name.
    pub(crate) fn route(&self, stage: &str, route: &str, count: usize) -> RouteMetrics {
        let route = if count >= MAX_ROUTES { "" } else { route };
        RouteMetrics {
            stage: stage.to_owned(),
            route: route.to_owned(),
            requests: self.requests.clone(),
            classes: Default::default(),
            duration: self.duration.with_label_values(&[stage, route]),
            upstream: self.upstream.with_label_values(&[stage, route]),
        }
    }

    /// Forgets a route that is gone.
    pub(crate) fn remove_route(&self, stage: &str, route: &str) {
        for class in CLASSES {
            // Absent: it was never counted.
            drop(self.requests.remove_label_values(&[stage, route, class]));
        }
        drop(self.duration.remove_label_values(&[stage, route]));
        drop(self.upstream.remove_label_values(&[stage, route]));
    }

    /// Forgets a stage that is gone.
    pub(crate) fn remove_stage(&self, stage: &str) {
        self.remove_route(stage, "");
        for reason in REASONS {
            drop(self.rejects.remove_label_values(&[stage, reason]));
        }
    }
}

impl StageMetrics {
    pub(crate) fn reject(&self, index: usize) {
        if let (Some(slot), Some(reason)) = (self.rejects.get(index), REASONS.get(index)) {
            slot.get_or_init(|| self.families.0.with_label_values(&[self.stage.as_str(), reason])).inc();
        }
    }

    pub(crate) fn throttled(&self, scope: &str) {
        self.families.1.with_label_values(&[self.stage.as_str(), scope]).inc();
    }

    pub(crate) fn cache(&self, result: &str) {
        self.families.2.with_label_values(&[self.stage.as_str(), result]).inc();
    }
}

impl RouteMetrics {
    pub(crate) fn record(&self, status: u16, took: Duration) {
        let class = usize::from(status / 100).wrapping_sub(1).min(CLASSES.len() - 1);
        let counter = self.classes[class]
            .get_or_init(|| self.requests.with_label_values(&[self.stage.as_str(), &self.route, CLASSES[class]]));
        counter.inc();
        self.duration.observe(took.as_secs_f64());
    }
}
