//! Records each request in metrics and in the access log. `sluice_daemon` serves the metrics.

pub(crate) mod access_log;
mod authorizers;
mod counters;
pub(crate) mod metrics;
mod record;
mod recorder;
mod stages;

pub(crate) use record::Record;
pub(crate) use recorder::Recorder;
