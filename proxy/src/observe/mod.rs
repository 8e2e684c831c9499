//! What is remembered of each request: metrics and the access log. Where metrics are served is the daemon's business.

pub(crate) mod access_log;
mod figures;
pub(crate) mod metrics;

use crate::exchange::Exchange;

/// Records an exchange; called once, when its answer is gone.
pub(crate) fn record(exchange: &Exchange) {
    let took = exchange.started.elapsed();
    let shared = &exchange.worker.shared;
    let metrics = match (&exchange.stage, &exchange.rule) {
        (_, Some(rule)) => &rule.metrics,
        (Some(stage), None) => &stage.metrics.unrouted,
        (None, None) => &shared.nowhere.unrouted,
    };
    metrics.record(exchange.worker.index, exchange.status, took);
    if exchange.stage.as_ref().is_none_or(|stage| stage.log.is_some()) {
        shared.log.write(exchange, took);
    }
}
