//! The metrics of the proxy. Handles are resolved when a stage or rule is compiled and dropped when it is removed. `counters`
//! has the numbers on the request path, `stages` those of stages and routes.

use std::sync::Arc;

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};

use super::authorizers::AuthorizerCollector;
use super::stages::StageCollector;
pub(crate) use super::stages::{RouteMetrics, Scope, StageMetrics};
use crate::auth::Authorizer;
use crate::client::ConnectionMetrics;
use crate::listen::relief::LoadMetrics;
use crate::overload::Resolved;

/// All metric families of the proxy.
pub(crate) struct Metrics {
    stages: StageCollector,
    authorizers: AuthorizerCollector,
    version: GaugeVec,
    certificates: IntGaugeVec,
    pub(crate) applied: Gauge,
    pub(crate) rejected: IntCounter,
    pub(crate) log_dropped: IntCounter,
    pub(crate) connections: ConnectionMetrics,
    pub(crate) connection_limit: IntGauge,
    pub(crate) load: LoadMetrics,
    pub(crate) request_limit: IntGauge,
    pub(crate) memory_limit: IntGauge,
    pub(crate) buffered: IntGauge,
    pub(crate) buffer_limit: IntGauge,
    pub(crate) state_errors: IntCounterVec,
}

impl Metrics {
    /// Creates and registers all families, for a number of worker threads.
    pub(crate) fn new(registry: &Registry, workers: usize) -> Result<Self, prometheus::Error> {
        let single = |name: &str, help: &str| -> Result<IntCounter, prometheus::Error> {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        let stages = StageCollector::new(workers)?;
        registry.register(Box::new(stages.clone()))?;
        let authorizers = AuthorizerCollector::new()?;
        registry.register(Box::new(authorizers.clone()))?;
        let version = GaugeVec::new(
            Opts::new("sluice_config_version_info", "Version of the configuration that is served."),
            &["version"],
        )?;
        registry.register(Box::new(version.clone()))?;
        let certificates = IntGaugeVec::new(
            Opts::new(
                "sluice_certificate_expiry_timestamp_seconds",
                "Time at which the first certificate of a chain expires, by Secret.",
            ),
            &["secret"],
        )?;
        registry.register(Box::new(certificates.clone()))?;
        let applied =
            Gauge::new("sluice_config_last_applied_timestamp_seconds", "Time of the last configuration change.")?;
        registry.register(Box::new(applied.clone()))?;
        let gauge = |name: &str, help: &str| -> Result<IntGauge, prometheus::Error> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let connections = ConnectionMetrics {
            open: gauge("sluice_connections", "Open client connections, including WebSockets.")?,
            rejected: single(
                "sluice_connections_rejected_total",
                "Client connections closed because of a connection limit while no other connection was idle.",
            )?,
            evicted: single(
                "sluice_connections_evicted_total",
                "Idle client connections closed to make room for others, or to free memory.",
            )?,
            aborted: single(
                "sluice_connections_aborted_total",
                "Client connections with requests closed because memory was almost exhausted.",
            )?,
        };
        let load = LoadMetrics {
            requests: gauge("sluice_requests_in_flight", "Requests in progress.")?,
            memory: gauge("sluice_memory_bytes", "Memory in use, as far as it is limited.")?,
            shedding: gauge(
                "sluice_load_shedding",
                "Which requests are rejected because of load: 0 none, 1 those of clients with many requests, 2 all.",
            )?,
        };
        let state_errors = IntCounterVec::new(
            Opts::new(
                "sluice_state_errors_total",
                "Failures to read or write the last known good configuration on disk, by operation.",
            ),
            &["operation"],
        )?;
        registry.register(Box::new(state_errors.clone()))?;
        for operation in ["read", "write"] {
            state_errors.with_label_values(&[operation]).reset();
        }
        Ok(Self {
            stages,
            authorizers,
            version,
            certificates,
            applied,
            rejected: single("sluice_config_rejected_total", "Configurations that were rejected as a whole.")?,
            log_dropped: single(
                "sluice_access_log_dropped_total",
                "Access log lines dropped because standard output is read too slowly.",
            )?,
            connections,
            connection_limit: gauge("sluice_connections_limit", "Limit of open client connections.")?,
            load,
            request_limit: gauge("sluice_requests_in_flight_limit", "Limit of requests in progress.")?,
            memory_limit: gauge("sluice_memory_limit_bytes", "Limit of the memory; 0 if there is none.")?,
            buffered: gauge("sluice_buffered_body_bytes", "Memory in use for request bodies that are buffered.")?,
            buffer_limit: gauge(
                "sluice_buffered_body_limit_bytes",
                "Limit of the memory for request bodies that are buffered.",
            )?,
            state_errors,
        })
    }

    /// Shows the limits of the process.
    pub(crate) fn show(&self, limits: &Resolved, memory: Option<u64>) {
        let bytes = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.connection_limit.set(bytes(limits.connections as u64));
        self.request_limit.set(bytes(limits.requests as u64));
        self.buffer_limit.set(bytes(limits.buffer_memory));
        self.memory_limit.set(bytes(memory.unwrap_or(0)));
    }

    pub(crate) fn set_version(&self, version: &str) {
        self.version.reset();
        self.version.with_label_values(&[version]).set(1.0);
    }

    /// Replaces the expiry of all certificates: Secret and Unix time.
    pub(crate) fn set_certificates(&self, expiries: impl Iterator<Item = (String, i64)>) {
        self.certificates.reset();
        expiries.for_each(|(secret, time)| self.certificates.with_label_values(&[secret.as_str()]).set(time));
    }

    /// The counters of a stage, which are created if they do not exist.
    pub(crate) fn stage(&self, stage: &str) -> Arc<StageMetrics> {
        self.stages.stage(stage)
    }

    /// An Authorizer was compiled, or is gone: `namespace/name`.
    pub(crate) fn set_authorizer(&self, name: &str, authorizer: Option<&Arc<Authorizer>>) {
        self.authorizers.set(name, authorizer);
    }

    /// Removes a stage with its routes.
    pub(crate) fn remove_stage(&self, stage: &str) {
        self.stages.remove(stage);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prometheus::TextEncoder;

    use super::super::stages::MAX_ROUTES;
    use super::*;
    use crate::auth::Outcome;
    use crate::cache::Phase;

    fn page(registry: &Registry) -> String {
        TextEncoder::new().encode_to_string(&registry.gather()).unwrap()
    }

    #[test]
    fn counters_of_all_threads_are_exported_and_those_of_removed_objects_are_not() {
        let registry = Registry::new();
        let metrics = Metrics::new(&registry, 2).unwrap();
        assert!(!page(&registry).contains("sluice_requests_total"));
        let stage = metrics.stage("shop/prod");
        let route = stage.route("orders");
        route.record(0, 200, Duration::from_micros(700));
        route.record(1, 204, Duration::from_micros(700));
        route.upstream(1, Duration::from_micros(500));
        // Compiled again, a route keeps its counters.
        metrics.stage("shop/prod").route("orders").record(0, 503, Duration::from_secs(60));
        stage.unrouted.record(0, 0, Duration::ZERO);
        stage.reject(1, crate::reject::Reject::Throttled(1).index());
        stage.throttled(0, Scope::Rule);
        stage.cache(0, Phase::Bypass);
        stage.authorized(0, 0, Outcome::Remembered, None);
        stage.authorized(1, 1, Outcome::Failed, Some(Duration::from_millis(3)));
        let text = page(&registry);
        for line in [
            r#"sluice_requests_total{code="2xx",route="orders",stage="shop/prod"} 2"#,
            r#"sluice_requests_total{code="5xx",route="orders",stage="shop/prod"} 1"#,
            r#"sluice_requests_total{code="other",route="",stage="shop/prod"} 1"#,
            r#"sluice_request_duration_seconds_bucket{route="orders",stage="shop/prod",le="30"} 2"#,
            r#"sluice_request_duration_seconds_bucket{route="orders",stage="shop/prod",le="+Inf"} 3"#,
            r#"sluice_upstream_duration_seconds_count{route="orders",stage="shop/prod"} 1"#,
            r#"sluice_rejects_total{reason="Throttled",stage="shop/prod"} 1"#,
            r#"sluice_throttled_total{scope="rule",stage="shop/prod"} 1"#,
            r#"sluice_cache_requests_total{result="bypass",stage="shop/prod"} 1"#,
            r#"sluice_authorizer_decisions_total{kind="Jwt",outcome="remembered",stage="shop/prod"} 1"#,
            r#"sluice_authorizer_decisions_total{kind="Introspection",outcome="failed",stage="shop/prod"} 1"#,
            r#"sluice_authorizer_duration_seconds_count{kind="Introspection",stage="shop/prod"} 1"#,
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
        stage.remove_route("orders");
        assert!(!page(&registry).contains("orders"));
        metrics.remove_stage("shop/prod");
        assert!(!page(&registry).contains("shop/prod"));
    }

    #[test]
    fn further_routes_are_counted_for_their_stage() {
        let metrics = Metrics::new(&Registry::new(), 1).unwrap();
        let stage = metrics.stage("shop/prod");
        let first = stage.route("r0");
        for n in 1..MAX_ROUTES {
            drop(stage.route(&format!("r{n}")));
        }
        let other = metrics.stage("shop/test");
        assert!(Arc::ptr_eq(&other.route("late"), &other.unrouted));
        assert!(Arc::ptr_eq(&stage.route("r0"), &first));
        stage.remove_route("r1");
        assert!(!Arc::ptr_eq(&other.route("late"), &other.unrouted));
    }
}
