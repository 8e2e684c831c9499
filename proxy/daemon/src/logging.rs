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

/// An error with its causes, in one line: `cannot connect: the certificate has expired`.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        // Some wrappers say what they wrap.
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

/// The level is not one that can be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the log level {filter:?}: write error, warn, info, debug or trace, or module=level pairs")]
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
    struct Said(&'static str, #[source] Option<Box<Said>>);

    #[test]
    fn causes_are_said_once_and_in_order() {
        let inner = Said("it has expired", None);
        let middle = Said("bad certificate: it has expired", Some(Box::new(inner)));
        let outer = Said("cannot connect", Some(Box::new(middle)));
        assert_eq!(chain(&outer), "cannot connect: bad certificate: it has expired");
    }
}
