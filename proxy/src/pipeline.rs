//! One request, from top to bottom. Calls, in their order, and nothing else: what each step decides is in its own module.

mod answer;
mod caching;
mod checks;
mod forward;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Instant;

use http::header::ORIGIN;
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response};
use hyper::body::Incoming;
use sluice_wire::Behavior;

use crate::exchange::piece::Flow;
use crate::exchange::{Body, Exchange};
use crate::gateway::router::View;
use crate::gateway::{Action, Gateway, Matched, Stage, below};
use crate::id::RequestId;
use crate::listen::admission::{Admitted, admit, host_of};
use crate::listen::{Peer, Worker};
use crate::reject::Reject;
use answer::{Asked, Reply};
use forward::{Call, Upgrade};

/// Answers one request; `flow` is that of its HTTP/2 stream.
pub(crate) async fn serve(
    worker: Arc<Worker>,
    peer: Arc<Peer>,
    flow: Option<Arc<Flow>>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let asked = Asked::of(&parts, flow);
    let origin = parts.headers.get(ORIGIN).cloned();
    let (exchange, reply) = match admit(&parts) {
        Ok(admitted) => {
            let Admitted { host, authority, path, websocket } = admitted;
            let mut exchange = begin(worker, peer, &parts, host, path.clone());
            // In a box: what is passed down six calls would be copied into six futures.
            let mut request = Box::new(Call { authority, parts, body, upgrade: None });
            request.upgrade = websocket.then(|| Upgrade::take(&mut request.parts));
            let reply = run(&mut exchange, request, &path).await;
            let reply = reply.unwrap_or_else(|reject| answer::refuse(&mut exchange, &reject));
            (exchange, reply)
        }
        Err(reject) => {
            let host = host_of(&parts).unwrap_or_default();
            let mut exchange = begin(worker, peer, &parts, host, Arc::from(parts.uri.path()));
            exchange.stage = addressed(&exchange);
            let reply = answer::refuse(&mut exchange, &reject);
            (exchange, reply)
        }
    };
    Ok(answer::seal(exchange, reply, asked, origin.as_ref()))
}

/// The Stage whose words a request is refused with that has no reading: by what can be read of it.
fn addressed(exchange: &Exchange) -> Option<Arc<Stage>> {
    exchange.worker.pin().gateway.hosts.find(&exchange.host, &exchange.path).cloned()
}

fn begin(worker: Arc<Worker>, peer: Arc<Peer>, parts: &Parts, host: String, path: Arc<str>) -> Box<Exchange> {
    Box::new(Exchange {
        worker,
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
        cache: "",
        upstream: None,
        sent: 0,
        complete: false,
    })
}

/// `whole` is the canonical path of a request that has one reading.
async fn run(exchange: &mut Exchange, mut request: Box<Call>, whole: &str) -> Result<Reply, Reject> {
    let parts = &mut request.parts;
    let pin = exchange.worker.pin();
    let gateway = &*pin.gateway;
    let stage = find_stage(gateway, &exchange.host, whole)?;
    exchange.stage = Some(stage.clone());
    if stage.invalid {
        return Err(Reject::InvalidConfig);
    }
    checks::head_size(stage.behavior, parts)?;
    // Before anything is decided: the steps see what the integration will see.
    crate::headers::strip_hop_by_hop(&mut parts.headers);
    if stage.behavior == Behavior::AwsRest {
        aws_method(exchange, parts)?;
    }
    crate::headers::strip_claims(&mut parts.headers);
    if let Some(cors) = &stage.cors
        && let Some((status, headers)) = cors.preflight(&parts.method, &parts.headers)
    {
        return Ok(Reply::fixed(status, headers));
    }
    let path = below(whole, &stage.base).ok_or(Reject::NotFound)?;
    let view = View { method: &parts.method, path, query: parts.uri.query(), headers: &parts.headers };
    let found = stage.router.find(&view).ok_or_else(|| not_found(&stage, &view))?;
    let rule = found.rule.clone();
    exchange.rule = Some(rule.clone());
    let Action::Serve(policy) = &rule.action else { return Err(Reject::InvalidConfig) };
    let matched = Matched { stage: &stage, rule: &rule, path, captures: found.captures };
    let passed = checks::pass(exchange, gateway, &matched, policy, &parts.headers).await?;
    checks::body_size(&matched, &parts.headers)?;
    let mut reply = caching::answer(exchange, &matched, policy, request, passed).await?;
    crate::headers::edit(&mut reply.headers, policy.response.as_deref(), exchange, &matched);
    Ok(reply)
}

/// AWS REST APIs match and forward the method that a field asks for, and have seven methods, also behind `ANY`.
fn aws_method(exchange: &mut Exchange, parts: &mut Parts) -> Result<(), Reject> {
    if let Some(method) = crate::headers::asked_method(&parts.headers)? {
        exchange.method.clone_from(&method);
        parts.method = method;
    }
    if crate::headers::is_aws_method(&parts.method) { Ok(()) } else { Err(Reject::NotFound) }
}

fn find_stage(gateway: &Gateway, host: &str, path: &str) -> Result<Arc<Stage>, Reject> {
    if gateway.version == sluice_wire::Hash::NONE {
        return Err(Reject::NotReady);
    }
    gateway.hosts.find(host, path).cloned().ok_or(Reject::NotFound)
}

fn not_found(stage: &Stage, view: &View<'_>) -> Reject {
    if stage.behavior != Behavior::Native {
        return Reject::NotFound;
    }
    let methods = stage.router.methods(view);
    let allow = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    match HeaderValue::from_str(&allow) {
        Ok(allow) if !allow.is_empty() => Reject::MethodNotAllowed(allow),
        _ => Reject::NotFound,
    }
}
