//! State of one request on its way through the pipeline. Steps write into it; dropping it, with the response's body, records
//! the request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{Method, Version};

use super::variables::Ended;
use crate::auth::Caller;
use crate::client::Peer;
use crate::gateway::{Rule, Stage};
use crate::id::RequestId;
use crate::key::KeyRecord;
use crate::observe::{Record, Recorder};

/// One request.
pub(crate) struct Exchange {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) started: Instant,
    pub(crate) id: RequestId,
    pub(crate) peer: Arc<Peer>,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) host: String,
    /// Canonical, with base path and version; as the client wrote it where it has no canonical form.
    pub(crate) path: Arc<str>,
    pub(crate) stage: Option<Arc<Stage>>,
    pub(crate) rule: Option<Arc<Rule>>,
    pub(crate) caller: Option<Arc<Caller>>,
    pub(crate) key: Option<Arc<KeyRecord>>,
    pub(crate) status: u16,
    /// Why the request was rejected; empty when it was not.
    pub(crate) reason: &'static str,
    /// The type of AWS's gateway response; empty for others.
    pub(crate) response_type: &'static str,
    /// Result of the cache; empty for a rule without one.
    pub(crate) cache: &'static str,
    pub(crate) upstream: Option<Duration>,
    /// Bytes of the response's body.
    pub(crate) sent: u64,
    /// Whether the response's body reached its end.
    pub(crate) complete: bool,
}

impl Exchange {
    pub(crate) fn new(
        recorder: Arc<Recorder>,
        peer: Arc<Peer>,
        parts: &Parts,
        host: String,
        path: Arc<str>,
    ) -> Box<Self> {
        Box::new(Self {
            recorder,
            started: Instant::now(),
            id: RequestId::new(),
            peer,
            method: parts.method.clone(),
            version: parts.version,
            host,
            path,
            stage: None,
            rule: None,
            caller: None,
            key: None,
            status: 0,
            reason: "",
            response_type: "",
            cache: "",
            upstream: None,
            sent: 0,
            complete: false,
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.peer.state.request_ended();
        let took = self.started.elapsed();
        self.recorder.record(&Record {
            stage: self.stage.as_ref().map(|stage| (&*stage.metrics, stage.log.as_deref())),
            rule: self.rule.as_ref().map(|rule| (&*rule.metrics, &*rule.log)),
            took,
            status: self.status,
            variables: &Ended { exchange: self, took },
            complete: self.complete,
        });
    }
}
