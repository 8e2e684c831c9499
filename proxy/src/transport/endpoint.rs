//! One endpoint and its connections: established, kept for each worker thread, checked out and released.
//! Which endpoint gets a request is decided by the pool.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use hyper::client::conn::{http1, http2};

use super::body::{Payload, SendBody};
use super::dial::{Dialer, Http, in_time};
use super::error::{ConnectError, Error};
use super::failures::Failures;
use super::http1::{self as http1_connection, IdleConnections, Upgrades};
use super::http2::connection::{self, Owned};
use super::http2::queue::{Granted, Http2Connections};
use super::http2::stream::{OpenStream, Owner};
use super::settings::Context;
use crate::deadline::lately;

/// One address with its connections.
pub(super) struct Endpoint<B: SendBody> {
    address: SocketAddr,
    pub(super) dialer: Dialer,
    failures: Arc<Failures>,
    /// Whether it is among the failures.
    failing: AtomicBool,
    pub(super) context: Context,
    outstanding: AtomicU32,
    /// Milliseconds since `born`.
    ejected_until: AtomicU64,
    born: Instant,
    /// What the server chose by ALPN the last time.
    chosen: AtomicU8,
    threads: Box<[Thread<B>]>,
}

const CHOSE_HTTP1: u8 = 1;
const CHOSE_HTTP2: u8 = 2;

/// The connections of one worker thread. Other threads use them only when the endpoint ends: the lock is not contended.
struct Thread<B: SendBody> {
    state: Mutex<ThreadState<B>>,
    /// Requests that wait for an HTTP/2 stream, to be read without the lock.
    waiting: AtomicUsize,
}

pub(super) struct ThreadState<B: SendBody> {
    pub(super) idle: IdleConnections<B>,
    pub(super) http2: Http2Connections<B>,
}

/// What kind of connection a request needs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Requirement {
    Any,
    /// Not an idle HTTP/1.1 connection, which may be closed as the last one was.
    Fresh,
    /// A new HTTP/1.1 connection that may change its protocol.
    Upgrade,
}

/// A connection or a stream that can carry a request.
pub(super) enum Checkout<B: SendBody> {
    Http1 { sender: http1::SendRequest<Payload<B>>, reused: bool },
    Http2 { sender: http2::SendRequest<Payload<B>>, stream: Arc<OpenStream> },
}

/// A connection that was just established.
pub(super) enum Opened<B: SendBody> {
    Http1(http1::SendRequest<Payload<B>>),
    Http2(connection::Connection<B>),
}

/// Counts a request against its endpoint until it is dropped.
pub(super) struct Outstanding<B: SendBody>(Arc<Endpoint<B>>);

impl<B: SendBody> Drop for Outstanding<B> {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connection of a response that is being read. Dropped, an HTTP/1.1 connection is closed and an HTTP/2 stream is free;
/// released, an HTTP/1.1 connection serves another request.
pub(crate) struct PooledConnection<B: SendBody> {
    held: Held<B>,
    thread: usize,
    outstanding: Outstanding<B>,
}

/// What a response is read from.
pub(super) enum Held<B: SendBody> {
    Http1(http1::SendRequest<Payload<B>>),
    Http2 {
        _stream: Arc<OpenStream>,
    },
    /// The connection changes its protocol.
    Upgraded,
}

impl<B: SendBody> PooledConnection<B> {
    pub(super) fn new(held: Held<B>, thread: usize, outstanding: Outstanding<B>) -> Self {
        Self { held, thread, outstanding }
    }

    /// The response was read to its end: the connection may serve another request.
    pub(crate) fn release(self) {
        if let Held::Http1(sender) = self.held {
            self.outstanding.0.put(self.thread, sender);
        }
    }
}

impl<B: SendBody> Endpoint<B> {
    pub(super) fn new(address: SocketAddr, dialer: Dialer, failures: Arc<Failures>, context: Context) -> Self {
        let thread = |_| {
            let state = ThreadState { idle: IdleConnections::default(), http2: Http2Connections::default() };
            Thread { state: Mutex::new(state), waiting: AtomicUsize::new(0) }
        };
        Self {
            address,
            dialer,
            failures,
            failing: AtomicBool::new(false),
            outstanding: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            born: Instant::now(),
            chosen: AtomicU8::new(0),
            threads: (0..context.threads).map(thread).collect(),
            context,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request failed here.
    pub(super) fn failed(&self, error: &Error) {
        if let Some(cause) = error.cause().filter(|cause| cause.is_lasting()) {
            self.failing.store(true, Ordering::Relaxed);
            self.failures.failed(self.address, cause, error);
        }
    }

    /// There was a response.
    pub(super) fn responded(&self) {
        if self.failing.load(Ordering::Relaxed) {
            self.failing.store(false, Ordering::Relaxed);
            self.failures.recovered(self.address);
        }
    }

    pub(super) fn load(&self) -> u32 {
        self.outstanding.load(Ordering::Relaxed)
    }

    pub(super) fn enter(self: &Arc<Self>) -> Outstanding<B> {
        self.outstanding.fetch_add(1, Ordering::Relaxed);
        Outstanding(self.clone())
    }

    fn age_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_ejected(&self) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        until != 0 && self.age_ms() < until
    }

    /// It could not be reached: for a moment it is chosen last.
    pub(super) fn eject(&self) {
        let for_ms = u64::try_from(self.context.timeouts.eject.as_millis()).unwrap_or(u64::MAX);
        self.ejected_until.store(self.age_ms().saturating_add(for_ms), Ordering::Relaxed);
    }

    pub(super) fn state(&self, thread: usize) -> MutexGuard<'_, ThreadState<B>> {
        // Poison would mean a panic between two statements that cannot panic; the state is sound either way.
        self.threads[thread].state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self, thread: usize) -> &AtomicUsize {
        &self.threads[thread].waiting
    }

    pub(super) fn chose(&self, http: Http) {
        let chosen = if http == Http::H2 { CHOSE_HTTP2 } else { CHOSE_HTTP1 };
        self.chosen.store(chosen, Ordering::Relaxed);
    }

    /// The version that a request will most likely use: a server may choose another one at each handshake.
    fn version(&self, wanted: Requirement) -> Http {
        let transport = &self.dialer.transport;
        match transport.http {
            _ if wanted == Requirement::Upgrade => Http::H1,
            Http::Alpn if transport.tls.is_none() => Http::H1,
            Http::Alpn if self.chosen.load(Ordering::Relaxed) == CHOSE_HTTP1 => Http::H1,
            Http::Alpn => Http::H2,
            http => http,
        }
    }

    /// What is offered by ALPN.
    pub(super) fn offer(&self, wanted: Requirement) -> Http {
        if wanted == Requirement::Upgrade { Http::H1 } else { self.dialer.transport.http }
    }

    fn put(&self, thread: usize, sender: http1::SendRequest<Payload<B>>) {
        if sender.is_closed() {
            return;
        }
        let (timeout, limit) = (self.context.timeouts.idle, self.context.limits.idle);
        self.state(thread).idle.put(sender, lately(), timeout, limit);
    }

    /// A connection or a stream for a request that servers have rejected that often. For HTTP/2, what has arrived of its
    /// body is read.
    pub(super) async fn checkout(
        self: &Arc<Self>,
        thread: usize,
        body: &mut Payload<B>,
        wanted: Requirement,
        rejected: u32,
    ) -> Result<Checkout<B>, Error> {
        loop {
            if self.version(wanted) == Http::H2 {
                // Boxed, so that it costs HTTP/1.1 nothing.
                match Box::pin(self.stream(thread, body, rejected)).await? {
                    Granted::Http2 { sender, stream } => return Ok(Checkout::Http2 { sender, stream }),
                    Granted::Http1(sender) => return Ok(Checkout::Http1 { sender, reused: false }),
                    Granted::Retry => continue,
                }
            }
            if wanted == Requirement::Any {
                let sender = self.state(thread).idle.take(lately(), self.context.timeouts.idle);
                if let Some(sender) = sender {
                    return Ok(Checkout::Http1 { sender, reused: true });
                }
            }
            // Boxed as well: otherwise the future of every request is as large as a handshake.
            let opening = Box::pin(self.open(thread, wanted));
            match in_time(self.context.timeouts.connect, opening).await? {
                Opened::Http1(sender) => return Ok(Checkout::Http1 { sender, reused: false }),
                // The server has changed its mind since the last handshake.
                Opened::Http2(connection) => self.add(thread, connection),
            }
        }
    }

    /// Establishes a connection.
    pub(super) async fn open(self: &Arc<Self>, thread: usize, wanted: Requirement) -> Result<Opened<B>, ConnectError> {
        let offer = self.offer(wanted);
        let socket = self.dialer.open(offer).await?;
        let http2 = match offer {
            Http::H1 => false,
            Http::Alpn => socket.chose_http2(),
            Http::H2 if self.dialer.transport.tls.is_some() && !socket.chose_http2() => {
                return Err(ConnectError::NoHttp2);
            }
            Http::H2 => true,
        };
        if http2 {
            let number = self.state(thread).http2.next_number();
            let owner: Weak<dyn Owner> = Arc::<Self>::downgrade(self);
            let (timeouts, limits) = (&self.context.timeouts, &self.context.limits);
            let started = connection::start(Owned { owner, thread, number }, socket, timeouts, limits).await?;
            return Ok(Opened::Http2(started));
        }
        if offer == Http::Alpn {
            self.chose(Http::H1);
        }
        let upgrades = if wanted == Requirement::Upgrade { Upgrades::Yes } else { Upgrades::No };
        Ok(Opened::Http1(http1_connection::start(socket, upgrades).await?))
    }
}
