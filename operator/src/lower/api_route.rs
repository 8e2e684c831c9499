//! Lowers an ApiRoute.

use sluice_crds::ApiRoute;
use sluice_crds::api_route::{self as api, VersionScheme};
use sluice_wire::ApiVersion;

use crate::fields;
use crate::lower::api_rule::{self, Inherited};
use crate::lower::route::{Reference, Route};
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;

/// The routes of an ApiRoute.
pub(crate) fn api_route(key: &ObjectKey, route: &ApiRoute) -> Route {
    let mut problems = Problems::default();
    let inherited = Inherited::of(route);
    let stages = route
        .spec
        .stages
        .iter()
        .enumerate()
        .map(|(at, stage)| Reference { key: key.target(stage), field: format!("spec.stages[{at}].name") });
    Route {
        kind: Kind::ApiRoute,
        key: key.clone(),
        stages: stages.collect(),
        version: route.spec.version.as_ref().map(|written| version(written, &mut problems)),
        rules_field: "spec.rules",
        rules: (0..route.spec.rules.len()).filter_map(|at| api_rule::rule(key, route, &inherited, at)).collect(),
        problems,
    }
}

fn version(version: &api::ApiVersion, problems: &mut Problems) -> ApiVersion {
    let field = "spec.version.parameter";
    let parameter = version.parameter.as_deref();
    let scheme = match version.scheme {
        VersionScheme::Path => sluice_wire::VersionScheme::Path,
        VersionScheme::MediaType => sluice_wire::VersionScheme::MediaType,
        VersionScheme::Query => sluice_wire::VersionScheme::Query(parameter.unwrap_or("version").to_owned()),
        VersionScheme::Header => {
            let name = parameter.unwrap_or("x-api-version").to_ascii_lowercase();
            if let Err(why) = fields::header_name(&name) {
                problems.invalid(field, why);
            }
            sluice_wire::VersionScheme::Header(name)
        }
    };
    if version.parameter.is_some() && matches!(version.scheme, VersionScheme::Path | VersionScheme::MediaType) {
        problems.invalid(field, "it is allowed with scheme Header or Query only");
    }
    ApiVersion { name: version.name.clone(), scheme }
}
