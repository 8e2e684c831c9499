//! Coarse deadlines, up to 50 ms late. Nearly all deadlines of requests are cancelled before they expire: a task of each
//! worker thread checks all of them periodically, which costs less than a timer of the runtime for each.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// The maximum delay of a deadline.
const TICK: Duration = Duration::from_millis(50);

thread_local! {
    static DEADLINES: RefCell<Option<Deadlines>> = const { RefCell::new(None) };
}

/// The pending deadlines of this thread.
struct Deadlines {
    now: Instant,
    entries: Vec<Pending>,
    free: Vec<usize>,
}

struct Pending {
    until: Instant,
    waker: Option<Waker>,
}

/// Checks the deadlines of this thread forever. Without this task, deadlines are timers of the runtime.
pub(crate) async fn watch() {
    DEADLINES.set(Some(Deadlines { now: Instant::now(), entries: Vec::new(), free: Vec::new() }));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let due = with(|deadlines| {
            let now = Instant::now();
            deadlines.now = now;
            let due = deadlines.entries.iter_mut().filter(|entry| entry.until <= now);
            due.filter_map(|entry| entry.waker.take()).collect::<Vec<_>>()
        });
        due.into_iter().flatten().for_each(Waker::wake);
    }
}

fn with<T>(act: impl FnOnce(&mut Deadlines) -> T) -> Option<T> {
    DEADLINES.with_borrow_mut(|deadlines| deadlines.as_mut().map(act))
}

/// The time of the last check, at most [`TICK`] ago.
pub(crate) fn lately() -> Instant {
    with(|deadlines| deadlines.now).unwrap_or_else(Instant::now)
}

/// A future that resolves at an instant.
pub(crate) enum Deadline {
    Coarse { until: Instant, slot: Option<usize> },
    Exact(Pin<Box<Sleep>>),
}

impl Deadline {
    pub(crate) fn at(until: Instant) -> Self {
        match with(|_| ()) {
            Some(()) => Self::Coarse { until, slot: None },
            None => Self::Exact(Box::pin(tokio::time::sleep_until(until.into()))),
        }
    }
}

impl Future for Deadline {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let (until, slot) = match &mut *self {
            Self::Exact(sleep) => return sleep.as_mut().poll(cx),
            Self::Coarse { until, slot } => (*until, slot),
        };
        // A replaced waker is dropped after the borrow has ended: it may be the last reference to a task.
        let come = with(|deadlines| {
            if until <= deadlines.now {
                return Err(());
            }
            let at = *slot.get_or_insert_with(|| {
                deadlines.free.pop().unwrap_or_else(|| {
                    deadlines.entries.push(Pending { until, waker: None });
                    deadlines.entries.len() - 1
                })
            });
            let entry = &mut deadlines.entries[at];
            entry.until = until;
            let known = entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            Ok(if known { None } else { entry.waker.replace(cx.waker().clone()) })
        });
        // Without the thread's task nothing would wake this future.
        if matches!(come, Some(Ok(_))) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Self::Coarse { slot: Some(at), .. } = *self else { return };
        let waker = with(|deadlines| {
            deadlines.free.push(at);
            deadlines.entries[at].waker.take()
        });
        drop(waker);
    }
}

/// The deadline expired first.
#[derive(Debug)]
pub(crate) struct Elapsed;

/// Runs `work` until a deadline.
pub(crate) async fn within<F: Future>(until: Instant, work: F) -> Result<F::Output, Elapsed> {
    let mut work = pin!(work);
    let mut deadline = Deadline::at(until);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => Pin::new(&mut deadline).poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

/// hyper's timers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timer;

impl hyper::rt::Timer for Timer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Deadline::at(Instant::now() + duration))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Deadline::at(deadline))
    }

    fn now(&self) -> Instant {
        lately()
    }
}

impl hyper::rt::Sleep for Deadline {}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon(millis: u64) -> Instant {
        Instant::now() + Duration::from_millis(millis)
    }

    /// Runs a test on its own thread, like a worker.
    fn watched<T: Send>(test: impl AsyncFnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    tokio::spawn(watch());
                    tokio::task::yield_now().await;
                    test().await
                })
            };
            scope.spawn(run).join().unwrap()
        })
    }

    #[test]
    fn a_deadline_expires_in_time_and_never_early() {
        watched(async || {
            let until = soon(120);
            let late = within(until, std::future::pending::<()>()).await;
            assert!(late.is_err() && Instant::now() >= until);
            assert!(until.elapsed() < Duration::from_secs(5));
        });
    }

    #[test]
    fn cancelled_deadlines_reuse_their_slots() {
        watched(async || {
            for _ in 0..1000 {
                let mut deadline = Deadline::at(soon(60_000));
                let pending = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut deadline).poll(cx).is_pending()));
                assert!(pending.await);
            }
            assert_eq!(with(|deadlines| deadlines.entries.len()), Some(1));
            assert!(within(soon(60_000), async { 7 }).await.is_ok());
        });
    }

    #[tokio::test]
    async fn without_the_task_deadlines_are_timers() {
        assert!(matches!(Deadline::at(soon(1)), Deadline::Exact(_)));
        assert!(within(soon(10), std::future::pending::<()>()).await.is_err());
    }
}
