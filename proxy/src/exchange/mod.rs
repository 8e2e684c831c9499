//! The facts of one request, gathered on its way and recorded once, when the answer is gone.
//! It knows no policy: the steps write into it, the pipeline passes it on.

pub(crate) mod body;
pub(crate) mod piece;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Version};

use crate::auth::Caller;
use crate::gateway::{Rule, Stage};
use crate::key::KeyRecord;
use crate::listen::{Peer, Worker};

use crate::id::RequestId;
pub(crate) use body::Body;

/// One request on its way.
pub(crate) struct Exchange {
    pub(crate) worker: Arc<Worker>,
    pub(crate) started: Instant,
    pub(crate) id: RequestId,
    pub(crate) peer: Arc<Peer>,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) host: String,
    /// Canonical, with base path and version; the client's own text where it has no canonical form.
    pub(crate) path: Arc<str>,
    pub(crate) stage: Option<Arc<Stage>>,
    pub(crate) rule: Option<Arc<Rule>>,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) key: Option<Arc<KeyRecord>>,
    pub(crate) status: u16,
    pub(crate) reason: &'static str,
    pub(crate) cache: &'static str,
    pub(crate) upstream: Option<Duration>,
    pub(crate) sent: u64,
    /// Whether the answer's body reached its end.
    pub(crate) complete: bool,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.peer.turn.over();
        crate::observe::record(self);
    }
}
