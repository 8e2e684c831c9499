//! Translates UsagePlans to the stages that their keys open and the throttles of these keys. ApiKeys name their plans.

use sluice_crds::condition::reason;
use sluice_crds::{ApiRoute, Stage, UsagePlan};
use sluice_wire::{PartBody, PartKind, PartName, PlanPart, PlanStage, RuleThrottle};

use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::desired::Detail;
use crate::translate::kind::{Translate, Translated};
use crate::translate::stages;
use crate::translate::view::View;

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
}

/// The part. A plan whose own throttle cannot be used opens nothing, or its keys would be unlimited.
fn part(view: &View<'_>, key: &ObjectKey, plan: &UsagePlan, problems: &mut Problems) -> PartBody {
    let object = Kind::UsagePlan.object(key);
    let throttle = plan.spec.throttle.and_then(|limit| fields::throttle("spec.throttle", limit, problems));
    let unusable = plan.spec.throttle.is_some() && throttle.is_none();
    let mut opened: Vec<PlanStage> = Vec::new();
    for (at, stage) in plan.spec.stages.iter().enumerate() {
        let stage_key = ObjectKey::new(key.namespace.clone(), stage.name.clone());
        let field = format!("spec.stages[{at}]");
        let mut usable = !unusable;
        if view.get::<Stage>(&stage_key).is_none() {
            problems.unresolved(
                reason::STAGE_NOT_FOUND,
                &format!("{field}.name"),
                view.absence(Kind::Stage, &stage_key),
            );
            usable = false;
        }
        let mut throttles = Vec::new();
        for (at, limit) in stage.throttles.iter().enumerate() {
            let field = format!("{field}.throttles[{at}]");
            let bucket = fields::throttle(&field, limit.throttle, problems);
            match (rule(view, key, &limit.rule), bucket) {
                (Ok((route, rule)), Some(throttle)) => throttles.push(RuleThrottle { route, rule, throttle }),
                (Err(Unknown::Odd(why)), _) => problems.invalid(&format!("{field}.rule"), why),
                (Err(Unknown::Missing(why)), _) => {
                    problems.unresolved(reason::ROUTE_NOT_FOUND, &format!("{field}.rule"), why);
                }
                (Ok(_), None) => usable = false,
            }
        }
        let part = stages::part_name(&stage_key);
        if usable && !opened.iter().any(|earlier| earlier.stage == part) {
            opened.push(PlanStage { stage: part, throttles });
        }
    }
    PartBody::Plan(PlanPart { object, stages: opened, throttle })
}

/// Why a reference leads to no rule.
enum Unknown {
    /// It is none.
    Odd(String),
    /// There is no such rule.
    Missing(String),
}

fn rule(view: &View<'_>, key: &ObjectKey, reference: &str) -> Result<(String, String), Unknown> {
    let (route, rule) = reference.split_once('/').ok_or_else(|| {
        let example = "use the ApiRoute, a slash and the rule, for example orders/get-order";
        Unknown::Odd(format!("{reference:?} is not a rule reference: {example}"))
    })?;
    let route_key = ObjectKey::new(key.namespace.clone(), route);
    let found = view.get::<ApiRoute>(&route_key);
    let found = found.ok_or_else(|| Unknown::Missing(view.absence(Kind::ApiRoute, &route_key)))?;
    if !found.spec.rules.iter().any(|candidate| candidate.name == rule) {
        return Err(Unknown::Missing(format!("ApiRoute {route_key} has no rule {rule:?}")));
    }
    Ok((route.to_owned(), rule.to_owned()))
}
