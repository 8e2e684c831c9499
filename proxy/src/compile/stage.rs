//! Compiles a Stage around the rules of its routes.

use std::sync::Arc;

use http::HeaderName;
use sluice_wire::{Behavior, ClientAuth, NEVER_FORWARDED, PartName, RequestPolicy, StagePart};

use crate::client_certificate::Trust;
use crate::cors::Cors;
use crate::gateway::router::Router;
use crate::gateway::{self, KeySource, ResolvedPolicy, Rule, Stage, TlsPolicy};
use crate::observe::access_log;
use crate::permission::ResourcePolicy;
use crate::source::SourceFilter;
use crate::state::State;

/// The headers that clients can spoof and that are forwarded all the same. The schema permits no others; an object may be older.
fn forwarded_headers(part: &StagePart) -> Box<[HeaderName]> {
    let permitted = part.forward_client_headers.iter().filter(|name| !NEVER_FORWARDED.contains(&name.as_str()));
    permitted.filter_map(|name| name.parse().ok()).collect()
}

/// How the ARNs of a Stage's methods begin.
fn arn(part: &StagePart) -> Box<str> {
    let of_policy = || part.policy.as_ref().map(|policy| &policy.arn);
    let start = part.arn.as_ref().or_else(of_policy).map_or("arn:aws:execute-api:::", String::as_str);
    format!("{start}/{}/", part.object.name).into()
}

/// A Stage with the rules of all its routes.
pub(super) fn assemble(
    name: &PartName,
    part: &StagePart,
    router: Router<Arc<Rule>>,
    state: &State,
    fleet: RequestPolicy,
    trust: Option<&Arc<Trust>>,
) -> Stage {
    let key_source = part.api_key_source.as_deref().and_then(KeySource::compile);
    let policy = part.policy.as_deref().and_then(ResourcePolicy::compile);
    let client_auth = part.client_auth.as_deref().zip(trust).map(|(client_auth, trust)| {
        let ClientAuth { required, forward, .. } = *client_auth;
        Box::new(gateway::ClientAuth { trust: trust.clone(), required, forward })
    });
    Stage {
        part: name.clone(),
        object: part.object.clone(),
        hostnames: part.hostnames.clone(),
        base: part.base_path.trim_end_matches('/').into(),
        behavior: part.behavior,
        request_policy: ResolvedPolicy::new(part.request_policy.or(fleet), part.behavior),
        forward_client_headers: forwarded_headers(part),
        invalid: part.is_invalid()
            || (part.api_key_source.is_some() && key_source.is_none())
            || (part.policy.is_some() && policy.is_none())
            || (part.client_auth.is_some() && client_auth.is_none()),
        client_auth,
        arn: arn(part),
        policy: policy.map(Box::new),
        source: part.source.as_deref().map(SourceFilter::compile),
        key_source: key_source.unwrap_or_default(),
        tls: part.tls.as_ref().map(|tls| TlsPolicy::compile(tls, state.https_port)),
        rate_limit_headers: part.rate_limit_headers,
        cors: part.cors.as_deref().map(Cors::compile),
        log: part.access_log.then(|| access_log::of_stage(&part.object.id())),
        router,
        metrics: state.metrics.stage(&part.object.id()),
        memory: state.memory.clone(),
        // AWS does not invalidate.
        cache: state.caches.get(name).filter(|_| part.cache.is_some() && part.behavior == Behavior::Native).cloned(),
    }
}
