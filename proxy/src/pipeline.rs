//! Serves one request: the steps in their order. What a step decides is in its own module.

mod admission;
mod api_key;
mod authorize;
mod caching;
mod call;
mod checks;
mod credentials;
mod early;
mod edits;
mod exchange;
mod explain;
mod forward;
mod request_body;
mod request_policy;
mod response;
mod response_body;
mod secure;
mod signature;
mod tunnel;
mod variables;
mod worker;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use sluice_wire::{Behavior, Hash};

use crate::client::{Flow, Peer};
use crate::cors::Preflight;
use crate::explain::Check;
use crate::gateway::router::{Miss, RouteInput};
use crate::gateway::{Action, Gateway, Matched, Reduced, RequestHead, Stage, StagePath};
use crate::headers;
use crate::listen::{EarlyRequest, Handler};
use crate::observe::Recorder;
use crate::overload::Shed;
use crate::reject::Reject;
use admission::{Admitted, Fields, Present, admit, host_of};
use call::{Call, CallBody, Upgrade};
use request_policy::Unusual;
use response::{Expected, Reply};
use response_body::ResponseBody;
use variables::RequestContext;
use worker::ConfigSnapshot;

pub(crate) use credentials::forwarded;
pub(crate) use exchange::Exchange;
pub(crate) use worker::Worker;

impl Handler for Arc<Worker> {
    type Body = ResponseBody;

    // Inlined, so that the future is made where hyper keeps it: moving it costs 180 instructions per request.
    #[inline(always)]
    fn handle(
        &self,
        peer: Arc<Peer>,
        flow: Option<Arc<Flow>>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> + Send + use<> {
        serve(self.snapshot(), self.recorder.clone(), peer, flow, request)
    }

    fn reject(&self, peer: Arc<Peer>, request: EarlyRequest, reject: &Reject) -> Response<Bytes> {
        early::reject(self, peer, request, reject)
    }

    fn reject_connection(&self, peer: &Arc<Peer>, protocol: &'static str, host: &str, reject: &Reject) {
        early::reject_connection(&self.recorder, peer, protocol, host, reject);
    }
}

/// Serves one request with one snapshot of the configuration; `flow` is that of its HTTP/2 stream.
async fn serve(
    snapshot: Arc<ConfigSnapshot>,
    recorder: Arc<Recorder>,
    peer: Arc<Peer>,
    flow: Option<Arc<Flow>>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let (parts, body) = request.into_parts();
    // In a box: what is passed down six calls would be copied into six futures.
    let mut request = Box::new(Call {
        authority: None,
        parts,
        body: CallBody::Arriving(body),
        upgrade: None,
        present: Present::default(),
    });
    let fields = Fields::of(&request.parts);
    let (present, origin) = (fields.present, fields.origin.cloned());
    let expected = Expected::of(&request.parts, present, flow);
    let counted =
        recorder.load.admit(recorder.worker, |little_is_left| peer.connection.over_share(little_is_left)).map_err(shed);
    let is_counted = counted.is_ok();
    let Admitted { host, authority, path, unusual, websocket } =
        match counted.and_then(|()| admit(&request.parts, &fields)) {
            Ok(admitted) => admitted,
            Err(reject) => {
                let host = host_of(&request.parts, &fields).unwrap_or_default();
                let path: Arc<str> = Arc::from(request.parts.uri.path());
                let mut exchange = Exchange::new(recorder, peer, &request.parts, host, path.clone(), is_counted);
                // The Stage decides the form of the response, as far as host and path can be read.
                exchange.place(&snapshot.gateway.hosts, &path);
                explain::request(&exchange, &request.parts);
                let reply = response::reject(&mut exchange, &reject);
                return Ok(response::finish(exchange, reply, expected, origin.as_ref()));
            }
        };
    request.authority = authority;
    request.present = present;
    if websocket {
        request.upgrade = Some(Upgrade::take(&mut request.parts));
    }
    let mut exchange = Exchange::new(recorder, peer, &request.parts, host, path.clone(), is_counted);
    explain::request(&exchange, &request.parts);
    let reply = match run(&mut exchange, &snapshot.gateway, request, &path, unusual).await {
        Ok(reply) => reply,
        Err(reject) => response::reject(&mut exchange, &reject),
    };
    Ok(response::finish(exchange, reply, expected, origin.as_ref()))
}

/// The rejection of a request because of the load of the whole proxy.
#[cold]
fn shed(why: Shed) -> Reject {
    match why {
        Shed::Memory => Reject::MemoryLimit,
        Shed::Requests => Reject::RequestLimit,
    }
}

/// The steps of an admitted request; `whole` is its canonical path.
async fn run(
    exchange: &mut Exchange,
    gateway: &Gateway,
    mut request: Box<Call>,
    whole: &str,
    unusual: Unusual,
) -> Result<Reply, Reject> {
    let parts = &mut request.parts;
    // The Stage decides what happens to unusual paths, so it is found by the form that they would be matched in.
    if unusual.path.is_reducible() {
        exchange.place(&gateway.hosts, Reduced::new(whole).text());
    } else {
        exchange.place(&gateway.hosts, whole);
    }
    explain::stage(exchange);
    secure::covered(exchange)?;
    exchange.begin(Check::Stage);
    let stage = exchange.stage.clone().ok_or_else(|| no_stage(gateway))?;
    if stage.invalid {
        return Err(Reject::InvalidConfig);
    }
    if exchange.has_unreadable_client() {
        exchange.begin(Check::StageSource);
        return Err(Reject::Malformed("A trusted proxy has stated an address of the client that cannot be read."));
    }
    checks::source(exchange, stage.source.as_ref(), Check::StageSource)?;
    if let Some(reply) = secure::plain_http(exchange, &stage, parts)? {
        return Ok(reply);
    }
    secure::client_certificate(exchange, &stage)?;
    exchange.begin(Check::RequestPolicy);
    checks::head_size(stage.behavior, parts)?;
    if gateway.has_signatures {
        signature::keep(exchange, parts);
    }
    let accepted = request_policy::apply(exchange, gateway, &stage, parts, unusual)?;
    let whole = accepted.as_ref().map_or(whole, |accepted| &*accepted.whole);
    // First, so that the steps see the request that the integration will see.
    let present = request.present;
    present.hop_by_hop.strip(&mut parts.headers);
    if stage.behavior == Behavior::AwsRest {
        aws_method(exchange, parts)?;
    }
    if present.spoofable {
        headers::strip_spoofable(&mut parts.headers, &stage.forward_client_headers);
    }
    let reduced = accepted.as_ref().and_then(|accepted| accepted.reduced.as_ref());
    exchange.begin(Check::Rule);
    let path = StagePath::new(whole, reduced, &stage.base).ok_or(Reject::NotFound)?;
    let input =
        RouteInput { method: &parts.method, path: path.matched, query: parts.uri.query(), headers: &parts.headers };
    if let Some(reply) = preflight(&stage, &input) {
        exchange.explain(|found| {
            found.forget(Check::Rule);
            found.begin(Check::Preflight);
        });
        return Ok(reply);
    }
    let found = stage.router.find(&input).map_err(|miss| not_found(&stage, miss))?;
    let rule = found.rule.clone();
    if let Some(accepted) = &accepted {
        accepted.one_rule(gateway, &exchange.host, &stage, &rule, &input)?;
    }
    exchange.rule = Some(rule.clone());
    let captures = path.captures(found.captures);
    let mut matched =
        Matched { stage: &stage, rule: &rule, path: path.path, matched: path.matched, captures, head: None };
    explain::rule(exchange, &rule, &matched);
    let Action::Serve(policy) = &rule.action else { return Err(Reject::InvalidConfig) };
    let passed = checks::pass(exchange, gateway, &matched, policy, &mut request).await?;
    let parts = &request.parts;
    checks::body_size(exchange, policy, &parts.headers)?;
    if policy.reads_request {
        let (uri, headers) = (parts.uri.clone(), parts.headers.clone());
        matched.head = Some(Box::new(RequestHead { uri, headers }));
    }
    let mut reply = caching::respond(exchange, &matched, policy, request, passed).await?;
    if !exchange.method.is_safe() {
        caching::invalidate(exchange, &matched, policy, &reply);
    }
    edits::apply(&mut reply.headers, policy.response.as_deref(), &RequestContext::new(exchange, &matched));
    Ok(reply)
}

/// The response to a preflight request: with the settings of the rule that the request it asks for would match. None: it is not a
/// preflight request, or neither rule nor stage have such settings.
fn preflight(stage: &Stage, input: &RouteInput<'_>) -> Option<Reply> {
    let asked = Preflight::of(input.method, input.headers)?;
    let found = asked.method().and_then(|method| stage.router.find(&RouteInput { method: &method, ..*input }).ok());
    let cors = found.as_ref().map_or(stage.cors.as_ref(), |found| found.rule.cors(stage))?;
    let (status, headers) = cors.preflight(asked);
    Some(Reply::fixed(status, headers))
}

#[cold]
fn no_stage(gateway: &Gateway) -> Reject {
    if gateway.version == Hash::NONE { Reject::NotReady } else { Reject::NotFound }
}

/// AWS REST APIs match and forward the method named in X-HTTP-Method-Override, and have seven methods, also for `ANY`.
fn aws_method(exchange: &mut Exchange, parts: &mut Parts) -> Result<(), Reject> {
    if let Some(method) = headers::overridden_method(&parts.headers)? {
        exchange.method.clone_from(&method);
        parts.method = method;
    }
    if headers::is_aws_method(&parts.method) { Ok(()) } else { Err(Reject::NotFound) }
}

fn not_found(stage: &Stage, miss: Miss) -> Reject {
    let Miss::Method(methods) = miss else { return Reject::NotFound };
    if stage.behavior != Behavior::Native {
        return Reject::NotFound;
    }
    let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&allow).map_or(Reject::NotFound, Reject::MethodNotAllowed)
}
