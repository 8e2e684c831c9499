//! The recorder of a worker thread, which counts and logs its requests.

use std::sync::Arc;

use super::access_log::AccessLog;
use super::metrics::StageMetrics;
use super::record::Record;
use crate::overload::Load;
use crate::template::Variables;

/// Records the requests of one worker thread.
pub(crate) struct Recorder {
    /// The worker thread's number: its own counters and log lines.
    pub(crate) worker: usize,
    /// Counts requests without a stage.
    pub(crate) no_stage: Arc<StageMetrics>,
    pub(crate) log: Arc<AccessLog>,
    /// Of the whole process.
    pub(crate) load: Arc<Load>,
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

    /// Logs a connection that had no request.
    pub(crate) fn record_connection(&self, record: &Record<'_, impl Variables>) {
        self.log.write(self.worker, record);
    }
}
