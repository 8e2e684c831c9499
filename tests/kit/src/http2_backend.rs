//! HTTP/2 backends without TLS, which count their connections: one whose responses a function makes, and one of raw frames
//! that also does what no HTTP library lets a server do.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

/// The smallest windows that a peer may have: one upload that is not read closes them.
const WINDOW: u32 = 65_535;

/// A runtime with one worker thread, for backends and clients.
///
/// # Panics
///
/// When the system has no thread for it.
#[must_use]
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn bind(runtime: &Runtime) -> (TcpListener, SocketAddr) {
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A backend with small windows.
#[derive(Debug)]
pub struct Http2Backend {
    /// Where it listens.
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Http2Backend {
    /// A backend that allows `max_streams` at a time on each connection; `respond` makes its responses.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start<B, F>(
        runtime: &Runtime,
        max_streams: u32,
        respond: impl Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
    {
        let (listener, address) = bind(runtime);
        let connections = Arc::new(AtomicUsize::new(0));
        let accepted = connections.clone();
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::SeqCst);
                let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                builder.max_concurrent_streams(max_streams).initial_connection_window_size(WINDOW);
                builder.initial_stream_window_size(WINDOW);
                let respond = respond.clone();
                let service = hyper::service::service_fn(move |request| {
                    let response = respond(request);
                    async { Ok::<_, Infallible>(response.await) }
                });
                tokio::spawn(builder.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, connections }
    }

    /// The connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

/// What a [`RawBackend`] does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// Responds with 200 and `done`, when responses are permitted.
    Respond,
    /// Rejects the stream with REFUSED_STREAM (RFC 9113, section 8.7).
    Reject,
    /// Sends GOAWAY: this request and later ones of the connection are not processed.
    GoAway,
}

/// The number of a request, from 1.
#[derive(Clone, Copy, Debug)]
pub struct Number {
    /// On its connection.
    pub of_connection: usize,
    /// Of all requests.
    pub of_all: usize,
}

/// A backend of raw frames. It announces the limit of streams that the test sets, and responds when the test permits it.
#[derive(Debug)]
pub struct RawBackend {
    /// Where it listens.
    pub address: SocketAddr,
    /// The limit of concurrent streams; open connections announce each change.
    pub limit: watch::Sender<u32>,
    /// Whether it responds.
    pub respond: watch::Sender<bool>,
    counters: Arc<Counters>,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicUsize,
    open: AtomicUsize,
    most: AtomicUsize,
    connections: AtomicUsize,
    connected: AtomicUsize,
}

/// The backend as its connections see it.
struct Shared<F> {
    limit: watch::Receiver<u32>,
    respond: watch::Receiver<bool>,
    react: F,
    counters: Arc<Counters>,
}

impl RawBackend {
    /// A backend that announces `limit` streams and does with each request what `react` says. It does not respond before
    /// `respond` is set.
    ///
    /// # Panics
    ///
    /// When no port is free.
    pub fn start(runtime: &Runtime, limit: u32, react: impl Fn(Number) -> Reaction + Send + Sync + 'static) -> Self {
        let (listener, address) = bind(runtime);
        let (limit, limits) = watch::channel(limit);
        let (respond, responds) = watch::channel(false);
        let counters = Arc::new(Counters::default());
        let shared = Arc::new(Shared { limit: limits, respond: responds, react, counters: counters.clone() });
        runtime.spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                shared.counters.connections.fetch_add(1, Ordering::SeqCst);
                shared.counters.connected.fetch_add(1, Ordering::SeqCst);
                let shared = shared.clone();
                tokio::spawn(async move {
                    shared.connection(stream).await.unwrap_or_default();
                    shared.counters.connected.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, limit, respond, counters }
    }

    /// The requests so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.counters.requests.load(Ordering::SeqCst)
    }

    /// The streams that wait for a response.
    #[must_use]
    pub fn open(&self) -> usize {
        self.counters.open.load(Ordering::SeqCst)
    }

    /// The most streams that waited for a response at one time.
    #[must_use]
    pub fn most(&self) -> usize {
        self.counters.most.load(Ordering::SeqCst)
    }

    /// The connections so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counters.connections.load(Ordering::SeqCst)
    }

    /// The connections that are open.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.counters.connected.load(Ordering::SeqCst)
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
/// END_STREAM of DATA, and ACK of SETTINGS and PING.
const END: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u32 = 7;

/// A frame (RFC 9113, section 4.1).
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    async fn read(reader: &mut (impl tokio::io::AsyncRead + Unpin)) -> std::io::Result<Self> {
        let mut head = [0; 9];
        reader.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        reader.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Ok(Self { kind: head[3], flags: head[4], stream, payload })
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// SETTINGS_MAX_CONCURRENT_STREAMS.
fn limit_settings(limit: u32) -> Vec<u8> {
    frame(SETTINGS, 0, 0, &[&[0, 3][..], &limit.to_be_bytes()].concat())
}

/// `:status 200` by its number in the static table, and a body.
fn done(stream: u32) -> Vec<u8> {
    [frame(HEADERS, END_HEADERS, stream, &[0x88]), frame(DATA, END, stream, b"done")].concat()
}

impl<F: Fn(Number) -> Reaction> Shared<F> {
    async fn connection(&self, stream: TcpStream) -> std::io::Result<()> {
        let (mut reader, mut writer) = stream.into_split();
        let (mut limit, mut respond) = (self.limit.clone(), self.respond.clone());
        reader.read_exact(&mut [0; 24]).await?;
        let first = limit_settings(*limit.borrow_and_update());
        writer.write_all(&first).await?;
        let (frames, mut incoming) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok(frame) = Frame::read(&mut reader).await {
                if frames.send(frame).is_err() {
                    return;
                }
            }
        });
        let (mut waiting, mut requests, mut last, mut gone) = (Vec::new(), 0, 0, false);
        loop {
            tokio::select! {
                _ = limit.changed() => {
                    let frame = limit_settings(*limit.borrow_and_update());
                    writer.write_all(&frame).await?;
                }
                _ = respond.changed() => {}
                received = incoming.recv() => {
                    let Some(Frame { kind, flags, stream, payload }) = received else { return Ok(()) };
                    match kind {
                        SETTINGS if flags & END == 0 => writer.write_all(&frame(SETTINGS, END, 0, &[])).await?,
                        PING if flags & END == 0 => writer.write_all(&frame(PING, END, 0, &payload)).await?,
                        HEADERS => {
                            requests += 1;
                            let of_all = self.counters.requests.fetch_add(1, Ordering::SeqCst) + 1;
                            let reaction = (self.react)(Number { of_connection: requests, of_all });
                            gone |= reaction == Reaction::GoAway;
                            if gone {
                                writer.write_all(&frame(GOAWAY, 0, 0, &[last_bytes(last), [0; 4]].concat())).await?;
                            } else if reaction == Reaction::Reject {
                                let code = REFUSED_STREAM.to_be_bytes();
                                writer.write_all(&frame(RST_STREAM, 0, stream, &code)).await?;
                            } else {
                                last = stream;
                                let open = self.counters.open.fetch_add(1, Ordering::SeqCst) + 1;
                                self.counters.most.fetch_max(open, Ordering::SeqCst);
                                waiting.push(stream);
                            }
                        }
                        _ => {}
                    }
                }
            }
            let may_respond = *respond.borrow_and_update();
            if may_respond {
                for stream in waiting.drain(..) {
                    self.counters.open.fetch_sub(1, Ordering::SeqCst);
                    writer.write_all(&done(stream)).await?;
                }
            }
        }
    }
}

const fn last_bytes(stream: u32) -> [u8; 4] {
    stream.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Http2;

    fn get() -> Request<http_body_util::Empty<Bytes>> {
        Request::get("http://h/").body(Http2::empty()).unwrap()
    }

    #[test]
    fn a_backend_of_raw_frames_responds_when_it_may_and_counts() {
        let runtime = runtime();
        let backend = RawBackend::start(&runtime, 10, |_| Reaction::Respond);
        let client = Http2::connect(backend.address);
        let address = backend.address;
        let response = std::thread::spawn(move || client.ask(get()));
        crate::eventually("a stream", || backend.open() == 1);
        assert!(!response.is_finished());
        backend.respond.send_replace(true);
        assert_eq!(response.join().unwrap().1, "done");
        assert_eq!((backend.requests(), backend.most(), backend.connections()), (1, 1, 1));
        crate::eventually("disconnected", || backend.connected() == 0);
        assert_eq!(Http2::connect(address).ask_all(vec![get(), get()]).len(), 2);
    }

    #[test]
    fn a_backend_counts_its_connections() {
        let runtime = runtime();
        let backend = Http2Backend::start(&runtime, 10, |request: Request<Incoming>| async move {
            Response::new(request.uri().path().to_owned())
        });
        for n in 1..3 {
            assert_eq!(Http2::connect(backend.address).ask(get()).1, "/");
            assert_eq!(backend.connections(), n);
        }
    }
}
