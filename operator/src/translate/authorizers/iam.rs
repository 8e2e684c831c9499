//! Translates Authorizers of type Iam: which signatures are accepted. The keys that verify them are in the parts of Principals.

use sluice_crds::authorizer::{IamAuthorizer, SessionTokens, UnsignedPayload};
use sluice_wire::Iam;

use crate::fields;
use crate::problem::Problems;

const CLOCK_SKEW_S: std::ops::RangeInclusive<u64> = 1..=900;

pub(crate) fn iam(spec: &IamAuthorizer, problems: &mut Problems) -> Iam {
    if spec.regions.is_empty() {
        problems.invalid("spec.iam.regions", "at least one region is required");
    }
    for (field, scope) in spec.regions.iter().map(|region| ("regions", region)).chain([("service", &spec.service)]) {
        // It is a part of the credential scope, which slashes separate.
        if scope.is_empty() || !scope.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            problems.invalid(
                &format!("spec.iam.{field}"),
                format_args!("{scope:?} has other characters than a-z, 0-9 and -"),
            );
        }
    }
    let clock_skew_s = fields::whole_seconds("spec.iam.clockSkew", spec.clock_skew, problems);
    if !CLOCK_SKEW_S.contains(&clock_skew_s) {
        problems.invalid("spec.iam.clockSkew", "must be from 1s to 15m");
    }
    Iam {
        regions: spec.regions.clone(),
        service: spec.service.clone(),
        clock_skew_s,
        unsigned_payload: spec.unsigned_payload == UnsignedPayload::Allow,
        session_tokens: spec.session_tokens == SessionTokens::Allow,
    }
}
