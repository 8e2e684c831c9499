//! Translates what a rule checks and does: resolves its references. A rule with any problem rejects its requests, so that no
//! problem makes an API more open than its author wrote it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use sluice_crds::Authorizer;
use sluice_crds::condition::reason;
use sluice_wire::{AuthorizerUse, Integration, PartName, RuleAction, RulePolicy};

use crate::lower::{self, Authorities, Authorization, Policy, ServicePort, ServiceTls};
use crate::problem::Problems;
use crate::translate::node::{CaId, UpstreamId, UpstreamTlsId};
use crate::translate::references::{Referrer, resolve};
use crate::translate::view::View;
use crate::translate::{authorizers, ca, upstreams};

/// What proxies do with the requests of a rule. `services` collects the ports that it forwards to.
pub(crate) fn action(
    view: &View<'_>,
    from: Referrer<'_>,
    policy: Option<&Policy>,
    problems: &mut Problems,
    services: &mut BTreeSet<UpstreamId>,
) -> RuleAction {
    let translated = policy.and_then(|policy| translate(view, from, policy, problems, services));
    match translated.filter(|_| problems.count() == 0) {
        Some(policy) => RuleAction::of(policy),
        None => RuleAction::Invalid { why: problems.sentences() },
    }
}

fn translate(
    view: &View<'_>,
    from: Referrer<'_>,
    policy: &Policy,
    problems: &mut Problems,
    services: &mut BTreeSet<UpstreamId>,
) -> Option<RulePolicy> {
    let authorizer = authorizer(view, from, &policy.authorization, problems);
    let integration = match &policy.integration {
        lower::Integration::Service(port) => Integration::Service(upstream(view, from, port, problems, services)?),
        lower::Integration::Http(target) => Integration::Http(target.clone()),
        lower::Integration::Mock(mock) => Integration::Mock(mock.clone()),
    };
    Some(RulePolicy {
        source: policy.source.clone(),
        authorize: policy.authorize.clone(),
        authorizer,
        api_key: policy.api_key,
        optional_key: policy.optional_key,
        alternative_key: policy.alternative_key,
        throttle: policy.throttle,
        client_throttle: policy.client_throttle,
        cors: policy.cors.clone(),
        cache: policy.cache.clone(),
        request_headers: policy.request_headers.clone(),
        response_headers: policy.response_headers.clone(),
        timeout_ms: policy.timeout_ms,
        body_limit: policy.body_limit,
        buffer_limit: policy.buffer_limit,
        integration,
    })
}

fn authorizer(
    view: &View<'_>,
    from: Referrer<'_>,
    authorization: &Authorization,
    problems: &mut Problems,
) -> Option<AuthorizerUse> {
    let Authorization::Authorizer { authorizer, scopes } = authorization else { return None };
    if let Err(unresolved) = resolve::<Authorizer>(view, from, &authorizer.key) {
        unresolved.report(&authorizer.field, problems);
    }
    Some(AuthorizerUse { part: authorizers::part_name(&authorizer.key), scopes: scopes.clone() })
}

fn upstream(
    view: &View<'_>,
    from: Referrer<'_>,
    ServicePort { service, port, port_field, tls }: &ServicePort,
    problems: &mut Problems,
    services: &mut BTreeSet<UpstreamId>,
) -> Option<PartName> {
    let key = &service.key;
    let found = match resolve::<Service>(view, from, key) {
        Ok(found) => found,
        Err(unresolved) => {
            unresolved.report(&service.field, problems);
            return None;
        }
    };
    if !upstreams::has_port(found, *port) {
        let why = format!("Service {key} has no TCP port {port}; its ports are: {}", upstreams::ports(found));
        problems.unresolved(reason::PORT_NOT_FOUND, port_field, why);
        return None;
    }
    if let Err(why) = upstreams::protocol(found, *port) {
        problems.unresolved(reason::UNSUPPORTED_PROTOCOL, port_field, format_args!("Service {key}: {why}"));
        return None;
    }
    let tls = match tls {
        Some(tls) => Some(service_tls(view, from, tls, problems)?),
        None => None,
    };
    let id = UpstreamId { service: key.clone(), port: *port, tls };
    let name = upstreams::part_name(&id);
    services.insert(id);
    Some(name)
}

fn service_tls(
    view: &View<'_>,
    from: Referrer<'_>,
    ServiceTls { hostname, ca }: &ServiceTls,
    problems: &mut Problems,
) -> Option<UpstreamTlsId> {
    let ca = match ca {
        None => None,
        Some(Authorities { kind, object, key }) => {
            let id = CaId { kind: *kind, object: object.key.clone(), key: key.clone() };
            if let Err(unresolved) = ca::permitted(view, from, &id) {
                unresolved.report(&object.field, problems);
                return None;
            }
            Some(id)
        }
    };
    Some(UpstreamTlsId { namespace: from.namespace().to_owned(), hostname: hostname.clone(), ca })
}
