//! What is recorded of each request: metrics and the access log. Serving metrics is the daemon's part.

pub(crate) mod access_log;
mod counters;
pub(crate) mod metrics;
mod record;
mod recorder;

pub(crate) use record::Record;
pub(crate) use recorder::Recorder;
