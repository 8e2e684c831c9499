//! HTTP/2 streams of an endpoint: checked out, waited for, and connections opened for requests that wait.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::body::{Payload, SendBody};
use super::dial::{Http, in_time};
use super::endpoint::{Endpoint, Opened, Requirement};
use super::error::{ConnectError, Error};
use super::http2::connection::Connection;
use super::http2::queue::{Granted, Http2Connections, StreamResult, Taken};
use super::http2::stream::{OpenStream, Owner, UploadSize};
use crate::deadline::{lately, within};

impl<B: SendBody> Endpoint<B> {
    /// A stream for a request. What has arrived of its body is read, to see how large it is.
    pub(super) async fn stream(
        self: &Arc<Self>,
        thread: usize,
        body: &mut Payload<B>,
        rejected: u32,
    ) -> Result<Granted<B>, Error> {
        *body = std::mem::replace(body, Payload::Empty).look().await;
        let upload = UploadSize::of(body);
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
            let receiver = connections.wait(upload, rejected);
            let dials = connections.dials(limits, now);
            self.waiting(thread).store(connections.waiting(), Ordering::Relaxed);
            (receiver, dials)
        };
        self.dial(thread, dials);
        match within(now + self.context.timeouts.stream, receiver).await {
            Ok(Ok(result)) => result.map_err(Error::Connect),
            Ok(Err(_)) | Err(_) => Err(Error::Busy),
        }
    }

    fn granted(self: &Arc<Self>, thread: usize, taken: Taken<B>) -> Granted<B> {
        let Taken { sender, connection, upload } = taken;
        Granted::Http2 { sender, stream: Arc::new(OpenStream { owner: self.clone(), thread, connection, upload }) }
    }

    /// Changes the connections, and gives requests that wait what there is for them then.
    fn update(self: &Arc<Self>, thread: usize, change: impl FnOnce(&mut Http2Connections<B>)) {
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
        for (result, taken) in grants {
            // A request that was given up meanwhile drops its stream, which serves the next one.
            drop(result.send(Ok(self.granted(thread, taken))));
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
                let work = endpoint.open(thread, Requirement::Any);
                let opened = in_time(endpoint.context.timeouts.connect, work).await;
                endpoint.dialed(thread, opened);
            });
        }
    }

    fn dialed(self: &Arc<Self>, thread: usize, opened: Result<Opened<B>, ConnectError>) {
        match opened {
            Ok(Opened::Http2(connection)) => {
                self.state(thread).http2.dialed();
                self.add(thread, connection);
            }
            Ok(Opened::Http1(sender)) => {
                let mut first = Some(sender);
                self.complete_all(thread, || Ok(first.take().map_or(Granted::Retry, Granted::Http1)));
            }
            Err(error) => {
                tracing::debug!(error = %sluice_daemon::logging::chain(&error), "cannot open an HTTP/2 connection");
                let after = Instant::now() + self.context.timeouts.eject;
                if self.state(thread).http2.failed(after) {
                    let error = Arc::new(error);
                    return self.complete_all(thread, || Err(error.clone()));
                }
                // Requests go on waiting for the connections that there are.
                self.update(thread, Http2Connections::dialed);
            }
        }
    }

    /// An attempt to connect has ended: all requests that wait get an result.
    fn complete_all(self: &Arc<Self>, thread: usize, mut result: impl FnMut() -> StreamResult<B>) {
        let waiting = {
            let connections = &mut self.state(thread).http2;
            connections.dialed();
            self.waiting(thread).store(0, Ordering::Relaxed);
            connections.take_waiting()
        };
        for waiter in waiting {
            drop(waiter.send(result()));
        }
    }

    /// A connection was opened.
    pub(super) fn add(self: &Arc<Self>, thread: usize, connection: Connection<B>) {
        self.chose(Http::H2);
        self.update(thread, |connections| connections.add(connection));
    }
}

impl<B: SendBody> Owner for Endpoint<B> {
    fn end_stream(self: Arc<Self>, thread: usize, connection: u64, upload: UploadSize) {
        self.update(thread, |connections| connections.end_stream(connection, upload, lately()));
    }

    fn end_connection(self: Arc<Self>, thread: usize, connection: u64) {
        self.update(thread, |connections| connections.remove(connection));
    }

    fn end_if_idle(self: Arc<Self>, thread: usize, connection: u64) {
        let timeout = self.context.timeouts.idle;
        self.state(thread).http2.remove_idle(connection, timeout);
    }

    fn progressed(self: Arc<Self>, thread: usize) {
        if self.waiting(thread).load(Ordering::Relaxed) > 0 {
            self.update(thread, |_| ());
        }
    }
}
