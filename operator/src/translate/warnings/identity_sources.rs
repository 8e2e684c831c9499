//! Warnings about identity sources of Lambda authorizers that no request has.

use std::sync::Arc;

use sluice_crds::api_route::Authorization;
use sluice_crds::authorizer::ContextSource;
use sluice_crds::warning::IDENTITY_SOURCE_NEVER_PRESENT;
use sluice_crds::{Authorizer, Stage};
use sluice_wire::is_removed_from_requests;

use crate::objects::{Kind, ObjectKey};
use crate::translate::references::{Referrer, resolve};
use crate::translate::view::View;
use crate::warning::Warnings;

/// Warnings about the authorization of an ApiRoute, or of one of its rules, at the Stages that it attaches to.
pub(crate) fn of_authorization(
    view: &View<'_>,
    key: &ObjectKey,
    authorization: &Authorization,
    stages: &[(ObjectKey, &Arc<Stage>)],
    field: &str,
    warnings: &mut Warnings,
) {
    let Some(named) = &authorization.authorizer else { return };
    let found = resolve::<Authorizer>(view, Referrer::new(Kind::ApiRoute, key), &key.target(named));
    let Some(lambda) = found.ok().and_then(|found| found.spec.lambda.as_ref()) else { return };
    for source in &lambda.identity_sources {
        let header = source.header.as_deref().map(str::to_ascii_lowercase);
        let header = header.filter(|name| is_removed_from_requests(name));
        for (stage, found) in stages {
            let why = match &header {
                Some(name) if !found.spec.forward_client_headers.contains(name) => {
                    format!("the header {name}, which the proxy removes from requests of Stage {stage}")
                }
                None if source.context == Some(ContextSource::Certificate) && !asks_for_certificates(found) => {
                    format!(
                        "a client certificate, which requests of Stage {stage} do not have: it has no tls.clientAuth"
                    )
                }
                _ => continue,
            };
            let why = format!(
                "the Lambda authorizer needs {why}, so every request is rejected with 401. Name another identity source"
            );
            warnings.add(IDENTITY_SOURCE_NEVER_PRESENT, &format!("{field}.authorization.authorizer"), why);
        }
    }
}

fn asks_for_certificates(stage: &Stage) -> bool {
    stage.spec.tls.as_ref().is_some_and(|tls| tls.client_auth.is_some())
}
