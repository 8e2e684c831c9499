//! The program's own log: fields and a short message on standard error. The proxy's access log is separate.

use std::io::IsTerminal as _;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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

/// Between two lines of a [`LogLimit`].
const LOG_EVERY: Duration = Duration::from_secs(10);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Limits log lines that others can cause: one in ten seconds is written, with the number of those that were not.
#[derive(Debug, Default)]
pub struct LogLimit {
    /// When a line was last written, in milliseconds since `EPOCH`; 0: never.
    written: AtomicU64,
    suppressed: AtomicU64,
}

impl LogLimit {
    /// Whether a line is written now: how many were suppressed since the one before. None: it is suppressed as well.
    pub fn next(&self) -> Option<u64> {
        self.next_at(EPOCH.elapsed())
    }

    fn next_at(&self, now: Duration) -> Option<u64> {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX).max(1);
        let last = self.written.load(Ordering::Relaxed);
        let due = last == 0 || u128::from(now.saturating_sub(last)) >= LOG_EVERY.as_millis();
        if due && self.written.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return Some(self.suppressed.swap(0, Ordering::Relaxed));
        }
        self.suppressed.fetch_add(1, Ordering::Relaxed);
        None
    }
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

    #[test]
    fn of_many_lines_one_in_ten_seconds_is_written_with_the_number_of_the_others() {
        let limit = LogLimit::default();
        let lines = |from: u64, to: u64| -> Vec<u64> {
            (from..to).filter_map(|tenth| limit.next_at(Duration::from_millis(100 * tenth))).collect()
        };
        assert_eq!(lines(0, 300), [0, 100, 99]);
        assert_eq!(lines(305, 306), [98]);
        assert_eq!(lines(1000, 1001), [0], "after a pause a line is written at once");
    }

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
