//! What the translation of each kind of object provides. One file of this directory implements it per kind.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use sluice_wire::{FleetName, KeyEntry, PartBody, PartName};

use crate::cluster_state::Stored;
use crate::objects::{ObjectKey, Own, Unparsable};
use crate::problem::Problems;
use crate::translate::conflicts::{Claim, Since};
use crate::translate::desired::Detail;
use crate::translate::node::Node;
use crate::translate::view::View;
use crate::warning::Warnings;

/// A kind that is translated and whose status is reported.
pub(crate) trait Translate: Stored + Own {
    /// What only one object can have, and this one wants. It may read only what [`Self::translate`] reads as well: these
    /// reads decide when it is asked again.
    fn claims(&self, _view: &View<'_>, _key: &ObjectKey) -> BTreeSet<Claim> {
        BTreeSet::new()
    }

    /// What an object that cannot be parsed keeps.
    fn claims_of_unparsable(_object: &Unparsable) -> BTreeSet<Claim> {
        BTreeSet::new()
    }

    /// Since when the object claims something, as its status records it.
    fn since(&self, _claim: &Claim) -> Since {
        Since::Unrecorded
    }

    /// The same for an object that cannot be parsed.
    fn since_of_unparsable(_object: &Unparsable, _claim: &Claim) -> Since {
        Since::Unrecorded
    }

    /// The part of an object that cannot be parsed, which serves nothing.
    fn translate_unparsable(_view: &View<'_>, _key: &ObjectKey, _object: &Unparsable) -> Option<Translated> {
        None
    }

    /// The part that an object of this kind has, or is in. A proxy that still has a part of that name runs an earlier
    /// generation of an object that has no parts now.
    fn part_name(key: &ObjectKey) -> PartName;

    /// The parts of the object, and the fields of its status. With a problem, the affected rules, keys or hosts reject requests.
    fn translate(&self, view: &View<'_>, key: &ObjectKey, problems: &mut Problems) -> Translated;

    /// What is valid, but probably not what was meant.
    fn warnings(&self, _view: &View<'_>, _key: &ObjectKey, _warnings: &mut Warnings) {}

    /// The members that the status of this kind has besides conditions and generation, as they should be. `proxies` is the
    /// number of proxies that serve the object, `now` the time that is recorded for new claims.
    fn desired_detail(_detail: &Detail, _proxies: Value, _now: Timestamp) -> Value {
        Value::Null
    }

    /// The conditions that the status of a route has now, by Stage.
    fn present_stages(&self) -> Vec<(ObjectKey, Vec<Condition>)> {
        Vec::new()
    }

    /// The members of [`Self::desired_detail`], as the status has them now.
    fn present_detail(&self) -> Value {
        Value::Null
    }
}

/// A route at one of the Stages that it names.
pub(crate) struct AtStage {
    pub(crate) stage: ObjectKey,
    /// The problems of the route, and those that it has at this Stage only.
    pub(crate) problems: Problems,
    /// The part with the rules that the Stage serves; none when it serves none.
    pub(crate) part: Option<PartName>,
}

/// The result of translating an object.
pub(crate) struct Translated {
    /// Its parts.
    pub(crate) parts: Vec<(PartName, PartBody)>,
    /// Nodes whose parts its own parts refer to.
    pub(crate) needs: BTreeSet<Node>,
    /// Names of parts of others that a proxy must have in their current form to run this object.
    pub(crate) relies_on: BTreeSet<PartName>,
    /// Its entry in a shard of keys.
    pub(crate) key: Option<KeyEntry>,
    /// The number of rules by the Stage that serves them.
    pub(crate) rules: BTreeMap<ObjectKey, usize>,
    /// Of a route: the Stages that it names.
    pub(crate) stages: Vec<AtStage>,
    /// Of a Stage: the fleet that serves it.
    pub(crate) fleet: Option<FleetName>,
    /// The parts serve nothing: they only keep requests from the parts of others.
    pub(crate) closed: bool,
    /// The fields of its status besides conditions.
    pub(crate) detail: Detail,
}

impl Translated {
    /// A translation to these parts, with that detail.
    pub(crate) fn of(parts: impl IntoIterator<Item = (PartName, PartBody)>, detail: Detail) -> Self {
        Self {
            parts: parts.into_iter().collect(),
            needs: BTreeSet::new(),
            relies_on: BTreeSet::new(),
            key: None,
            rules: BTreeMap::new(),
            stages: Vec::new(),
            fleet: None,
            closed: false,
            detail,
        }
    }
}
