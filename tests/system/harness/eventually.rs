//! Waiting for a condition with a deadline; the only way in which the cases wait.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a thing may take that normally takes well under a second: the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// Asks `attempt` until it succeeds; after `deadline` fails with the last reason.
pub(crate) async fn eventually<T, E, F>(
    what: impl Display,
    deadline: Duration,
    mut attempt: impl FnMut() -> F,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, E>>,
    E: Into<anyhow::Error>,
{
    let start = Instant::now();
    let mut pause = Duration::from_millis(10);
    let mut last: Option<anyhow::Error> = None;
    loop {
        let left = deadline.saturating_sub(start.elapsed());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = Some(error.into()),
            Err(_) => {
                let last = last.map_or_else(|| "it never answered".to_owned(), |error| format!("{error:#}"));
                anyhow::bail!("{what}: not within {deadline:?}: {last}");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}
