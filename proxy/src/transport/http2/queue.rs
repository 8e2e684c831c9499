//! The HTTP/2 connections of one worker thread to one endpoint, and the requests that wait for a stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper::client::conn::{http1, http2};
use tokio::sync::oneshot;

use super::connection::Connection;
use super::stream::{OpenStream, UploadSize};
use crate::transport::body::{Payload, SendBody};
use crate::transport::error::ConnectError;
use crate::transport::settings::PoolLimits;

/// What a request that needs a stream gets.
pub(crate) enum Granted<B: SendBody> {
    Http2 {
        sender: http2::SendRequest<Payload<B>>,
        stream: Arc<OpenStream>,
    },
    /// The server chose HTTP/1.1.
    Http1(http1::SendRequest<Payload<B>>),
    /// The server chose HTTP/1.1, for another request.
    Retry,
}

pub(crate) type StreamResult<B> = Result<Granted<B>, Arc<ConnectError>>;

struct Waiter<B: SendBody> {
    upload: UploadSize,
    /// How often servers have rejected the request.
    rejected: u32,
    result: oneshot::Sender<StreamResult<B>>,
}

/// The connections of one worker thread to one endpoint.
pub(crate) struct Http2Connections<B: SendBody> {
    list: Vec<Connection<B>>,
    made: u64,
    dialing: usize,
    /// Streams that a server allowed on the last new connection.
    allowed: u32,
    /// After a failure no further connection is tried until then, as long as there is one.
    dial_after: Option<Instant>,
    /// By kind of upload. Those that servers rejected most often come first, otherwise in the order in which they came.
    waiting: [VecDeque<Waiter<B>>; 3],
}

impl<B: SendBody> Default for Http2Connections<B> {
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
pub(crate) type Grants<B> = Vec<(oneshot::Sender<StreamResult<B>>, Taken<B>)>;

pub(crate) struct Taken<B: SendBody> {
    pub(crate) sender: http2::SendRequest<Payload<B>>,
    pub(crate) connection: u64,
    pub(crate) upload: UploadSize,
}

impl<B: SendBody> Http2Connections<B> {
    pub(crate) fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    fn may_dial(&self, now: Instant) -> bool {
        self.list.is_empty() || self.dial_after.is_none_or(|at| at <= now)
    }

    /// The first connection with a free stream, so that connections that are not needed become idle and are closed.
    fn pick(&self, upload: UploadSize, limits: &PoolLimits, now: Instant) -> Option<usize> {
        let found = self.list.iter().position(|connection| connection.has_room(upload, limits));
        let all_there = self.list.len() >= limits.connections || !self.may_dial(now);
        if found.is_some() || upload == UploadSize::None || !all_there {
            return found;
        }
        // There will be no further connection: uploads share those that there are.
        let free = self.list.iter().enumerate().filter(|(_, connection)| connection.has_free_stream(limits));
        free.min_by_key(|(_, connection)| connection.uploading).map(|(at, _)| at)
    }

    pub(crate) fn take(&mut self, upload: UploadSize, limits: &PoolLimits, now: Instant) -> Option<Taken<B>> {
        let at = self.pick(upload, limits, now)?;
        let connection = self.list.get_mut(at)?;
        connection.streams += 1;
        connection.uploading = connection.uploading.saturating_add(upload.bytes());
        Some(Taken { sender: connection.sender.clone(), connection: connection.number, upload })
    }

    pub(crate) fn waiting(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    /// Adds a request. One that servers have rejected is not behind those that came later: it would share the last streams
    /// of a connection with them, and be rejected again.
    pub(crate) fn wait(&mut self, upload: UploadSize, rejected: u32) -> oneshot::Receiver<StreamResult<B>> {
        let (result, receiver) = oneshot::channel();
        let queue = match upload {
            UploadSize::None => 0,
            UploadSize::Small(_) => 1,
            UploadSize::Large => 2,
        };
        let queue = &mut self.waiting[queue];
        let at = if rejected == 0 { queue.len() } else { queue.partition_point(|other| other.rejected >= rejected) };
        queue.insert(at, Waiter { upload, rejected, result });
        receiver
    }

    /// Streams for requests that wait, as far as there are any.
    pub(crate) fn serve(&mut self, limits: &PoolLimits, now: Instant) -> Grants<B> {
        let mut grants = Vec::new();
        for queue in 0..self.waiting.len() {
            while let Some(first) = self.waiting[queue].front() {
                let taken = if first.result.is_closed() { None } else { Some(self.take(first.upload, limits, now)) };
                if matches!(taken, Some(None)) {
                    break;
                }
                let waiter = self.waiting[queue].pop_front();
                if let (Some(waiter), Some(Some(taken))) = (waiter, taken) {
                    grants.push((waiter.result, taken));
                }
            }
        }
        grants
    }

    /// How many connections are to be opened for the requests that wait; they count as being opened.
    pub(crate) fn dials(&mut self, limits: &PoolLimits, now: Instant) -> usize {
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

    /// A connection was opened.
    pub(crate) fn add(&mut self, connection: Connection<B>) {
        self.allowed = connection.allowed();
        self.dial_after = None;
        self.list.push(connection);
    }

    pub(crate) fn end_stream(&mut self, connection: u64, upload: UploadSize, now: Instant) {
        let Some(connection) = self.list.iter_mut().find(|known| known.number == connection) else { return };
        connection.streams = connection.streams.saturating_sub(1);
        connection.uploading = connection.uploading.saturating_sub(upload.bytes());
        if connection.streams == 0 {
            connection.idle_since = now;
        }
    }

    pub(crate) fn remove(&mut self, connection: u64) {
        self.list.retain(|known| known.number != connection);
    }

    pub(crate) fn remove_idle(&mut self, connection: u64, timeout: Duration) {
        let is_idle = |known: &Connection<B>| known.streams == 0 && known.idle_since.elapsed() >= timeout;
        self.list.retain(|known| known.number != connection || !is_idle(known));
    }

    /// An attempt to open a connection has failed. Whether there is none, and none is being opened.
    pub(crate) fn failed(&mut self, dial_after: Instant) -> bool {
        self.dial_after = Some(dial_after);
        self.list.is_empty() && self.dialing == 1
    }

    /// An attempt to open a connection has ended.
    pub(crate) fn dialed(&mut self) {
        self.dialing -= 1;
    }

    /// The requests that wait, for which there will be no stream.
    pub(crate) fn take_waiting(&mut self) -> impl Iterator<Item = oneshot::Sender<StreamResult<B>>> + use<B> {
        let waiting = self.waiting.each_mut().map(std::mem::take);
        waiting.into_iter().flatten().map(|waiter| waiter.result).filter(|result| !result.is_closed())
    }
}
