//! Translates what a rule checks and does: resolves its references. A rule with any problem rejects its requests, so that no
//! problem makes an API more open than its author wrote it.

use std::collections::BTreeSet;

use sluice_crds::Authorizer;
use sluice_wire::{AuthorizerUse, Integration, RuleAction, RulePolicy};

use crate::lower::{self, Authorization, Policy};
use crate::problem::Problems;
use crate::translate::node::UpstreamId;
use crate::translate::references::{Referrer, resolve};
use crate::translate::view::View;
use crate::translate::{authorizers, service_ports, upstreams};

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
        lower::Integration::Service(port) => {
            let id = service_ports::resolve(view, from, port, problems)?;
            let name = upstreams::part_name(&id);
            services.insert(id);
            Integration::Service(name)
        }
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
