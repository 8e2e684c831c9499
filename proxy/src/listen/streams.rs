//! The streams of one HTTP/2 connection: those on which nothing moves are reset, and a connection that is only held is
//! closed. Costs one entry per request and one timer per connection; HTTP/1.1 has its sockets' and hyper's timers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::MAX_STREAMS;
use crate::exchange::piece::Flow;

/// How often a connection is looked at.
pub(super) const TICK: Duration = Duration::from_secs(10);
/// An answer of which less than [`LEAST`] bytes leave in so many ticks, while there is more, is given up: 30 to 40 s.
const STILL: u32 = 3;
const LEAST: u64 = 8 * 1024;
/// A connection without requests is told to go after so many ticks: 60 s.
const IDLE: u32 = 6;
/// A client that was told to go and has no requests left is cut off after so many ticks.
const FAREWELL: u32 = 3;

struct Stream {
    flow: Arc<Flow>,
    /// What serves it. Ended with pieces still lying: the connection holds the end of the answer.
    task: Option<AbortHandle>,
    /// What had left when it began to be still.
    since: Option<u64>,
    still: u32,
}

impl Stream {
    fn running(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Nobody else speaks of it any more.
    fn ended(&self) -> bool {
        Arc::strong_count(&self.flow) == 1 && !self.running()
    }

    fn look(&mut self) {
        match (self.flow.lying(), self.since) {
            (Some(now), Some(since)) if now - since < LEAST => self.still += 1,
            (now, _) => {
                self.still = 0;
                self.since = now;
            }
        }
    }
}

/// The streams of a connection, and the executor that runs them.
#[derive(Clone, Default)]
pub(super) struct Streams(Arc<Mutex<Vec<Stream>>>);

/// What a look at a connection finds.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// Requests are being served.
    busy: bool,
    /// Ends of answers lie in the connection and do not leave.
    lying: bool,
}

impl Streams {
    fn list(&self) -> MutexGuard<'_, Vec<Stream>> {
        // Poison would mean a panic between statements that cannot panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new request. hyper gives its task to [`execute`](hyper::rt::Executor::execute) before the next one begins.
    pub(super) fn begin(&self) -> Arc<Flow> {
        let flow = Arc::new(Flow::default());
        let mut list = self.list();
        if list.len() >= 2 * MAX_STREAMS as usize {
            list.retain(|stream| !stream.ended());
        }
        list.push(Stream { flow: flow.clone(), task: None, since: None, still: 0 });
        flow
    }

    fn look(&self) -> Look {
        let mut found = Look { busy: false, lying: false };
        self.list().retain_mut(|stream| {
            stream.look();
            match (stream.running(), stream.still >= STILL) {
                (true, true) => {
                    if let Some(task) = &stream.task {
                        // Dropping the answer resets the stream.
                        stream.flow.give_up();
                        task.abort();
                    }
                }
                (true, false) => found.busy = true,
                (false, true) => found.lying = true,
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

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Stay,
    /// It is told to go: no new requests, those that are being served end.
    Farewell,
    /// It is cut off.
    Leave,
}

/// Judges a connection at each tick.
#[derive(Default)]
pub(super) struct Watch {
    idle: u32,
    told: bool,
}

impl Watch {
    pub(super) fn tick(&mut self, streams: &Streams) -> Verdict {
        self.judge(&streams.look())
    }

    fn judge(&mut self, look: &Look) -> Verdict {
        self.idle = if look.busy { 0 } else { self.idle + 1 };
        if self.told {
            return if self.idle >= FAREWELL { Verdict::Leave } else { Verdict::Stay };
        }
        if look.lying || self.idle >= IDLE {
            self.told = true;
            self.idle = 0;
            return Verdict::Farewell;
        }
        Verdict::Stay
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Buf as _, Bytes};
    use hyper::rt::Executor as _;

    use super::*;
    use crate::exchange::piece::Piece;

    #[tokio::test]
    async fn a_stream_on_which_nothing_moves_is_ended_and_others_are_not() {
        let streams = Streams::default();
        let stuck = streams.begin();
        let piece = Piece::new(Bytes::from_static(b"a"), Some(&stuck));
        streams.execute(std::future::pending::<()>());
        let moving = streams.begin();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        streams.execute(async { ended.await.unwrap_or_default() });
        let mut trickle = Piece::new(Bytes::from(vec![0; 64 * 1024]), Some(&moving));
        for _ in 0..=STILL {
            trickle.advance(4 * 1024);
            assert_eq!(streams.look(), Look { busy: true, lying: false });
        }
        while streams.list()[0].running() {
            tokio::task::yield_now().await;
        }
        drop((end, trickle));
        while streams.list()[1].running() {
            tokio::task::yield_now().await;
        }
        drop((moving, stuck));
        assert_eq!(streams.look(), Look { busy: false, lying: true });
        drop(piece);
        assert_eq!(streams.look(), Look { busy: false, lying: false });
        assert!(streams.list().is_empty());
    }

    #[test]
    fn a_connection_that_is_only_held_is_told_to_go_and_then_cut_off() {
        let idle = || Look { busy: false, lying: false };
        let mut watch = Watch::default();
        let verdicts: Vec<Verdict> = (0..IDLE + FAREWELL).map(|_| watch.judge(&idle())).collect();
        let farewell = IDLE as usize - 1;
        for (at, verdict) in verdicts.iter().enumerate() {
            let wanted = match at {
                at if at == farewell => Verdict::Farewell,
                at if at == farewell + FAREWELL as usize => Verdict::Leave,
                _ => Verdict::Stay,
            };
            assert_eq!(*verdict, wanted, "{at}");
        }
        let mut watch = Watch::default();
        assert_eq!(watch.judge(&Look { busy: true, lying: true }), Verdict::Farewell);
        for _ in 0..10 {
            assert_eq!(watch.judge(&Look { busy: true, lying: true }), Verdict::Stay);
        }
    }
}
