//! HTTP/2 connections of an endpoint. Several requests share a connection, and none of them can block the others:
//!
//! * Responses: the window of a connection is as large as those of all its streams, so that streams that are not read
//!   cannot exhaust it.
//! * Uploads: the server's window of a connection may be as small as 65,535 bytes (RFC 9113, section 6.9.2) and may be
//!   opened for bodies that were read only. Small bodies that have arrived as a whole share those bytes; a large one, or one
//!   of unknown size, has a connection without other uploads.
//! * Streams: a connection has as many as the server allows at the moment, and our own limit. Beyond them requests use
//!   another connection, and beyond the limit of connections they wait, up to a deadline.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, oneshot};

use super::dial::{Dialer, Http, Socket, in_time};
use super::endpoint::{Endpoint, Opened, Wanted};
use super::settings::Limits;
use super::{ConnectError, Error, Payload, SendBody, Timeouts};
use crate::deadline::{lately, within};

/// What every server accepts on a new connection before it has read anything.
const UPLOAD_WINDOW: u32 = 65_535;
/// Larger uploads have a connection without other uploads.
const SMALL_UPLOAD: u64 = 16 << 10;
/// The number of streams before the server's SETTINGS have arrived. No server can announce it.
const UNKNOWN: usize = usize::MAX - 1;

/// What a request sends beside its header fields.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Upload {
    None,
    Small(u32),
    Large,
}

impl Upload {
    fn of<B: SendBody>(body: &Payload<B>) -> Self {
        match body.longest() {
            Some(0) => Self::None,
            Some(length) if length <= SMALL_UPLOAD => Self::Small(u32::try_from(length).unwrap_or(UPLOAD_WINDOW)),
            _ => Self::Large,
        }
    }

    /// How much of a connection's upload window it may use.
    fn bytes(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Small(bytes) => bytes,
            Self::Large => UPLOAD_WINDOW,
        }
    }
}

/// An open stream. It is in use until both the response and the request's body have ended.
pub(super) struct Stream<B: SendBody> {
    endpoint: Arc<Endpoint<B>>,
    thread: usize,
    connection: u64,
    upload: Upload,
}

impl<B: SendBody> Drop for Stream<B> {
    fn drop(&mut self) {
        self.endpoint.end_stream(self.thread, self.connection, self.upload);
    }
}

impl<B: SendBody> Stream<B> {
    /// The connection takes no more requests.
    pub(super) fn retire_connection(&self) {
        self.endpoint.end_connection(self.thread, self.connection);
    }
}

/// What a request that needs a stream gets.
pub(super) enum Granted<B: SendBody> {
    Http2 {
        sender: http2::SendRequest<Payload<B>>,
        stream: Arc<Stream<B>>,
    },
    /// The server chose HTTP/1.1.
    Http1(http1::SendRequest<Payload<B>>),
    /// The server chose HTTP/1.1, for another request.
    Retry,
}

type Answer<B> = Result<Granted<B>, Arc<ConnectError>>;

struct Waiter<B: SendBody> {
    upload: Upload,
    answer: oneshot::Sender<Answer<B>>,
}

/// One connection.
pub(super) struct Connection<B: SendBody> {
    sender: http2::SendRequest<Payload<B>>,
    driver: Arc<Driver>,
    number: u64,
    streams: u32,
    /// Bytes of the upload window that open streams may use.
    uploading: u32,
    idle_since: Instant,
}

impl<B: SendBody> Connection<B> {
    /// Streams that the server allows at the moment.
    fn allowed(&self) -> u32 {
        u32::try_from(self.driver.allowed()).unwrap_or(u32::MAX)
    }

    fn has_free_stream(&self, limits: &Limits) -> bool {
        !self.sender.is_closed() && self.streams < limits.streams.min(self.allowed())
    }

    fn has_room(&self, upload: Upload, limits: &Limits) -> bool {
        let fits = upload == Upload::None || self.uploading.saturating_add(upload.bytes()) <= UPLOAD_WINDOW;
        fits && self.has_free_stream(limits)
    }
}

/// The connections of one worker thread to one endpoint.
pub(super) struct Connections<B: SendBody> {
    list: Vec<Connection<B>>,
    made: u64,
    dialing: usize,
    /// Streams that a server allowed on the last new connection.
    allowed: u32,
    /// After a failure no further connection is tried until then, as long as there is one.
    dial_after: Option<Instant>,
    /// By kind of upload: those of one kind wait in the order in which they came.
    waiting: [VecDeque<Waiter<B>>; 3],
}

impl<B: SendBody> Default for Connections<B> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            made: 0,
            dialing: 0,
            allowed: u32::MAX,
            dial_after: None,
            waiting: std::array::from_fn(|_| VecDeque::new()),
        }
    }
}

/// A waiting request and the connection that it gets a stream of.
type Grants<B> = Vec<(oneshot::Sender<Answer<B>>, Taken<B>)>;

struct Taken<B: SendBody> {
    sender: http2::SendRequest<Payload<B>>,
    connection: u64,
    upload: Upload,
}

impl<B: SendBody> Connections<B> {
    fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn may_dial(&self, now: Instant) -> bool {
        self.list.is_empty() || self.dial_after.is_none_or(|at| at <= now)
    }

    /// The first connection with room, so that those that are not needed become idle and are closed.
    fn pick(&self, upload: Upload, limits: &Limits, now: Instant) -> Option<usize> {
        let found = self.list.iter().position(|connection| connection.has_room(upload, limits));
        let all_there = self.list.len() >= limits.connections || !self.may_dial(now);
        if found.is_some() || upload == Upload::None || !all_there {
            return found;
        }
        // There will be no further connection: uploads share those that there are.
        let free = self.list.iter().enumerate().filter(|(_, connection)| connection.has_free_stream(limits));
        free.min_by_key(|(_, connection)| connection.uploading).map(|(at, _)| at)
    }

    fn take(&mut self, upload: Upload, limits: &Limits, now: Instant) -> Option<Taken<B>> {
        let at = self.pick(upload, limits, now)?;
        let connection = self.list.get_mut(at)?;
        connection.streams += 1;
        connection.uploading = connection.uploading.saturating_add(upload.bytes());
        Some(Taken { sender: connection.sender.clone(), connection: connection.number, upload })
    }

    fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    fn wait(&mut self, upload: Upload) -> oneshot::Receiver<Answer<B>> {
        let (answer, receiver) = oneshot::channel();
        let queue = match upload {
            Upload::None => 0,
            Upload::Small(_) => 1,
            Upload::Large => 2,
        };
        self.waiting[queue].push_back(Waiter { upload, answer });
        receiver
    }

    /// Streams for requests that wait, as far as there are any.
    fn serve(&mut self, limits: &Limits, now: Instant) -> Grants<B> {
        let mut grants = Vec::new();
        for queue in 0..self.waiting.len() {
            while let Some(first) = self.waiting[queue].front() {
                let taken = if first.answer.is_closed() { None } else { Some(self.take(first.upload, limits, now)) };
                if matches!(taken, Some(None)) {
                    break;
                }
                let waiter = self.waiting[queue].pop_front();
                if let (Some(waiter), Some(Some(taken))) = (waiter, taken) {
                    grants.push((waiter.answer, taken));
                }
            }
        }
        grants
    }

    /// How many connections are to be opened for the requests that wait; they count as being opened.
    fn dials(&mut self, limits: &Limits, now: Instant) -> usize {
        let (waiting, large) = (self.waiting(), self.waiting[2].len());
        let there = self.list.len() + self.dialing;
        if waiting == 0 || !self.may_dial(now) || there >= limits.connections {
            return 0;
        }
        let allowed = self.list.last().map_or(self.allowed, Connection::allowed).min(limits.streams);
        let needed = match usize::try_from(allowed).unwrap_or(usize::MAX) {
            // A server that allows no stream now would allow none on another connection.
            0 => usize::from(there == 0),
            allowed => (waiting - large).div_ceil(allowed) + large,
        };
        let dials = needed.saturating_sub(self.dialing).min(limits.connections - there);
        self.dialing += dials;
        dials
    }

    fn find(&mut self, number: u64) -> Option<&mut Connection<B>> {
        self.list.iter_mut().find(|connection| connection.number == number)
    }
}

impl<B: SendBody> Endpoint<B> {
    /// A stream for a request. What has arrived of its body is read, to see how large it is.
    pub(super) async fn stream(self: &Arc<Self>, thread: usize, body: &mut Payload<B>) -> Result<Granted<B>, Error> {
        *body = std::mem::replace(body, Payload::Empty).look().await;
        let upload = Upload::of(body);
        let now = Instant::now();
        let (receiver, dials) = {
            let limits = &self.context.limits;
            let connections = &mut self.state(thread).http2;
            if let Some(taken) = connections.take(upload, limits, now) {
                return Ok(self.granted(thread, taken));
            }
            if connections.waiting() >= limits.waiting {
                return Err(Error::Busy);
            }
            let receiver = connections.wait(upload);
            let dials = connections.dials(limits, now);
            self.waiting(thread).store(connections.waiting(), Ordering::Relaxed);
            (receiver, dials)
        };
        self.dial(thread, dials);
        match within(now + self.context.timeouts.stream, receiver).await {
            Ok(Ok(answer)) => answer.map_err(Error::Connect),
            Ok(Err(_)) | Err(_) => Err(Error::Busy),
        }
    }

    fn granted(self: &Arc<Self>, thread: usize, taken: Taken<B>) -> Granted<B> {
        let Taken { sender, connection, upload } = taken;
        Granted::Http2 { sender, stream: Arc::new(Stream { endpoint: self.clone(), thread, connection, upload }) }
    }

    /// Changes the connections, and gives requests that wait what there is for them then.
    fn update(self: &Arc<Self>, thread: usize, change: impl FnOnce(&mut Connections<B>)) {
        let (grants, dials) = {
            let (limits, now) = (&self.context.limits, Instant::now());
            let connections = &mut self.state(thread).http2;
            change(connections);
            if connections.waiting() == 0 {
                (Vec::new(), 0)
            } else {
                let grants = connections.serve(limits, now);
                let dials = connections.dials(limits, now);
                self.waiting(thread).store(connections.waiting(), Ordering::Relaxed);
                (grants, dials)
            }
        };
        self.dial(thread, dials);
        for (answer, taken) in grants {
            // A request that was given up meanwhile drops its stream, which serves the next one.
            drop(answer.send(Ok(self.granted(thread, taken))));
        }
    }

    fn dial(self: &Arc<Self>, thread: usize, count: usize) {
        if count == 0 {
            return;
        }
        // A stream can be dropped while its runtime ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        for _ in 0..count {
            let endpoint = self.clone();
            runtime.spawn(async move {
                let work = endpoint.open(thread, Wanted::Any);
                let opened = in_time(endpoint.context.timeouts.connect, work).await;
                endpoint.dialed(thread, opened);
            });
        }
    }

    fn dialed(self: &Arc<Self>, thread: usize, opened: Result<Opened<B>, ConnectError>) {
        match opened {
            Ok(Opened::Http2(connection)) => {
                self.state(thread).http2.dialing -= 1;
                self.add(thread, connection);
            }
            Ok(Opened::Http1(sender)) => {
                let mut first = Some(sender);
                self.answer_all(thread, || Ok(first.take().map_or(Granted::Retry, Granted::Http1)));
            }
            Err(error) => {
                tracing::debug!(error = %sluice_daemon::logging::chain(&error), "cannot open an HTTP/2 connection");
                let after = Instant::now() + self.context.timeouts.eject;
                let alone = {
                    let connections = &mut self.state(thread).http2;
                    connections.dial_after = Some(after);
                    connections.list.is_empty() && connections.dialing == 1
                };
                if alone {
                    let error = Arc::new(error);
                    return self.answer_all(thread, || Err(error.clone()));
                }
                // Requests go on waiting for the connections that there are.
                self.update(thread, |connections| connections.dialing -= 1);
            }
        }
    }

    /// An attempt to connect has ended: all requests that wait get an answer.
    fn answer_all(self: &Arc<Self>, thread: usize, mut answer: impl FnMut() -> Answer<B>) {
        let waiting = {
            let connections = &mut self.state(thread).http2;
            connections.dialing -= 1;
            self.waiting(thread).store(0, Ordering::Relaxed);
            connections.waiting.each_mut().map(std::mem::take)
        };
        for waiter in waiting.into_iter().flatten().filter(|waiter| !waiter.answer.is_closed()) {
            drop(waiter.answer.send(answer()));
        }
    }

    /// A connection was opened.
    pub(super) fn add(self: &Arc<Self>, thread: usize, connection: Connection<B>) {
        self.chose(Http::H2);
        self.update(thread, |connections| {
            connections.allowed = connection.allowed();
            connections.dial_after = None;
            connections.list.push(connection);
        });
    }

    fn end_stream(self: &Arc<Self>, thread: usize, connection: u64, upload: Upload) {
        self.update(thread, |connections| {
            let Some(connection) = connections.find(connection) else { return };
            connection.streams = connection.streams.saturating_sub(1);
            connection.uploading = connection.uploading.saturating_sub(upload.bytes());
            if connection.streams == 0 {
                connection.idle_since = lately();
            }
        });
    }

    /// A connection takes no more requests. Its open streams go on.
    fn end_connection(self: &Arc<Self>, thread: usize, number: u64) {
        self.update(thread, |connections| connections.list.retain(|connection| connection.number != number));
    }

    fn retire_idle(&self, thread: usize, number: u64) {
        let timeout = self.context.timeouts.idle;
        let is_idle =
            |connection: &Connection<B>| connection.streams == 0 && connection.idle_since.elapsed() >= timeout;
        self.state(thread).http2.list.retain(|connection| connection.number != number || !is_idle(connection));
    }
}

/// Starts HTTP/2 on a connection. Returns when the server's SETTINGS have arrived: its limit of streams is known then.
pub(super) async fn start<B: SendBody>(
    endpoint: &Arc<Endpoint<B>>,
    thread: usize,
    socket: Socket,
) -> Result<Connection<B>, ConnectError> {
    let weak: Weak<Endpoint<B>> = Arc::downgrade(endpoint);
    let events = Arc::new(Events { settled: AtomicBool::new(false), progress: Notify::new(), owner: weak, thread });
    let (timeouts, limits) = (&endpoint.context.timeouts, &endpoint.context.limits);
    let mut builder = http2::Builder::new(Executor(events.clone()));
    builder
        .timer(TokioTimer::new())
        .initial_max_send_streams(UNKNOWN)
        .initial_stream_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window())
        .keep_alive_interval(timeouts.ping)
        .keep_alive_timeout(timeouts.pong);
    let number = endpoint.state(thread).http2.next_number();
    let (owner, idle) = (Arc::downgrade(endpoint), timeouts.idle);
    let ended = events.clone();
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

/// hyper's part of a connection: it has to be polled, and knows how many streams the server allows.
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
async fn drive<B: SendBody>(driver: &Driver, owner: Weak<Endpoint<B>>, thread: usize, number: u64, idle: Duration) {
    loop {
        match tokio::time::timeout(idle / 2, std::future::poll_fn(|cx| driver.poll(cx))).await {
            Ok(result) => {
                if let Err(error) = result {
                    tracing::debug!(%error, "an HTTP/2 connection to an upstream ended early");
                }
                if let Some(owner) = owner.upgrade() {
                    owner.end_connection(thread, number);
                }
                return;
            }
            // Without its sender the connection ends.
            Err(_) => {
                if let Some(owner) = owner.upgrade() {
                    owner.retire_idle(thread, number);
                }
            }
        }
    }
}

/// What happens on a connection. hyper does not tell when the server's SETTINGS arrive or change; they can have done so
/// only while one of the connection's tasks ran.
struct Events {
    settled: AtomicBool,
    progress: Notify,
    owner: Weak<dyn Owner>,
    thread: usize,
}

trait Owner: Send + Sync {
    fn progressed(self: Arc<Self>, thread: usize);
}

impl<B: SendBody> Owner for Endpoint<B> {
    fn progressed(self: Arc<Self>, thread: usize) {
        if self.waiting(thread).load(Ordering::Relaxed) > 0 {
            self.update(thread, |_| ());
        }
    }
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

/// Settings of a connection that one caller has for itself.
pub(crate) struct Dedicated {
    /// Of the connection and of each stream.
    pub(crate) window: u32,
    pub(crate) ping: Duration,
}

/// A connection for one caller, over which it has a long conversation. It ends with the sender and its streams.
pub(crate) async fn dedicated<B: SendBody>(
    dialer: &Dialer,
    timeouts: &Timeouts,
    settings: Dedicated,
) -> Result<http2::SendRequest<B>, ConnectError> {
    in_time(timeouts.connect, async {
        let socket = dialer.open(Http::H2).await?;
        match socket {
            Socket::Tls(_) if !socket.chose_http2() => Err(ConnectError::NoHttp2),
            Socket::Plain(stream) => handshake(TokioIo::new(stream), settings).await,
            Socket::Tls(stream) => handshake(TokioIo::new(*stream), settings).await,
        }
    })
    .await
}

async fn handshake<B, I>(io: TokioIo<I>, settings: Dedicated) -> Result<http2::SendRequest<B>, ConnectError>
where
    B: SendBody,
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = http2::Builder::new(hyper_util::rt::TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(settings.window)
        .initial_connection_window_size(settings.window)
        .keep_alive_interval(settings.ping)
        .keep_alive_timeout(settings.ping)
        .keep_alive_while_idle(true)
        .handshake(io)
        .await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            let error = sluice_daemon::logging::chain(&error);
            tracing::debug!(error, "a dedicated HTTP/2 connection ended early");
        }
    });
    Ok(sender)
}
