//! The result of translating one node, and its reduced form for a namespace that exceeds its configuration quota. Which
//! nodes are reduced is decided by `budget`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use sluice_crds::condition::{ACCEPTED, Status, reason};
use sluice_wire::{
    AuthorizerKind, AuthorizerPart, KeyEntry, ObjectRef, Part, PartBody, PartName, PlanPart, PrincipalPart, RoutePart,
    RuleAction, StagePart,
};

use crate::objects::ObjectKey;
use crate::translate::budget::{self, Cut};
use crate::translate::desired::{DesiredStatus, Detail, Served};
use crate::translate::fleets::Links;
use crate::translate::node::Node;

/// The result of translating a node.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) parts: Vec<Arc<Part>>,
    /// The links of the parts, also of those that are too long.
    pub(crate) links: Vec<(PartName, Links)>,
    pub(crate) status: Option<(ObjectRef, DesiredStatus)>,
    pub(crate) needs: BTreeSet<Node>,
    pub(crate) key: Option<KeyEntry>,
    pub(crate) rules: BTreeMap<ObjectKey, usize>,
    /// When the object was created.
    pub(crate) created: Option<(i64, i32)>,
    /// The size of the parts and of the key.
    pub(crate) weight: usize,
    /// The reduced parts; made when they are needed.
    closed: OnceLock<Vec<Arc<Part>>>,
}

impl Output {
    /// An output of parts alone.
    pub(crate) fn of(parts: Vec<Arc<Part>>) -> Self {
        let weight = parts.iter().map(|part| budget::weight(part)).sum();
        Self { parts, weight, ..Self::default() }
    }

    /// The reduced parts: they still match the same requests, and reject them. A part without a reduced form is unchanged.
    pub(crate) fn closed(&self) -> &[Arc<Part>] {
        self.closed.get_or_init(|| self.parts.iter().filter_map(|part| closed(part)).map(Arc::new).collect())
    }

    /// The parts that are published, and the status.
    pub(crate) fn after(&self, cut: Option<Cut>) -> (&[Arc<Part>], Option<(ObjectRef, DesiredStatus)>) {
        let Some(cut) = cut else { return (&self.parts, self.status.clone()) };
        let status = self.status.clone().map(|(object, desired)| (object, over_quota(desired)));
        (if cut == Cut::Closed { self.closed() } else { &[] }, status)
    }
}

fn over_quota(mut desired: DesiredStatus) -> DesiredStatus {
    let why = "The namespace exceeds its configuration quota, or its quota for API keys; this object is not served. Make \
               objects smaller or fewer.";
    if let Some(accepted) = desired.conditions.iter_mut().find(|condition| condition.type_ == ACCEPTED) {
        accepted.status = Status::False;
        accepted.reason = reason::QUOTA_EXCEEDED;
        accepted.message = why.to_owned();
    }
    desired.problems.push(reason::QUOTA_EXCEEDED);
    desired.served = Served::Nothing;
    match &mut desired.detail {
        Detail::ApiRoute { rules } => *rules = 0,
        Detail::Principal { access_key_ids, caller, .. } => {
            access_key_ids.clear();
            *caller = None;
        }
        Detail::None | Detail::Stage { .. } | Detail::ApiKey { .. } => {}
    }
    desired.stages = desired.stages.into_iter().map(|(stage, status)| (stage, over_quota(status))).collect();
    desired
}

/// The reduced form of a part, which matches the same requests and rejects them; none when it cannot be decoded.
pub(crate) fn closed(part: &Part) -> Option<Part> {
    let body = match part.decode().ok()? {
        PartBody::Route(route) => PartBody::Route(closed_route(route)),
        PartBody::Stage(stage) => PartBody::Stage(StagePart {
            client_auth: None,
            source: None,
            throttle: None,
            client_throttle: None,
            cache: None,
            cors: None,
            invalid: Some("too long".to_owned()),
            ..stage
        }),
        PartBody::Authorizer(AuthorizerPart { object, .. }) => PartBody::Authorizer(AuthorizerPart {
            object,
            kind: AuthorizerKind::Invalid { why: "too long".to_owned() },
        }),
        PartBody::Plan(PlanPart { object, .. }) => {
            PartBody::Plan(PlanPart { object, stages: Vec::new(), throttle: None })
        }
        PartBody::Principal(principal) => PartBody::Principal(PrincipalPart {
            tags: BTreeMap::new(),
            keys: Vec::new(),
            session_keys: Vec::new(),
            policies: Vec::new(),
            invalid: Some("too long".to_owned()),
            ..principal
        }),
        // These parts decide no match: the routes that refer to them are reduced.
        PartBody::Keys(_) | PartBody::Upstream(_) | PartBody::Certificate(_) => return Some(part.clone()),
    };
    Some(Part::new(part.name.clone(), &body))
}

fn closed_route(mut route: RoutePart) -> RoutePart {
    for rule in &mut route.rules {
        rule.action = RuleAction::Invalid { why: "too long".to_owned() };
    }
    route
}
