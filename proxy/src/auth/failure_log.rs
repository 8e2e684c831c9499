//! Log lines about a server that does not decide: one for each authorizer in ten seconds.

use sluice_daemon::logging::{LogLimit, chain};

/// The log of one authorizer.
pub(super) struct FailureLog {
    /// `namespace/name` of the Authorizer.
    name: String,
    /// What cannot be done.
    what: &'static str,
    limit: LogLimit,
}

impl FailureLog {
    pub(super) fn new(name: &str, what: &'static str) -> Self {
        Self { name: name.to_owned(), what, limit: LogLimit::default() }
    }

    /// Nothing of the credential, of the response or of the gateway's own credentials may be in the error.
    pub(super) fn write(&self, error: &(dyn std::error::Error + 'static)) {
        if let Some(suppressed) = self.limit.next() {
            let error = chain(error);
            tracing::warn!(authorizer.name = self.name, error, log.suppressed = suppressed, "{}", self.what);
        }
    }
}
