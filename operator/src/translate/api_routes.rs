//! Translates ApiRoutes: they are lowered to the form of all routes, which `routes` translates.

use std::collections::BTreeSet;

use sluice_crds::ApiRoute;
use sluice_wire::PartName;

use crate::lower;
use crate::objects::ObjectKey;
use crate::problem::Problems;
use crate::translate::conflicts::Claim;
use crate::translate::kind::{Translate, Translated};
use crate::translate::routes;
use crate::translate::view::View;

impl Translate for ApiRoute {
    fn claims(&self, view: &View<'_>, key: &ObjectKey) -> BTreeSet<Claim> {
        routes::claims(view, &lower::api_route(key, self))
    }

    fn part_name(key: &ObjectKey) -> PartName {
        routes::part_name(key)
    }

    fn translate(&self, view: &View<'_>, key: &ObjectKey, problems: &mut Problems) -> Translated {
        routes::translate(view, &lower::api_route(key, self), problems)
    }
}
