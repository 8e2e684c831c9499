//! Finds the Authorizers that accept the Principals of a namespace: those of type Iam in it.

use std::collections::BTreeSet;

use sluice_crds::Authorizer;
use sluice_wire::PartName;

use crate::objects::{ObjectKey, iam_authorizers_of};
use crate::problem::Problems;
use crate::translate::authorizers::{iam, part_name};
use crate::translate::view::View;

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
        found.parts.push(part_name(&ObjectKey::of(&**authorizer)));
        found.scopes.extend(iam.regions.into_iter().map(|region| (region, iam.service.clone())));
    }
    found
}
