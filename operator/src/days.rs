//! Notices when the day in UTC changes, so that the signing keys of another day are derived. A clock that is set, or a machine that
//! slept, is noticed within a minute.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::translate::SigningDays;

/// How often the clock is read.
const CHECK: Duration = Duration::from_secs(60);

/// Notifies `wake` when the days around the current time change, until `stop`.
pub(crate) async fn follow(ahead: u8, wake: Arc<Notify>, stop: CancellationToken) {
    let changes = changes(ahead, Timestamp::now, &wake);
    tokio::select! {
        () = changes => {}
        () = stop.cancelled() => {}
    }
}

async fn changes(ahead: u8, clock: impl Fn() -> Timestamp, wake: &Notify) {
    let mut before = SigningDays::around(clock(), ahead);
    loop {
        tokio::time::sleep(CHECK).await;
        let now = SigningDays::around(clock(), ahead);
        if now != before {
            before = now;
            wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn another_day_is_noticed_within_a_minute_and_only_then() {
        let started = tokio::time::Instant::now();
        let begin: Timestamp = "2026-11-27T23:50:30Z".parse().unwrap();
        let clock = || begin + i64::try_from(started.elapsed().as_secs()).unwrap().seconds();
        let wake = Notify::new();
        let woken = async {
            wake.notified().await;
            started.elapsed().as_secs()
        };
        tokio::select! {
            () = changes(7, clock, &wake) => {}
            after = woken => assert!((570..=630).contains(&after), "{after}"),
        }
        let again = async {
            wake.notified().await;
            started.elapsed().as_secs()
        };
        tokio::select! {
            () = changes(7, clock, &wake) => {}
            after = again => assert!((86_970..=87_060).contains(&after), "{after}"),
        }
    }
}
