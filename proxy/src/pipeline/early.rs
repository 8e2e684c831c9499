//! Requests and connections that are rejected before the steps of the pipeline: they are recorded as all others, and the Stage
//! decides the form of the response, as far as host and path can be read.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use sluice_wire::Variable;

use super::admission::{Fields, host_of};
use super::exchange::Exchange;
use super::explain;
use super::response::{self, Expected, ReplyBody};
use super::worker::Worker;
use crate::client::Peer;
use crate::id::RequestId;
use crate::listen::EarlyRequest;
use crate::observe::{Record, Recorder};
use crate::reject::Reject;
use crate::template::{Value, Variables};

/// The response to a request whose head is not valid. Records it.
pub(super) fn reject(worker: &Worker, peer: Arc<Peer>, request: EarlyRequest, reject: &Reject) -> Response<Bytes> {
    let EarlyRequest { parts, path } = request;
    let gateway = &worker.snapshot().gateway;
    let fields = Fields::of(&parts);
    let host = host_of(&parts, &fields).unwrap_or_default();
    let mut exchange = Exchange::new(worker.recorder.clone(), peer, &parts, host, Arc::from(path), false);
    let path = exchange.path.clone();
    exchange.place(&gateway.hosts, if path.starts_with('/') { &path } else { "/" });
    explain::request(&exchange, &parts);
    let reply = response::reject(&mut exchange, reject);
    let body = if let ReplyBody::Full(body) = &reply.body { body.clone() } else { Bytes::new() };
    exchange.sent = body.len() as u64;
    // The response with its record is complete here: the body is sent by the caller.
    response::finish(exchange, reply, Expected::head_only(), fields.origin).map(|_| body)
}

/// Records a connection, or a stream of one, that is closed without a response.
pub(super) fn reject_connection(
    recorder: &Recorder,
    peer: &Arc<Peer>,
    protocol: &'static str,
    host: &str,
    reject: &Reject,
) {
    if let Some(trace) = &peer.trace {
        trace.note(|found| found.close(reject.log_reason()));
        trace.finish();
    }
    let rejected = RejectedConnection { id: RequestId::new(), peer, protocol, host, reject };
    recorder.record_connection(&Record {
        stage: None,
        rule: None,
        took: Duration::ZERO,
        status: 0,
        variables: &rejected,
        complete: true,
    });
    recorder.no_stage.reject(recorder.worker, reject.index());
}

/// What the access log has of a connection without a request.
struct RejectedConnection<'a> {
    id: RequestId,
    peer: &'a Peer,
    protocol: &'static str,
    host: &'a str,
    reject: &'a Reject,
}

impl Variables for RejectedConnection<'_> {
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        match variable {
            Variable::RequestId => Some(Value::Plain(self.id.as_str())),
            Variable::HttpMethod => Some(Value::Plain("-")),
            Variable::Scheme => Some(Value::Plain(if self.peer.origin.tls.is_some() { "https" } else { "http" })),
            Variable::DomainName => Some(Value::Text(Cow::Borrowed(self.host))),
            Variable::Path => Some(Value::Plain("")),
            Variable::Protocol => Some(Value::Plain(self.protocol)),
            Variable::Status | Variable::ResponseLength => Some(Value::Number(0)),
            Variable::ResponseLatency => Some(Value::Time(Duration::ZERO)),
            Variable::SourceIp => Some(Value::Plain(self.peer.origin.source.to_str().unwrap_or_default())),
            Variable::ErrorReason => Some(Value::Plain(self.reject.log_reason())),
            _ => None,
        }
    }
}
