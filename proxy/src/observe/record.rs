//! The record of one request.

use std::time::Duration;

use super::metrics::{RouteMetrics, StageMetrics};

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
