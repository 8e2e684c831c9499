//! Warnings about ApiKeys and UsagePlans.

use sluice_crds::api_route::Rule;
use sluice_crds::field::ApiKeyRequirement;
use sluice_crds::warning::{KEY_WITHOUT_PLAN, THROTTLE_WITHOUT_KEY};
use sluice_crds::{ApiKey, ApiRoute, UsagePlan};

use crate::objects::{Kind, ObjectKey};
use crate::translate::references::{Referrer, resolve};
use crate::translate::view::View;
use crate::translate::warnings::shared::of_throttle;
use crate::warning::Warnings;

/// Warnings about a UsagePlan.
pub(crate) fn of_usage_plan(view: &View<'_>, key: &ObjectKey, plan: &UsagePlan, warnings: &mut Warnings) {
    of_throttle("spec.throttle", plan.spec.throttle, warnings);
    for (at, stage) in plan.spec.stages.iter().enumerate() {
        for (number, limit) in stage.throttles.iter().enumerate() {
            let field = format!("spec.stages[{at}].throttles[{number}]");
            of_throttle(&field, Some(limit.throttle), warnings);
            let route_key = key.target(&limit.route);
            let Ok(route) = resolve::<ApiRoute>(view, Referrer::new(Kind::UsagePlan, key), &route_key) else {
                continue;
            };
            let rule = route.spec.rules.iter().find(|rule| rule.name == limit.rule);
            let keyless = |rule: &&Rule| rule.api_key.unwrap_or(route.spec.api_key) == ApiKeyRequirement::None;
            if let Some(rule) = rule.filter(keyless) {
                let why = format!(
                    "the rule {} of ApiRoute {route_key} requires no API key, so the throttle has no effect. Set apiKey: Required \
                     in the rule, or throttle in the rule itself",
                    rule.name
                );
                warnings.add(THROTTLE_WITHOUT_KEY, &field, why);
            }
        }
    }
}

/// Warnings about an ApiKey.
pub(crate) fn of_api_key(key: &ApiKey, warnings: &mut Warnings) {
    if key.spec.enabled && key.spec.plans.is_empty() {
        let why = "the key is in no UsagePlan, so it is valid for no Stage and its requests are rejected with 403. List a \
                   UsagePlan";
        warnings.add(KEY_WITHOUT_PLAN, "spec.plans", why);
    }
}
