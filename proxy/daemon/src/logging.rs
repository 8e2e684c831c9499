//! The program's own log: fields and a short message on standard error. The proxy's access log is separate.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt, registry};

/// Initializes logging at `level` (`error` to `trace`, or `sluice_proxy=debug,info`). `RUST_LOG` overrides it. Lines are
/// JSON, or plain text if standard error is a terminal.
pub fn init(level: &str) -> Result<(), InvalidLevel> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| level.to_owned());
    // Levels by module: filters for spans and fields would need regular expressions.
    let targets: Targets = filter.parse().map_err(|source| InvalidLevel { filter, source })?;
    let lines = fmt::layer().with_writer(std::io::stderr);
    // A second initialization (several programs in one process) keeps the first.
    let started = if std::io::stderr().is_terminal() {
        registry().with(lines.with_target(false).with_filter(targets)).try_init()
    } else {
        registry().with(lines.json().flatten_event(true).with_current_span(false).with_filter(targets)).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging is already initialized");
    }
    Ok(())
}

/// An error with its causes in one line: `cannot connect: the certificate has expired`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // Some wrappers repeat the message of their source.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// The log level is invalid.
#[derive(Debug, thiserror::Error)]
#[error("invalid log level {filter:?}: use error, warn, info, debug or trace, or module=level pairs")]
pub struct InvalidLevel {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn each_cause_is_printed_once_and_in_order() {
        let inner = Layer("it has expired", None);
        let middle = Layer("bad certificate: it has expired", Some(Box::new(inner)));
        let outer = Layer("cannot connect", Some(Box::new(middle)));
        assert_eq!(chain(&outer), "cannot connect: bad certificate: it has expired");
    }
}
