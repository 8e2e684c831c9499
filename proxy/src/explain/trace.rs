//! Records the explanation of the one request of a connection.

use std::sync::{Mutex, MutexGuard, PoisonError};

use http::HeaderMap;
use tokio::sync::Notify;

use super::checks::Check;
use super::explanation::Explanation;

/// Records an explanation. Connections of clients have none.
#[derive(Default)]
pub(crate) struct Trace {
    found: Mutex<Explanation>,
    /// The headers of the client.
    headers: Mutex<HeaderMap>,
    finished: Notify,
}

impl Trace {
    /// The explanation of a connection that begins.
    pub(crate) fn new() -> Self {
        let trace = Self::default();
        trace.found().begin(Check::Connection);
        trace
    }

    fn found(&self) -> MutexGuard<'_, Explanation> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to the explanation.
    #[cold]
    #[inline(never)]
    pub(crate) fn note(&self, add: impl FnOnce(&mut Explanation)) {
        add(&mut self.found());
    }

    /// Keeps the headers of the client.
    pub(crate) fn keep_headers(&self, headers: &HeaderMap) {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).clone_from(headers);
    }

    /// The headers of the client.
    pub(crate) fn headers(&self) -> HeaderMap {
        self.headers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The response is complete.
    pub(crate) fn finish(&self) {
        self.finished.notify_one();
    }

    /// Waits for the response.
    pub(crate) async fn finished(&self) {
        self.finished.notified().await;
    }

    /// The explanation so far.
    pub(crate) fn explanation(&self) -> Explanation {
        self.found().clone()
    }
}
