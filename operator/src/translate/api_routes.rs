//! Translates ApiRoutes: they are lowered to the form of all routes, which `routes` translates.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sluice_crds::ApiRoute;
use sluice_crds::api_route::RouteStageStatus;
use sluice_wire::PartName;

use crate::lower;
use crate::objects::ObjectKey;
use crate::problem::Problems;
use crate::translate::conflicts::Claim;
use crate::translate::desired::Detail;
use crate::translate::kind::{Translate, Translated};
use crate::translate::routes;
use crate::translate::view::View;
use crate::translate::warnings::api_routes;
use crate::warning::Warnings;

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

    fn warnings(&self, view: &View<'_>, key: &ObjectKey, warnings: &mut Warnings) {
        api_routes::of_api_route(view, key, self, warnings);
    }

    fn desired_detail(detail: &Detail, _proxies: Value, _now: Timestamp) -> Value {
        let Detail::ApiRoute { rules } = detail else { return Value::Null };
        json!({"rules": i32::try_from(*rules).unwrap_or(i32::MAX)})
    }

    fn present_detail(&self) -> Value {
        json!({"rules": self.status.as_ref().and_then(|status| status.rules)})
    }

    fn present_stages(&self) -> Vec<(ObjectKey, Vec<Condition>)> {
        let own = ObjectKey::of(self).namespace;
        let stages = self.status.iter().flat_map(|status| &status.stages);
        let namespace = |stage: &RouteStageStatus| stage.namespace.clone().unwrap_or_else(|| own.clone());
        stages.map(|stage| (ObjectKey::new(namespace(stage), &stage.name), stage.conditions.clone())).collect()
    }
}
