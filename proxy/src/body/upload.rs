//! A request body that is forwarded while it arrives: its maximum size, the minimum rate at which a client must send it, and
//! its state for the code that waits for the response.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::error::BodyError;
use crate::client::Peer;

/// The minimum rate is this many bytes per upload timeout: 273 bytes per second by default.
const CHUNK: u64 = 8 * 1024;
/// While the proxy is under pressure, a tenth of the timeout applies.
const UNDER_PRESSURE: u32 = 10;

/// Bounds the time that the proxy waits for a client. Only waiting counts: time that the upstream takes does not.
struct MinRate {
    timer: Option<Pin<Box<Sleep>>>,
    /// When the current wait for the client began.
    waiting_since: Option<Instant>,
    /// For the next [`CHUNK`] bytes.
    timeout: Duration,
    /// Of `timeout`.
    left: Duration,
    bytes: u64,
}

impl MinRate {
    fn new(timeout: Duration) -> Self {
        Self { timer: None, waiting_since: None, timeout, left: timeout, bytes: 0 }
    }

    fn progress(&mut self, bytes: u64) {
        if let Some(since) = self.waiting_since.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        self.bytes += bytes;
        if self.bytes >= CHUNK {
            self.bytes = 0;
            self.left = self.timeout;
        }
    }

    /// Ready: the client was too slow. With an `idle` timeout, which applies once the response has begun, each wait may take
    /// that long. While the proxy is `pressed`, a tenth of the time applies.
    fn poll(&mut self, cx: &mut Context<'_>, idle: Option<Duration>, pressed: impl Fn() -> bool) -> Poll<()> {
        let (since, began) = match self.waiting_since {
            Some(since) => (since, false),
            None => (*self.waiting_since.insert(Instant::now()), true),
        };
        let deadline = since + idle.unwrap_or(self.left);
        let step = idle.unwrap_or(self.timeout) / UNDER_PRESSURE;
        let spent = if idle.is_some() { Duration::ZERO } else { self.timeout - self.left };
        let early = since + step.saturating_sub(spent);
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(early.min(deadline))));
        if began {
            timer.as_mut().reset(early.min(deadline));
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= deadline || (now >= early && pressed()) {
                return Poll::Ready(());
            }
            timer.as_mut().reset((now + step).min(deadline));
        }
    }
}

/// State of a request body, for the code that waits for the response or sees the call fail because of the body.
pub(crate) struct UploadState {
    ended: AtomicU8,
    /// Whether the proxy waits for more of the body.
    waiting: AtomicBool,
    /// Whether the response has begun.
    response_began: AtomicBool,
    began: Instant,
    /// When bytes were last forwarded, in milliseconds since `began`.
    last_progress: AtomicU64,
}

impl UploadState {
    const TOO_LARGE: u8 = 1;
    const STALLED: u8 = 2;
    const BROKEN: u8 = 3;

    pub(crate) fn new() -> Self {
        Self {
            ended: AtomicU8::new(0),
            waiting: AtomicBool::new(false),
            response_began: AtomicBool::new(false),
            began: Instant::now(),
            last_progress: AtomicU64::new(0),
        }
    }

    fn end(&self, how: u8) {
        self.ended.store(how, Ordering::Relaxed);
    }

    fn set_waiting(&self) {
        self.waiting.store(true, Ordering::Relaxed);
    }

    fn progress(&self) {
        self.waiting.store(false, Ordering::Relaxed);
        let at = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_progress.store(at, Ordering::Relaxed);
    }

    pub(crate) fn too_large(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == Self::TOO_LARGE
    }

    pub(crate) fn stalled(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == Self::STALLED
    }

    pub(crate) fn broken(&self) -> bool {
        self.ended.load(Ordering::Relaxed) == Self::BROKEN
    }

    /// The response has begun.
    pub(crate) fn response_began(&self) {
        self.response_began.store(true, Ordering::Relaxed);
    }

    /// The deadline of a response that may take `timeout` after the last bytes of the request; time spent waiting for the
    /// client does not count.
    pub(crate) fn deadline(&self, timeout: Duration) -> Instant {
        if self.waiting.load(Ordering::Relaxed) {
            return Instant::now() + timeout;
        }
        self.began + Duration::from_millis(self.last_progress.load(Ordering::Relaxed)) + timeout
    }
}

/// A body that is forwarded while it arrives.
pub(crate) struct Upload {
    incoming: Incoming,
    left: u64,
    rate: MinRate,
    state: Arc<UploadState>,
    peer: Arc<Peer>,
}

impl Upload {
    /// Forwards at most `limit` bytes of `incoming`.
    pub(crate) fn new(incoming: Incoming, limit: u64, state: Arc<UploadState>, peer: Arc<Peer>) -> Self {
        peer.state.set_uploading(true);
        Self { incoming, left: limit, rate: MinRate::new(peer.timeouts.upload), state, peer }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.peer.state.set_uploading(false);
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.state.progress();
                // Trailers arrive after the checks: a field in them could be any, so they are not forwarded.
                let Ok(data) = frame.into_data() else { return Poll::Ready(None) };
                let size = data.len() as u64;
                this.rate.progress(size);
                if size > this.left {
                    this.state.end(UploadState::TOO_LARGE);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                this.left -= size;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => {
                this.state.end(UploadState::BROKEN);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                this.state.progress();
                Poll::Ready(None)
            }
            Poll::Pending => {
                this.state.set_waiting();
                let began = this.state.response_began.load(Ordering::Relaxed);
                let idle = began.then_some(this.peer.timeouts.stream_idle);
                ready!(this.rate.poll(cx, idle, || this.peer.load.is_pressed()));
                this.state.end(UploadState::STALLED);
                Poll::Ready(Some(Err(BodyError::Stalled)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn waited(rate: &mut MinRate, seconds: u64) {
        rate.waiting_since = Instant::now().checked_sub(Duration::from_secs(seconds));
    }

    #[test]
    fn a_client_has_its_timeout_for_each_chunk_and_not_for_each_byte() {
        let mut rate = MinRate::new(TIMEOUT);
        for _ in 0..4 {
            waited(&mut rate, 6);
            rate.progress(1);
        }
        assert!(rate.left <= Duration::from_secs(6) && rate.left > Duration::from_secs(5), "{:?}", rate.left);
        // The time that the upstream takes does not count.
        rate.progress(1);
        assert!(rate.left > Duration::from_secs(5), "{:?}", rate.left);
        rate.progress(CHUNK);
        assert_eq!(rate.left, TIMEOUT);
    }

    #[tokio::test]
    async fn once_the_response_has_begun_both_sides_may_be_idle_for_longer() {
        let (timeout, idle) = (Duration::from_millis(20), Duration::from_millis(200));
        let mut rate = MinRate::new(timeout);
        let began = Instant::now();
        std::future::poll_fn(|cx| rate.poll(cx, None, || false)).await;
        assert!(began.elapsed() >= timeout);
        std::future::poll_fn(|cx| rate.poll(cx, Some(idle), || false)).await;
        assert!(began.elapsed() >= idle);
    }

    #[tokio::test(start_paused = true)]
    async fn under_pressure_a_client_has_a_tenth_of_the_time_for_each_chunk() {
        for (waits, left) in [(0, 3), (2, 1), (5, 0)] {
            let mut rate = MinRate::new(TIMEOUT);
            for _ in 0..waits {
                let wait = std::future::poll_fn(|cx| rate.poll(cx, None, || false));
                assert!(tokio::time::timeout(Duration::from_secs(1), wait).await.is_err());
                rate.progress(1);
            }
            let began = Instant::now();
            std::future::poll_fn(|cx| rate.poll(cx, None, || true)).await;
            let took = began.elapsed().as_secs_f32();
            assert!((took - left as f32).abs() < 0.1, "{waits}: {took}");
        }
        // Pressure that begins during a wait.
        let (mut rate, began) = (MinRate::new(TIMEOUT), Instant::now());
        let pressed = || began.elapsed() > Duration::from_secs(10);
        std::future::poll_fn(|cx| rate.poll(cx, None, pressed)).await;
        let took = began.elapsed().as_secs();
        assert!((10..=14).contains(&took), "{took}");
    }

    #[test]
    fn the_timeout_of_a_response_begins_at_the_end_of_its_request() {
        let timeout = Duration::from_secs(5);
        let state = UploadState::new();
        let at = state.began;
        assert_eq!(state.deadline(timeout), at + timeout);
        state.last_progress.store(3_000, Ordering::Relaxed);
        assert_eq!(state.deadline(timeout), at + Duration::from_secs(3) + timeout);
        state.set_waiting();
        assert!(state.deadline(Duration::from_secs(60)) >= at + Duration::from_secs(60));
    }
}
