//! Translates Cognito user pools to issuers: their tokens are JSON Web Tokens.

use std::collections::BTreeSet;

use sluice_crds::authorizer::CognitoAuthorizer;
use sluice_wire::{Algorithm, Issuer, Jwt, default_token_types};

use super::keys::keys;
use super::token::{clock_skew, token_sources};
use crate::objects::ObjectKey;
use crate::problem::Problems;
use crate::translate::view::View;

pub(super) fn cognito(view: &View<'_>, key: &ObjectKey, spec: &CognitoAuthorizer, problems: &mut Problems) -> Jwt {
    if spec.user_pools.is_empty() {
        problems.invalid("spec.cognito.userPools", "at least one user pool is required");
    }
    let (mut issuers, mut seen) = (Vec::new(), BTreeSet::new());
    for (at, pool) in spec.user_pools.iter().enumerate() {
        let field = format!("spec.cognito.userPools[{at}]");
        let issuer = pool.as_issuer();
        if !seen.insert(issuer.issuer.clone()) {
            problems.invalid(&field, format_args!("the issuer {:?} is listed twice", issuer.issuer));
        }
        if issuer.audiences.is_empty() != issuer.any_audience {
            problems.invalid(&field, "either clientIds with at least one entry, or anyClient: true, is required");
        }
        let keys = keys(view, key, &field, &issuer, problems);
        issuers.push(Issuer {
            issuer: issuer.issuer,
            audiences: issuer.audiences,
            any_audience: issuer.any_audience,
            keys,
        });
    }
    Jwt {
        issuers,
        // Cognito signs with the first; servers that are compatible with it also with the second.
        algorithms: vec![Algorithm::RS256, Algorithm::ES256],
        token_from: token_sources("spec.cognito.tokenFrom", &spec.token_from, problems),
        clock_skew_s: clock_skew("spec.cognito.clockSkew", spec.clock_skew, problems),
        required_claims: spec.required_claims.clone(),
        token_types: default_token_types(),
    }
}
