//! One HTTP/2 connection: started, driven to its end, and how many streams its server allows at the moment.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use super::stream::{Owner, UPLOAD_WINDOW, UploadSize};
use crate::timeouts::UpstreamTimeouts;
use crate::transport::body::{Payload, SendBody};
use crate::transport::dial::Socket;
use crate::transport::error::ConnectError;
use crate::transport::settings::PoolLimits;

/// The number of streams before the server's SETTINGS have arrived. No server can announce it.
const UNKNOWN: usize = usize::MAX - 1;

/// One connection.
pub(crate) struct Connection<B: SendBody> {
    pub(super) sender: http2::SendRequest<Payload<B>>,
    driver: Arc<Driver>,
    pub(super) number: u64,
    pub(super) streams: u32,
    /// Bytes of the upload window that open streams may use.
    pub(super) uploading: u32,
    pub(super) idle_since: Instant,
}

impl<B: SendBody> Connection<B> {
    /// Streams that the server allows at the moment.
    pub(super) fn allowed(&self) -> u32 {
        let allowed = u32::try_from(self.driver.allowed()).unwrap_or(u32::MAX);
        // The last stream is left free where there is another one: hyper cannot tell whether a request on the last stream
        // was processed when the connection goes away.
        if allowed > 1 { allowed - 1 } else { allowed }
    }

    pub(super) fn has_free_stream(&self, limits: &PoolLimits) -> bool {
        !self.sender.is_closed() && self.streams < limits.streams.min(self.allowed())
    }

    pub(super) fn has_room(&self, upload: UploadSize, limits: &PoolLimits) -> bool {
        let fits = upload == UploadSize::None || self.uploading.saturating_add(upload.bytes()) <= UPLOAD_WINDOW;
        fits && self.has_free_stream(limits)
    }
}

/// The owner of a connection, and the number of the connection at it.
pub(crate) struct Owned {
    pub(crate) owner: Weak<dyn Owner>,
    pub(crate) thread: usize,
    pub(crate) number: u64,
}

/// Starts HTTP/2 on a connection. Returns when the server's SETTINGS have arrived: its limit of streams is known then.
pub(crate) async fn start<B: SendBody>(
    owned: Owned,
    socket: Socket,
    timeouts: &UpstreamTimeouts,
    limits: &PoolLimits,
) -> Result<Connection<B>, ConnectError> {
    let Owned { owner, thread, number } = owned;
    let events =
        Arc::new(Events { settled: AtomicBool::new(false), progress: Notify::new(), owner: owner.clone(), thread });
    let mut builder = http2::Builder::new(Executor(events.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_max_send_streams(UNKNOWN)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window())
        .keep_alive_interval(timeouts.ping)
        .keep_alive_timeout(timeouts.pong);
    let (idle, ended) = (timeouts.idle, events.clone());
    let drive = async move |driver: Arc<Driver>| {
        drive(&driver, owner, thread, number, idle).await;
        ended.progress.notify_one();
    };
    let (sender, driver) = match socket {
        Socket::Plain(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await?;
            (sender, Driver::new(Box::new(connection)))
        }
        Socket::Tls(stream) => {
            let (sender, connection) = builder.handshake(TokioIo::new(*stream)).await?;
            (sender, Driver::new(Box::new(connection)))
        }
    };
    tokio::spawn(drive(driver.clone()));
    while driver.allowed() == UNKNOWN {
        if driver.has_ended() {
            return Err(ConnectError::Closed);
        }
        events.progress.notified().await;
    }
    events.settled.store(true, Ordering::Relaxed);
    Ok(Connection { sender, driver, number, streams: 0, uploading: 0, idle_since: Instant::now() })
}

/// hyper's connection future: it has to be polled, and has the number of streams that the server allows.
trait Driven: Send {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>>;

    fn allowed(&self) -> usize;
}

impl<I, B: SendBody> Driven for http2::Connection<TokioIo<I>, Payload<B>, Executor>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Future::poll(Pin::new(self), cx)
    }

    fn allowed(&self) -> usize {
        self.current_max_send_streams()
    }
}

struct Driver {
    /// None: it has ended.
    connection: Mutex<Option<Box<dyn Driven>>>,
    /// As it was seen last.
    allowed: AtomicUsize,
}

impl Driver {
    fn new(connection: Box<dyn Driven>) -> Arc<Self> {
        Arc::new(Self { connection: Mutex::new(Some(connection)), allowed: AtomicUsize::new(UNKNOWN) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Box<dyn Driven>>> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.lock().is_none()
    }

    /// While the connection is polled, this is called for streams that end: then the last value has to do.
    fn allowed(&self) -> usize {
        if let Ok(connection) = self.connection.try_lock()
            && let Some(connection) = &*connection
        {
            self.allowed.store(connection.allowed(), Ordering::Relaxed);
        }
        self.allowed.load(Ordering::Relaxed)
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let mut connection = self.lock();
        let Some(driven) = connection.as_mut() else { return Poll::Ready(Ok(())) };
        let polled = driven.poll(cx);
        let ended = if polled.is_ready() { connection.take() } else { None };
        drop(connection);
        // Requests that it did not send are dropped with it, and free their streams.
        drop(ended);
        polled
    }
}

/// Runs a connection to its end, and ends it when it has been idle for too long.
async fn drive(driver: &Driver, owner: Weak<dyn Owner>, thread: usize, number: u64, idle: Duration) {
    loop {
        match tokio::time::timeout(idle / 2, std::future::poll_fn(|cx| driver.poll(cx))).await {
            Ok(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "HTTP/2 connection to an upstream failed");
                }
                if let Some(owner) = owner.upgrade() {
                    owner.end_connection(thread, number);
                }
                return;
            }
            // Without its sender the connection ends.
            Err(_) => {
                if let Some(owner) = owner.upgrade() {
                    owner.end_if_idle(thread, number);
                }
            }
        }
    }
}

/// What happens on a connection. hyper does not report when the server's SETTINGS arrive or change; that can
/// happen only while one of the connection's tasks runs.
struct Events {
    settled: AtomicBool,
    progress: Notify,
    owner: Weak<dyn Owner>,
    thread: usize,
}

impl Events {
    fn progressed(&self) {
        if !self.settled.load(Ordering::Relaxed) {
            self.progress.notify_one();
        } else if let Some(owner) = self.owner.upgrade() {
            owner.progressed(self.thread);
        }
    }
}

/// Runs the tasks of a connection and looks after each step whether the server's settings have changed.
#[derive(Clone)]
struct Executor(Arc<Events>);

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        let events = self.0.clone();
        tokio::spawn(async move {
            let mut task = pin!(task);
            std::future::poll_fn(|cx: &mut Context<'_>| {
                let polled: Poll<()> = task.as_mut().poll(cx);
                events.progressed();
                polled
            })
            .await;
        });
    }
}
