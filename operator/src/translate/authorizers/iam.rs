//! Translates Authorizers of type Iam: which signatures are accepted. The keys that verify them are in the parts of Principals.

use std::collections::BTreeSet;

use sluice_crds::Authorizer;
use sluice_crds::authorizer::{IamAuthorizer, UnsignedPayload};
use sluice_wire::{Iam, PartName};

use crate::fields;
use crate::objects::{ObjectKey, iam_authorizers_of};
use crate::problem::Problems;
use crate::translate::view::View;

const CLOCK_SKEW_S: std::ops::RangeInclusive<u64> = 1..=900;

pub(super) fn iam(spec: &IamAuthorizer, problems: &mut Problems) -> Iam {
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
    }
}

/// The Authorizers of type Iam in a namespace.
#[derive(Default)]
pub(crate) struct IamAuthorizers {
    /// Their parts.
    pub(crate) parts: Vec<PartName>,
    /// The regions and services of the credential scopes that they accept.
    pub(crate) scopes: BTreeSet<(String, String)>,
}

/// The valid Authorizers of type Iam in a namespace.
pub(crate) fn iam_authorizers(view: &View<'_>, namespace: &str) -> IamAuthorizers {
    let mut found = IamAuthorizers::default();
    for authorizer in view.group::<Authorizer>(&iam_authorizers_of(namespace)) {
        let mut problems = Problems::default();
        let Some(iam) = authorizer.spec.iam.as_ref().map(|spec| iam(spec, &mut problems)) else { continue };
        if problems.count() > 0 {
            continue;
        }
        found.parts.push(super::part_name(&ObjectKey::of(&**authorizer)));
        found.scopes.extend(iam.regions.into_iter().map(|region| (region, iam.service.clone())));
    }
    found
}
