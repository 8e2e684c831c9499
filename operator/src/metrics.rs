//! The operator's metrics, registered once.

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

/// All metrics of the operator.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) translate_duration: Histogram,
    pub(crate) translate_problems: IntGaugeVec,
    pub(crate) snapshot_version: IntGaugeVec,
    pub(crate) snapshot_bytes: IntGauge,
    pub(crate) proxies: IntGaugeVec,
    pub(crate) acks: IntCounterVec,
    pub(crate) status_patches: IntCounterVec,
}

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// The registry has one of that name already.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let buckets = vec![0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let durations =
            HistogramOpts::new("sluice_translate_duration_seconds", "Duration of a translation of changed objects.");
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            translate_duration: Histogram::with_opts(durations.buckets(buckets))?,
            translate_problems: gauges(
                "sluice_translate_problems",
                "Current problems of objects, by kind and reason.",
                &["kind", "reason"],
            )?,
            snapshot_version: gauges(
                "sluice_snapshot_version_info",
                "Version of the published configuration.",
                &["version"],
            )?,
            snapshot_bytes: IntGauge::new("sluice_snapshot_bytes", "Size of the published configuration in bytes.")?,
            proxies: gauges(
                "sluice_proxies",
                "Connected proxies, by whether they serve the published configuration.",
                &["state"],
            )?,
            acks: counters("sluice_proxy_acks_total", "Configuration acknowledgements, by outcome.", &["outcome"])?,
            status_patches: counters(
                "sluice_status_patches_total",
                "Status patches, by kind of object and outcome.",
                &["kind", "outcome"],
            )?,
        };
        registry.register(Box::new(metrics.translate_duration.clone()))?;
        registry.register(Box::new(metrics.translate_problems.clone()))?;
        registry.register(Box::new(metrics.snapshot_version.clone()))?;
        registry.register(Box::new(metrics.snapshot_bytes.clone()))?;
        registry.register(Box::new(metrics.proxies.clone()))?;
        registry.register(Box::new(metrics.acks.clone()))?;
        registry.register(Box::new(metrics.status_patches.clone()))?;
        Ok(metrics)
    }

    /// Sets the metric of problems: kind of the object and reason of each.
    pub(crate) fn problems<'a>(&self, problems: impl Iterator<Item = (&'a str, &'a str)>) {
        self.translate_problems.reset();
        for (kind, reason) in problems {
            self.translate_problems.with_label_values(&[kind, reason]).inc();
        }
    }

    /// Sets the metrics of the published configuration.
    pub(crate) fn published(&self, version: &str, growth: i64) {
        self.snapshot_version.reset();
        self.snapshot_version.with_label_values(&[version]).set(1);
        self.snapshot_bytes.add(growth);
    }
}
