//! The record of one request, and the recorder of a worker thread that counts and logs them.

use std::sync::Arc;
use std::time::Duration;

use super::access_log::AccessLog;
use super::metrics::{RouteMetrics, StageMetrics};
use crate::template::Variables;

/// What is counted and logged of one request.
pub(crate) struct Record<'a, V> {
    /// Metrics, and the stage's part of an access log line; no part: the stage has no access log.
    pub(crate) stage: Option<(&'a StageMetrics, Option<&'a str>)>,
    /// Metrics, and the rule's part of an access log line.
    pub(crate) rule: Option<(&'a RouteMetrics, &'a str)>,
    pub(crate) took: Duration,
    pub(crate) status: u16,
    /// The values of an access log line.
    pub(crate) variables: &'a V,
    /// Whether the client received the whole response.
    pub(crate) complete: bool,
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
    pub(crate) fn record(&self, record: &Record<'_, impl Variables>) {
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
