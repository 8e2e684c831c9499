//! The operator's metrics, registered once. Each module counts through the handles here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGaugeVec, Opts, Registry};
use sluice_wire::FleetName;

/// Proxies of further fleets are not counted by fleet.
const MAX_FLEETS: usize = 256;

/// Why a connection of the stream's listener did not become a proxy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rejection {
    /// The TLS handshake failed.
    TlsHandshake,
    /// The handshake, the request or the authentication took too long.
    Timeout,
    /// Another connection got its place.
    Evicted,
    /// The path or the method is not the stream's.
    Request,
    /// The credential is invalid.
    Unauthenticated,
    /// The API server could not review the token.
    NotReviewed,
    /// As many proxies are connected as there may be.
    Full,
}

impl Rejection {
    const fn reason(self) -> &'static str {
        match self {
            Self::TlsHandshake => "TlsHandshake",
            Self::Timeout => "Timeout",
            Self::Evicted => "Evicted",
            Self::Request => "Request",
            Self::Unauthenticated => "Unauthenticated",
            Self::NotReviewed => "NotReviewed",
            Self::Full => "Full",
        }
    }
}

/// All metrics of the operator.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(crate) translate_duration: Histogram,
    pub(crate) translate_problems: IntGaugeVec,
    pub(crate) translate_warnings: IntGaugeVec,
    pub(crate) snapshot_version: IntGaugeVec,
    pub(crate) snapshot_bytes: IntGaugeVec,
    pub(crate) proxies: IntGaugeVec,
    pub(crate) acks: IntCounterVec,
    /// Fleets that have metrics of proxies: proxies choose the names, so their number is bounded.
    known_fleets: Arc<Mutex<BTreeSet<FleetName>>>,
    pub(crate) status_patches: IntCounterVec,
    rejected_connections: IntCounterVec,
    sts_requests: IntCounterVec,
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
            translate_warnings: gauges(
                "sluice_translate_warnings",
                "Current warnings about objects, by kind and code.",
                &["kind", "code"],
            )?,
            snapshot_version: gauges(
                "sluice_snapshot_version_info",
                "Version of the published configuration.",
                &["fleet", "version"],
            )?,
            snapshot_bytes: gauges(
                "sluice_snapshot_bytes",
                "Size of the published configuration in bytes.",
                &["fleet"],
            )?,
            proxies: gauges(
                "sluice_proxies",
                "Connected proxies, by whether they serve the published configuration.",
                &["fleet", "state"],
            )?,
            acks: counters(
                "sluice_proxy_acks_total",
                "Configuration acknowledgements, by outcome.",
                &["fleet", "outcome"],
            )?,
            known_fleets: Arc::default(),
            status_patches: counters(
                "sluice_status_patches_total",
                "Status patches, by kind of object and outcome.",
                &["kind", "outcome"],
            )?,
            rejected_connections: counters(
                "sluice_stream_rejections_total",
                "Connections and streams of proxies that were rejected, by reason.",
                &["reason"],
            )?,
            sts_requests: counters(
                "sluice_sts_requests_total",
                "Requests to the token service, by action and code of the result.",
                &["action", "code"],
            )?,
        };
        registry.register(Box::new(metrics.translate_duration.clone()))?;
        registry.register(Box::new(metrics.translate_problems.clone()))?;
        registry.register(Box::new(metrics.translate_warnings.clone()))?;
        registry.register(Box::new(metrics.snapshot_version.clone()))?;
        registry.register(Box::new(metrics.snapshot_bytes.clone()))?;
        registry.register(Box::new(metrics.proxies.clone()))?;
        registry.register(Box::new(metrics.acks.clone()))?;
        registry.register(Box::new(metrics.status_patches.clone()))?;
        registry.register(Box::new(metrics.rejected_connections.clone()))?;
        registry.register(Box::new(metrics.sts_requests.clone()))?;
        Ok(metrics)
    }

    /// Sets the metric of problems: how many there are of each kind of object and reason.
    pub(crate) fn problems<'a>(&self, counts: impl Iterator<Item = (&'a str, &'a str, i64)>) {
        self.translate_problems.reset();
        for (kind, reason, count) in counts {
            self.translate_problems.with_label_values(&[kind, reason]).set(count);
        }
    }

    /// Sets the metric of warnings: how many there are of each kind of object and code.
    pub(crate) fn warnings(&self, counts: &BTreeMap<(&str, &str), i64>) {
        self.translate_warnings.reset();
        for ((kind, code), count) in counts {
            self.translate_warnings.with_label_values(&[*kind, *code]).set(*count);
        }
    }

    /// Sets the metrics of a fleet's configuration.
    pub(crate) fn published(&self, fleet: &FleetName, replaced: Option<&str>, version: &str, growth: i64) {
        if let Some(replaced) = replaced {
            remove(self.snapshot_version.remove_label_values(&[fleet.as_str(), replaced]));
        }
        self.snapshot_version.with_label_values(&[fleet.as_str(), version]).set(1);
        self.snapshot_bytes.with_label_values(&[fleet.as_str()]).add(growth);
    }

    /// Removes the metrics of a fleet that no Stage names any more.
    pub(crate) fn unpublished(&self, fleet: &FleetName, version: &str) {
        remove(self.snapshot_version.remove_label_values(&[fleet.as_str(), version]));
        remove(self.snapshot_bytes.remove_label_values(&[fleet.as_str()]));
    }

    /// Sets the numbers of connected proxies by fleet: those that serve the published configuration, and the others.
    /// A fleet whose last proxy has disconnected keeps its zeros.
    pub(crate) fn connected(&self, fleets: &BTreeMap<FleetName, [i64; 2]>) {
        let [current, behind] = ["current", "behind"];
        let mut known = self.known_fleets.lock().unwrap_or_else(PoisonError::into_inner);
        for fleet in known.iter().filter(|fleet| !fleets.contains_key(*fleet)) {
            for state in [current, behind] {
                self.proxies.with_label_values(&[fleet.as_str(), state]).set(0);
            }
        }
        for (fleet, [serving, others]) in fleets {
            if known.len() < MAX_FLEETS || known.contains(fleet) {
                known.insert(fleet.clone());
                self.proxies.with_label_values(&[fleet.as_str(), current]).set(*serving);
                self.proxies.with_label_values(&[fleet.as_str(), behind]).set(*others);
            }
        }
    }

    /// Counts a connection that did not become a proxy's.
    pub(crate) fn rejected_connection(&self, why: Rejection) {
        self.rejected_connections.with_label_values(&[why.reason()]).inc();
    }

    /// Counts a request to the token service.
    pub(crate) fn sts_request(&self, action: &'static str, code: &'static str) {
        self.sts_requests.with_label_values(&[action, code]).inc();
    }

    /// Counts an acknowledgement, or its absence.
    pub(crate) fn acknowledged(&self, fleet: &FleetName, outcome: &str) {
        if self.known_fleets.lock().unwrap_or_else(PoisonError::into_inner).contains(fleet) {
            self.acks.with_label_values(&[fleet.as_str(), outcome]).inc();
        }
    }
}

/// Removing what was never set is no fault.
fn remove(removed: Result<(), prometheus::Error>) {
    if let Err(error) = removed {
        tracing::debug!(%error, "a metric was not there");
    }
}
