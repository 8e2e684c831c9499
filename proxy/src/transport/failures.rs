//! The failures of one backend in the program's log: one warning when endpoints begin to fail for a cause, and a line when
//! the last of them is back. What a request gets is decided by its caller.

use std::collections::{BTreeMap, HashSet};
use std::error::Error as StdError;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::error::Cause;

/// Lines per backend: one that fails and recovers all the time does not fill the log.
const LINES: u32 = 10;
const PER: Duration = Duration::from_secs(60);

/// The endpoints of one backend that fail now.
pub(crate) struct Failures {
    /// The backend, as users know it; none: its caller logs its failures.
    backend: Option<Box<str>>,
    state: Mutex<FailureState>,
}

#[derive(Default)]
struct FailureState {
    /// By endpoint.
    failing: BTreeMap<Box<str>, Cause>,
    lines: u32,
    since: Option<Instant>,
}

impl Failures {
    pub(crate) fn of(backend: impl Display) -> Self {
        Self { backend: Some(backend.to_string().into()), state: Mutex::default() }
    }

    /// Writes nothing.
    pub(crate) fn unlogged() -> Self {
        Self { backend: None, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, FailureState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An endpoint failed for a cause that is to be corrected.
    pub(super) fn failed(&self, endpoint: impl Display, cause: Cause, error: &(dyn StdError + 'static)) {
        let Some(backend) = &self.backend else { return };
        let endpoint = endpoint.to_string();
        if self.state().fails(&endpoint, cause, Instant::now()) {
            let error = sluice_daemon::logging::chain(error);
            tracing::warn!(%backend, endpoint, cause = cause.name(), error, "a backend cannot be called");
        }
    }

    /// An endpoint that failed responds.
    pub(super) fn recovered(&self, endpoint: impl Display) {
        let Some(backend) = &self.backend else { return };
        if self.state().recovers(&endpoint.to_string(), Instant::now()) {
            tracing::info!(%backend, "a backend can be called again");
        }
    }

    /// Endpoints that are gone do not fail any more.
    pub(super) fn retain(&self, kept: impl Iterator<Item: Display>) {
        let mut state = self.state();
        if !state.failing.is_empty() {
            let kept: HashSet<String> = kept.map(|endpoint| endpoint.to_string()).collect();
            state.failing.retain(|endpoint, _| kept.contains(&**endpoint));
        }
    }
}

impl FailureState {
    /// Whether that is to be logged: no endpoint fails for this cause yet.
    fn fails(&mut self, endpoint: &str, cause: Cause, now: Instant) -> bool {
        let known = self.failing.values().any(|other| *other == cause);
        let write = !known && self.may_write(now);
        // A line that was left out is written later.
        if known || write {
            self.failing.insert(endpoint.into(), cause);
        }
        write
    }

    /// Whether that is to be logged: it was the last endpoint that failed.
    fn recovers(&mut self, endpoint: &str, now: Instant) -> bool {
        self.failing.remove(endpoint).is_some() && self.failing.is_empty() && self.may_write(now)
    }

    fn may_write(&mut self, now: Instant) -> bool {
        if self.since.is_none_or(|since| now.duration_since(since) >= PER) {
            (self.since, self.lines) = (Some(now), 0);
        }
        self.lines += 1;
        self.lines <= LINES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_line_for_each_backend_and_change() {
        let (mut state, now) = (FailureState::default(), Instant::now());
        assert!(state.fails("a", Cause::TlsUntrusted, now));
        // Again, and at another endpoint.
        assert!(!state.fails("a", Cause::TlsUntrusted, now));
        assert!(!state.fails("b", Cause::TlsUntrusted, now));
        // Another cause.
        assert!(state.fails("b", Cause::ConnectRefused, now));
        assert!(!state.recovers("b", now));
        assert!(!state.recovers("b", now));
        assert!(state.recovers("a", now));
        assert!(state.fails("a", Cause::TlsUntrusted, now));
    }

    #[test]
    fn a_backend_that_fails_and_recovers_all_the_time_does_not_fill_the_log() {
        let (mut state, now) = (FailureState::default(), Instant::now());
        let mut lines = 0;
        for _ in 0..100 {
            lines += u32::from(state.fails("a", Cause::ConnectRefused, now)) + u32::from(state.recovers("a", now));
        }
        assert_eq!(lines, LINES);
        // It fails still: that is written when there is room again.
        assert!(!state.fails("a", Cause::ConnectRefused, now));
        assert!(state.fails("a", Cause::ConnectRefused, now + PER));
    }
}
