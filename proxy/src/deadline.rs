//! Deadlines that are met a little late and cost next to nothing: almost all of them are given up before they come. A task
//! of each worker thread looks at them from time to time; a timer of the runtime is set up and taken down for each.
//! What happens when one comes is whoever waits for it's business.

use std::cell::RefCell;
use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// How late a deadline may be met.
const TICK: Duration = Duration::from_millis(50);

thread_local! {
    static WAITING: RefCell<Option<Waiting>> = const { RefCell::new(None) };
}

/// The deadlines that somebody of this thread waits for.
struct Waiting {
    now: Instant,
    entries: Vec<Entry>,
    free: Vec<usize>,
}

struct Entry {
    until: Instant,
    waker: Option<Waker>,
}

/// Looks at this thread's deadlines for ever. Without it deadlines are timers of the runtime.
pub(crate) async fn watch() {
    WAITING.set(Some(Waiting { now: Instant::now(), entries: Vec::new(), free: Vec::new() }));
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let due = with(|waiting| {
            let now = Instant::now();
            waiting.now = now;
            let due = waiting.entries.iter_mut().filter(|entry| entry.until <= now);
            due.filter_map(|entry| entry.waker.take()).collect::<Vec<_>>()
        });
        due.into_iter().flatten().for_each(Waker::wake);
    }
}

fn with<T>(act: impl FnOnce(&mut Waiting) -> T) -> Option<T> {
    WAITING.with_borrow_mut(|waiting| waiting.as_mut().map(act))
}

/// The time, as it was a moment ago: not older than deadlines are late.
pub(crate) fn lately() -> Instant {
    with(|waiting| waiting.now).unwrap_or_else(Instant::now)
}

/// A moment to wait for.
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
        // A waker that is replaced is dropped after the list is free again: it may be a task's last reference.
        let come = with(|waiting| {
            if until <= waiting.now {
                return Err(());
            }
            let at = *slot.get_or_insert_with(|| {
                waiting.free.pop().unwrap_or_else(|| {
                    waiting.entries.push(Entry { until, waker: None });
                    waiting.entries.len() - 1
                })
            });
            let entry = &mut waiting.entries[at];
            entry.until = until;
            let known = entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker()));
            Ok(if known { None } else { entry.waker.replace(cx.waker().clone()) })
        });
        // Without its thread's watch nobody would ever wake it.
        if matches!(come, Some(Ok(_))) { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        let Self::Coarse { slot: Some(at), .. } = *self else { return };
        let waker = with(|waiting| {
            waiting.free.push(at);
            waiting.entries[at].waker.take()
        });
        drop(waker);
    }
}

/// The moment came first.
#[derive(Debug)]
pub(crate) struct Late;

/// Does `work` until a moment.
pub(crate) async fn within<F: Future>(until: Instant, work: F) -> Result<F::Output, Late> {
    let mut work = pin!(work);
    let mut deadline = Deadline::at(until);
    std::future::poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Ok(done)),
        Poll::Pending => Pin::new(&mut deadline).poll(cx).map(|()| Err(Late)),
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

    /// On a thread of its own, as a worker is.
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
    fn a_deadline_comes_in_time_and_never_early() {
        watched(async || {
            let until = soon(120);
            let late = within(until, std::future::pending::<()>()).await;
            assert!(late.is_err() && Instant::now() >= until);
            assert!(until.elapsed() < Duration::from_secs(5));
        });
    }

    #[test]
    fn many_deadlines_of_which_most_are_given_up_share_their_places() {
        watched(async || {
            for _ in 0..1000 {
                let mut deadline = Deadline::at(soon(60_000));
                let pending = std::future::poll_fn(|cx| Poll::Ready(Pin::new(&mut deadline).poll(cx).is_pending()));
                assert!(pending.await);
            }
            assert_eq!(with(|waiting| waiting.entries.len()), Some(1));
            assert!(within(soon(60_000), async { 7 }).await.is_ok());
        });
    }

    #[tokio::test]
    async fn without_a_watch_deadlines_come_as_well() {
        assert!(matches!(Deadline::at(soon(1)), Deadline::Exact(_)));
        assert!(within(soon(10), std::future::pending::<()>()).await.is_err());
    }
}
