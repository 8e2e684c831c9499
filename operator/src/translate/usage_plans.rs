//! Translates UsagePlans to the stages that their keys open and the throttles of these keys. ApiKeys name their plans.

use sluice_crds::condition::reason;
use sluice_crds::{ApiRoute, Stage, UsagePlan, usage_plan as api};
use sluice_wire::{PartBody, PartKind, PartName, PlanPart, PlanStage, RuleThrottle};

use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::desired::Detail;
use crate::translate::kind::{Translate, Translated};
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;
use crate::translate::warnings::keys;
use crate::translate::{routes, stages};
use crate::warning::Warnings;

/// The name of a UsagePlan's part.
pub(crate) fn part_name(key: &ObjectKey) -> PartName {
    PartName::of_object(PartKind::Plan, &key.namespace, &key.name)
}

impl Translate for UsagePlan {
    fn part_name(key: &ObjectKey) -> PartName {
        part_name(key)
    }

    fn translate(&self, view: &View<'_>, key: &ObjectKey, problems: &mut Problems) -> Translated {
        Translated::of([(part_name(key), part(view, key, self, problems))], Detail::None)
    }

    fn warnings(&self, view: &View<'_>, key: &ObjectKey, warnings: &mut Warnings) {
        keys::of_usage_plan(view, key, self, warnings);
    }
}

/// The part. A plan whose own throttle cannot be used opens nothing, or its keys would be unlimited.
fn part(view: &View<'_>, key: &ObjectKey, plan: &UsagePlan, problems: &mut Problems) -> PartBody {
    let object = Kind::UsagePlan.object(key);
    let throttle = plan.spec.throttle.and_then(|limit| fields::throttle("spec.throttle", limit, problems));
    let unusable = plan.spec.throttle.is_some() && throttle.is_none();
    let mut opened: Vec<PlanStage> = Vec::new();
    for (at, stage) in plan.spec.stages.iter().enumerate() {
        let field = format!("spec.stages[{at}]");
        let stage_key = key.target(&stage.stage);
        let resolved = resolve::<Stage>(view, Referrer::new(Kind::UsagePlan, key), &stage_key);
        if let Err(unresolved) = &resolved {
            unresolved.report(&format!("{field}.name"), problems);
        }
        let mut usable = !unusable;
        let mut throttles = Vec::new();
        for (at, limit) in stage.throttles.iter().enumerate() {
            let field = format!("{field}.throttles[{at}]");
            let bucket = fields::throttle(&field, limit.throttle, problems);
            match (rule(view, key, &field, limit), bucket) {
                (Ok((route, rule)), Some(throttle)) => throttles.push(RuleThrottle { route, rule, throttle }),
                (Err((field, unresolved)), _) => unresolved.report(&field, problems),
                (Ok(_), None) => usable = false,
            }
        }
        usable &= resolved.is_ok();
        let part = stages::part_name(&stage_key);
        if usable && !opened.iter().any(|earlier| earlier.stage == part) {
            opened.push(PlanStage { stage: part, throttles });
        }
    }
    PartBody::Plan(PlanPart { object, stages: opened, throttle })
}

/// The name of the ApiRoute's part and that of its rule; or the field that names what does not exist.
fn rule(
    view: &View<'_>,
    key: &ObjectKey,
    field: &str,
    limit: &api::RuleThrottle,
) -> Result<(PartName, String), (String, Unresolved)> {
    let route_key = key.target(&limit.route);
    let route = resolve::<ApiRoute>(view, Referrer::new(Kind::UsagePlan, key), &route_key)
        .map_err(|unresolved| (format!("{field}.route.name"), unresolved))?;
    if !route.spec.rules.iter().any(|rule| rule.name == limit.rule) {
        let why = format!("ApiRoute {route_key} has no rule {:?}", limit.rule);
        return Err((format!("{field}.rule"), Unresolved { reason: reason::RULE_NOT_FOUND, why }));
    }
    Ok((routes::part_name(&route_key), limit.rule.clone()))
}
