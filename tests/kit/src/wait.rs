//! Waiting for a condition with a deadline: the only way in which tests wait.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long something may take that normally takes well under a second: the machine may be busy.
pub const SOON: Duration = Duration::from_secs(30);

/// What a condition returns: `bool`, `Option<T>` or `Result<T, E>`.
pub trait Outcome {
    /// What the wait returns when the condition holds.
    type Value;
    /// The value, or why the condition does not hold yet.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();
    fn outcome(self) -> Result<(), String> {
        self.then_some(()).ok_or_else(|| "false".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;
    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "none".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;
    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| format!("{error:#}"))
    }
}

/// The pauses between two attempts: short at first, so that a test is quick, then longer, so that it leaves the processor
/// to what it waits for.
fn pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(Duration::from_millis(1)), |pause| Some((*pause * 2).min(Duration::from_millis(50))))
}

/// Blocks the thread until the condition holds, and returns its value.
///
/// # Panics
///
/// When the condition does not hold within [`SOON`], with the reason of the last attempt.
#[track_caller]
pub fn eventually<O: Outcome>(what: impl Display, mut condition: impl FnMut() -> O) -> O::Value {
    let started = Instant::now();
    for pause in pauses() {
        match condition().outcome() {
            Ok(value) => return value,
            Err(last) => assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}; last: {last}"),
        }
        std::thread::sleep(pause);
    }
    unreachable!("the pauses never end")
}

/// As [`eventually`], without blocking the thread: other tasks of the runtime run in between.
///
/// # Panics
///
/// When the condition does not hold within [`SOON`], with the reason of the last attempt.
pub async fn eventually_async<O: Outcome>(what: impl Display, mut condition: impl FnMut() -> O) -> O::Value {
    let started = tokio::time::Instant::now();
    for pause in pauses() {
        match condition().outcome() {
            Ok(value) => return value,
            Err(last) => assert!(started.elapsed() < SOON, "not within {SOON:?}: {what}; last: {last}"),
        }
        tokio::time::sleep(pause).await;
    }
    unreachable!("the pauses never end")
}

/// Calls `attempt` until it succeeds.
///
/// # Errors
///
/// After `deadline`, with the reason of the last attempt; an attempt that is still running is cancelled.
pub async fn until<T, E, F>(what: impl Display, deadline: Duration, mut attempt: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, E>>,
    E: Into<anyhow::Error>,
{
    let started = tokio::time::Instant::now();
    let mut last = "no attempt ended".to_owned();
    for pause in pauses() {
        let left = deadline.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = format!("{:#}", error.into()),
            Err(_) => {}
        }
        // Not only where the attempt was cancelled: one that fails at once is never cancelled.
        if started.elapsed() >= deadline {
            anyhow::bail!("{what}: not within {deadline:?}: {last}");
        }
        tokio::time::sleep(pause).await;
    }
    unreachable!("the pauses never end")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_returns_the_value_of_the_first_attempt_that_succeeds() {
        let mut count = 0;
        let mut next = || {
            count += 1;
            (count > 2).then_some(count)
        };
        assert_eq!(eventually("three", &mut next), 3);
        eventually("true", || true);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "not within 30s: the door opens; last: it is closed")]
    async fn a_wait_that_fails_reports_the_last_reason() {
        eventually_async("the door opens", || Err::<(), _>("it is closed")).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_hangs_is_cancelled_at_the_deadline() {
        let hanging = || std::future::pending::<anyhow::Result<()>>();
        let error = until("an end", SOON, hanging).await.unwrap_err();
        assert_eq!(error.to_string(), "an end: not within 30s: no attempt ended");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_fails_at_once_ends_the_wait_at_the_deadline() {
        let error = until("an end", SOON, async || Err::<(), _>(anyhow::anyhow!("not yet"))).await.unwrap_err();
        assert_eq!(error.to_string(), "an end: not within 30s: not yet");
    }
}
