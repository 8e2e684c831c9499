//! The facts of one request, and the recorder of a worker thread that counts and logs them.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Version};

use super::access_log::AccessLog;
use super::metrics::{RouteMetrics, StageMetrics};

/// Plain facts of one request, and the metrics that count it.
pub(crate) struct Record<'a> {
    /// Metrics, and the stage's part of an access log line; no part: the stage has no access log.
    pub(crate) stage: Option<(&'a StageMetrics, Option<&'a str>)>,
    /// Metrics, and the rule's part of an access log line.
    pub(crate) rule: Option<(&'a RouteMetrics, &'a str)>,
    pub(crate) took: Duration,
    pub(crate) request_id: &'a str,
    pub(crate) method: &'a str,
    pub(crate) tls: bool,
    pub(crate) host: &'a str,
    pub(crate) path: &'a str,
    pub(crate) version: Version,
    pub(crate) status: u16,
    /// Bytes of the response's body.
    pub(crate) sent: u64,
    /// The client's address.
    pub(crate) source: &'a HeaderValue,
    pub(crate) upstream: Option<Duration>,
    /// Empty: the request was not rejected.
    pub(crate) reason: &'static str,
    /// Empty: the rule has no cache.
    pub(crate) cache: &'static str,
    pub(crate) caller: Option<Subject<'a>>,
    /// Name and customer of the API key.
    pub(crate) api_key: Option<(&'a str, Option<&'a str>)>,
    /// Whether the client received the whole response.
    pub(crate) complete: bool,
}

/// Whom a verified token identifies.
pub(crate) struct Subject<'a> {
    pub(crate) issuer: &'a str,
    pub(crate) subject: &'a str,
}

/// Records the requests of one worker thread.
pub(crate) struct Recorder {
    /// The worker thread's number: its own counters and log lines.
    pub(crate) worker: usize,
    /// Counts requests without a stage.
    pub(crate) no_stage: Arc<StageMetrics>,
    pub(crate) log: Arc<AccessLog>,
}

impl Recorder {
    /// Counts and logs a request; called once, when its response is complete.
    pub(crate) fn record(&self, record: &Record<'_>) {
        let metrics = match (record.stage, record.rule) {
            (_, Some((metrics, _))) => metrics,
            (Some((stage, _)), None) => &stage.unrouted,
            (None, None) => &self.no_stage.unrouted,
        };
        metrics.record(self.worker, record.status, record.took);
        if record.stage.is_none_or(|(_, log)| log.is_some()) {
            self.log.write(self.worker, record);
        }
    }
}
