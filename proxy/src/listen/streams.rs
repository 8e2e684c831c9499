//! The streams of one HTTP/2 connection: a stream without progress is reset, an idle connection is closed. Costs one entry
//! per request and one timer per connection; with HTTP/1.1 sockets and hyper have timers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::task::AbortHandle;

use crate::client::Flow;

/// A response of which fewer than [`MIN_BYTES`] bytes are sent in this many checks, while more wait, is aborted: 30 to 40 s.
const STALLED: u32 = 3;
const MIN_BYTES: u64 = 8 * 1024;
/// A connection without requests is shut down after this many checks: 60 s.
const IDLE: u32 = 6;
/// A connection that was shut down and has no requests left is closed after this many checks.
const CLOSE: u32 = 3;

struct RequestStream {
    flow: Arc<Flow>,
    /// The task that serves it. When it has ended and bytes still wait, the connection holds the end of the response.
    task: Option<AbortHandle>,
    /// Bytes that were sent when progress was last seen.
    since: Option<u64>,
    /// Checks without progress.
    stalled: u32,
}

impl RequestStream {
    fn running(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Nothing else refers to it.
    fn ended(&self) -> bool {
        Arc::strong_count(&self.flow) == 1 && !self.running()
    }

    fn check(&mut self) {
        match (self.flow.waiting(), self.since) {
            (Some(now), Some(since)) if now - since < MIN_BYTES => self.stalled += 1,
            (now, _) => {
                self.stalled = 0;
                self.since = now;
            }
        }
    }
}

/// The streams of a connection, and the executor that runs them.
#[derive(Clone)]
pub(super) struct Streams {
    list: Arc<Mutex<Vec<RequestStream>>>,
    /// Streams at a time.
    max: usize,
}

/// The streams of a connection at one check.
#[derive(Debug, PartialEq, Eq)]
struct Check {
    /// Requests are being served.
    busy: bool,
    /// Ends of responses wait in the connection without progress.
    stuck: bool,
}

impl Streams {
    /// For at most `max` streams at a time.
    pub(super) fn new(max: u32) -> Self {
        Self { list: Arc::default(), max: max as usize }
    }

    fn list(&self) -> MutexGuard<'_, Vec<RequestStream>> {
        // Poisoned only by a panic between statements that cannot panic.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new request. hyper gives its task to [`execute`](hyper::rt::Executor::execute) before the next one begins.
    pub(super) fn begin(&self) -> Arc<Flow> {
        let flow = Arc::new(Flow::default());
        let mut list = self.list();
        if list.len() >= 2 * self.max {
            list.retain(|stream| !stream.ended());
        }
        list.push(RequestStream { flow: flow.clone(), task: None, since: None, stalled: 0 });
        flow
    }

    /// Whether requests have begun since the last check.
    pub(super) fn have_begun(&self) -> bool {
        !self.list().is_empty()
    }

    /// Ends all requests.
    pub(super) fn abort(&self) {
        for stream in self.list().iter() {
            stream.flow.abort();
            if let Some(task) = &stream.task {
                task.abort();
            }
        }
    }

    fn check(&self) -> Check {
        let mut found = Check { busy: false, stuck: false };
        self.list().retain_mut(|stream| {
            stream.check();
            match (stream.running(), stream.stalled >= STALLED) {
                (true, true) => {
                    if let Some(task) = &stream.task {
                        // Dropping the response resets the stream.
                        stream.flow.abort();
                        task.abort();
                    }
                }
                (true, false) => found.busy = true,
                (false, true) => found.stuck = true,
                (false, false) => {}
            }
            !stream.ended()
        });
        found
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let task = tokio::spawn(future).abort_handle();
        if let Some(stream) = self.list().last_mut() {
            stream.task.get_or_insert(task);
        }
    }
}

/// What to do with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StreamCheck {
    Keep,
    /// Accept no new requests and finish those that are being served.
    Shutdown,
    Close,
    /// Close it without sending what the client has not read.
    Reset,
}

/// Decides about a connection at each check.
#[derive(Default)]
pub(super) struct Watch {
    idle: u32,
    shut_down: bool,
}

impl Watch {
    pub(super) fn check(&mut self, streams: &Streams) -> StreamCheck {
        self.decide(&streams.check())
    }

    fn decide(&mut self, check: &Check) -> StreamCheck {
        self.idle = if check.busy { 0 } else { self.idle + 1 };
        if self.shut_down {
            return match self.idle >= CLOSE {
                true if check.stuck => StreamCheck::Reset,
                true => StreamCheck::Close,
                false => StreamCheck::Keep,
            };
        }
        if check.stuck || self.idle >= IDLE {
            self.shut_down = true;
            self.idle = 0;
            return StreamCheck::Shutdown;
        }
        StreamCheck::Keep
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};
    use hyper::rt::Executor as _;

    use super::*;
    use crate::client::TrackedBytes;

    #[tokio::test]
    async fn a_stream_without_progress_is_aborted_and_others_are_not() {
        let streams = Streams::new(128);
        let stuck = streams.begin();
        let chunk = TrackedBytes::new(Bytes::from_static(b"a"), Some(&stuck));
        streams.execute(std::future::pending::<()>());
        let moving = streams.begin();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        streams.execute(async { ended.await.unwrap_or_default() });
        let mut trickle = TrackedBytes::new(Bytes::from(vec![0; 64 * 1024]), Some(&moving));
        for _ in 0..=STALLED {
            trickle.advance(4 * 1024);
            assert_eq!(streams.check(), Check { busy: true, stuck: false });
        }
        while streams.list()[0].running() {
            tokio::task::yield_now().await;
        }
        drop((end, trickle));
        while streams.list()[1].running() {
            tokio::task::yield_now().await;
        }
        drop((moving, stuck));
        assert_eq!(streams.check(), Check { busy: false, stuck: true });
        drop(chunk);
        assert_eq!(streams.check(), Check { busy: false, stuck: false });
        assert!(streams.list().is_empty());
    }

    #[test]
    fn an_idle_connection_is_shut_down_and_then_closed() {
        let idle = || Check { busy: false, stuck: false };
        let mut watch = Watch::default();
        let actions: Vec<StreamCheck> = (0..IDLE + CLOSE).map(|_| watch.decide(&idle())).collect();
        let shutdown = IDLE as usize - 1;
        for (at, action) in actions.iter().enumerate() {
            let expected = match at {
                at if at == shutdown => StreamCheck::Shutdown,
                at if at == shutdown + CLOSE as usize => StreamCheck::Close,
                _ => StreamCheck::Keep,
            };
            assert_eq!(*action, expected, "{at}");
        }
        let mut watch = Watch::default();
        let stuck = || Check { busy: false, stuck: true };
        let actions: Vec<StreamCheck> = (0..=CLOSE).map(|_| watch.decide(&stuck())).collect();
        assert_eq!((actions.first(), actions.last()), (Some(&StreamCheck::Shutdown), Some(&StreamCheck::Reset)));
        let mut watch = Watch::default();
        assert_eq!(watch.decide(&Check { busy: true, stuck: true }), StreamCheck::Shutdown);
        for _ in 0..10 {
            assert_eq!(watch.decide(&Check { busy: true, stuck: true }), StreamCheck::Keep);
        }
    }
}
