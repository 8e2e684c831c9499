//! Log lines about a server that does not decide: one for each authorizer in ten seconds.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Between two log lines about one authorizer.
const LOG_EVERY: Duration = Duration::from_secs(10);

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The log of one authorizer.
pub(super) struct FailureLog {
    /// `namespace/name` of the Authorizer.
    name: String,
    /// What cannot be done.
    what: &'static str,
    /// When a failure was last logged, in milliseconds since `EPOCH`; 0: never.
    logged: AtomicU64,
}

impl FailureLog {
    pub(super) fn new(name: &str, what: &'static str) -> Self {
        Self { name: name.to_owned(), what, logged: AtomicU64::new(0) }
    }

    /// Nothing of the credential, of the response or of the gateway's own credentials may be in the error.
    pub(super) fn write(&self, error: &(dyn std::error::Error + 'static)) {
        let now = u64::try_from(EPOCH.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
        let last = self.logged.load(Ordering::Relaxed);
        let due = last == 0 || u128::from(now.saturating_sub(last)) >= LOG_EVERY.as_millis();
        if due && self.logged.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let error = sluice_daemon::logging::chain(error);
            tracing::warn!(authorizer.name = self.name, error, "{}", self.what);
        }
    }
}
