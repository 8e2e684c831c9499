//! What is remembered of each request: metrics and the access log. Where metrics are served is the daemon's business.

pub(crate) mod access_log;
pub(crate) mod metrics;

use crate::exchange::Exchange;

/// Records an exchange; called once, when its answer is gone.
pub(crate) fn record(exchange: &Exchange) {
    let took = exchange.started.elapsed();
    let shared = &exchange.worker.shared;
    match (&exchange.stage, &exchange.rule) {
        (_, Some(rule)) => rule.metrics.record(exchange.status, took),
        (Some(stage), None) => stage.metrics.unrouted.record(exchange.status, took),
        (None, None) => shared.nowhere.unrouted.record(exchange.status, took),
    }
    if exchange.stage.as_ref().is_none_or(|stage| stage.access_log) {
        shared.log.write(exchange);
    }
}
