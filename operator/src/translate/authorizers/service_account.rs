//! Translates authorizers of ServiceAccounts: the issuer of their tokens is the cluster's API server.

use std::collections::BTreeMap;

use sluice_crds::authorizer::ServiceAccountAuthorizer;
use sluice_crds::condition::reason;
use sluice_wire::{Algorithm, Issuer, Jwt, KeySource, ServiceAccount};

use super::token::{clock_skew, token_sources};
use crate::problem::Problems;
use crate::translate::view::View;

pub(super) fn service_account(
    view: &View<'_>,
    spec: &ServiceAccountAuthorizer,
    problems: &mut Problems,
) -> ServiceAccount {
    if spec.audiences.is_empty() {
        problems.invalid("spec.serviceAccount.audiences", "at least one audience is required");
    }
    let issuers = match view.issuer() {
        Ok(issuer) => vec![Issuer {
            issuer: issuer.issuer.clone(),
            audiences: spec.audiences.clone(),
            any_audience: false,
            keys: KeySource::Inline(issuer.keys.clone()),
        }],
        Err(why) => {
            let why = format!("cannot read the issuer of the cluster and its key set: {why}");
            problems.unresolved(reason::ISSUER_NOT_FOUND, "spec.serviceAccount", why);
            Vec::new()
        }
    };
    let tokens = Jwt {
        issuers,
        // Those that an API server signs with.
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::ES384],
        token_from: token_sources("spec.serviceAccount.tokenFrom", &spec.token_from, problems),
        clock_skew_s: clock_skew("spec.serviceAccount.clockSkew", spec.clock_skew, problems),
        required_claims: BTreeMap::new(),
        token_types: vec!["jwt".to_owned()],
    };
    ServiceAccount { tokens, access_reviews: spec.access_reviews }
}
