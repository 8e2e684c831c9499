//! The program's own log: fields and a short sentence on standard error. Access logs are the proxy's and do not pass here.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

/// Starts logging at `level` (`error` to `trace`, or `sluice_proxy=debug,info`); `RUST_LOG` wins where it is set.
/// Lines are JSON, or text for people where standard error is a terminal.
pub fn init(level: &str) -> Result<(), InvalidLevel> {
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| level.to_owned());
    let filter = EnvFilter::try_new(&filter).map_err(|source| InvalidLevel { filter, source })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // A second initialisation (several programs in one process) keeps the first.
    let started = if std::io::stderr().is_terminal() {
        builder.with_target(false).try_init()
    } else {
        builder.json().flatten_event(true).with_current_span(false).try_init()
    };
    if started.is_err() {
        tracing::debug!("logging is set up already");
    }
    Ok(())
}

/// The level is not one that can be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log level {filter:?}: write error, warn, info, debug or trace, or module=level pairs")]
pub struct InvalidLevel {
    filter: String,
    #[source]
    source: tracing_subscriber::filter::ParseError,
}
