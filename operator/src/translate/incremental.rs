//! Incremental translation: the translator records what each node read, and translates again only the nodes that read
//! something that changed. The result always equals a translation from scratch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sluice_wire::{FleetName, KeyEntry, ObjectRef, Part, PartName};

use crate::cluster_state::ClusterState;
use crate::objects::{Kind, ObjectKey};
use crate::translate::budget::{self, Cut, Load};
use crate::translate::changes::ChangeTracker;
use crate::translate::conflicts::Claims;
use crate::translate::days::SigningDays;
use crate::translate::desired::{DesiredStatus, Detail, Served};
use crate::translate::fleets::Fleets;
use crate::translate::node::Node;
use crate::translate::object;
use crate::translate::output::Output;
use crate::translate::translation::Translation;
use crate::translate::view::{Source, View, days_source};
use crate::translate::{api_keys, stages, upstreams};

/// A translator that keeps the results of the last translation.
pub struct Translator {
    tracker: ChangeTracker,
    /// What each node read, and the reverse.
    reads: HashMap<Node, BTreeSet<Source>>,
    readers: HashMap<Source, BTreeSet<Node>>,
    claims: Claims,
    days: SigningDays,
    /// Whether the days changed since the last translation.
    days_changed: bool,
    outputs: HashMap<Node, Output>,
    /// The number of outputs that need a node that is not an object.
    needed: HashMap<Node, usize>,
    /// The ApiKeys with an entry, by shard.
    shards: BTreeMap<u8, BTreeSet<ObjectKey>>,
    /// The ApiKeys with an entry, by plan.
    plan_keys: HashMap<PartName, BTreeSet<ObjectKey>>,
    fleets: Fleets,
    /// The number of rules by Stage.
    rules: BTreeMap<ObjectKey, usize>,
    /// The size of all outputs.
    weight: usize,
    limits: SizeLimits,
    /// The outputs that exceed the limit of their shard, and all that exceed a limit.
    shard_cuts: BTreeMap<u8, BTreeMap<Node, Cut>>,
    cuts: BTreeMap<Node, Cut>,
    translation: Translation,
    translated: usize,
}

/// The sizes that proxies accept.
#[derive(Clone, Copy, Debug)]
struct SizeLimits {
    total: usize,
    shard: usize,
}

/// What is updated after objects were translated.
#[derive(Default)]
struct Stale {
    derived: BTreeSet<Node>,
    publish: BTreeSet<Node>,
    shards: BTreeSet<u8>,
    /// Parts that are new, changed, gone, or in other fleets than before. Not shards.
    parts: BTreeSet<PartName>,
    recount: BTreeSet<ObjectKey>,
}

impl Default for Translator {
    fn default() -> Self {
        Self::limited(budget::MAX_TOTAL, budget::MAX_SHARD)
    }
}

impl Translator {
    /// A translator of the empty state.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A translator with other limits than those of proxies: for all parts, and for the keys of one shard.
    #[must_use]
    pub fn limited(total: usize, shard: usize) -> Self {
        Self {
            tracker: ChangeTracker::default(),
            reads: HashMap::new(),
            readers: HashMap::new(),
            claims: Claims::default(),
            days: SigningDays::default(),
            days_changed: false,
            outputs: HashMap::new(),
            needed: HashMap::new(),
            shards: BTreeMap::new(),
            plan_keys: HashMap::new(),
            fleets: Fleets::default(),
            rules: BTreeMap::new(),
            weight: 0,
            limits: SizeLimits { total, shard },
            shard_cuts: BTreeMap::new(),
            cuts: BTreeMap::new(),
            translation: Translation::default(),
            translated: 0,
        }
    }

    /// Sets the days for which signing keys are derived. The next translation includes what depends on them.
    pub fn set_days(&mut self, days: SigningDays) {
        self.days_changed |= self.days != days;
        self.days = days;
    }

    /// The translator, with these days.
    #[must_use]
    pub fn with_days(mut self, days: SigningDays) -> Self {
        self.set_days(days);
        self
    }

    /// The number of nodes that the last call translated; the others were unchanged.
    #[must_use]
    pub fn translated(&self) -> usize {
        self.translated
    }

    /// Translates a cluster state.
    pub fn translate(&mut self, state: &ClusterState) -> Translation {
        self.update(state, None);
        self.translation.clone()
    }

    /// Translates a cluster state in which nothing but `among` changed since the last call; none when that affects no node. Most
    /// changes are statuses that the operator itself has written.
    pub fn translate_changed(
        &mut self,
        state: &ClusterState,
        among: &BTreeSet<(Kind, ObjectKey)>,
    ) -> Option<Translation> {
        (self.update(state, Some(among)) > 0).then(|| self.translation.clone())
    }

    /// Translates the nodes that are affected by changes, and returns their number.
    fn update(&mut self, state: &ClusterState, among: Option<&BTreeSet<Source>>) -> usize {
        let mut changed = self.tracker.catch_up(state, among);
        if std::mem::take(&mut self.days_changed) {
            changed.insert(days_source());
        }
        let mut dirty: BTreeSet<Node> = BTreeSet::new();
        for source in &changed {
            // A group of objects has no name.
            if source.0.is_own() && !source.1.name.is_empty() {
                dirty.insert(Node::Object(source.0, source.1.clone()));
            }
            dirty.extend(self.readers.get(source).into_iter().flatten().cloned());
        }
        self.reclaim(state, &mut dirty);
        let mut stale = Stale::default();
        self.translated = dirty.len();
        for node in dirty {
            match node {
                Node::Object(kind, key) => self.object(state, kind, key, &mut stale),
                other => drop(stale.derived.insert(other)),
            }
        }
        for node in std::mem::take(&mut stale.derived) {
            self.derived(state, node, &mut stale);
        }
        self.cut(&mut stale);
        self.follow(&mut stale);
        for node in std::mem::take(&mut stale.publish) {
            self.publish(&node, &mut stale.parts);
            if let Node::Object(Kind::Stage, key) = node {
                stale.recount.insert(key);
            }
        }
        for name in stale.parts {
            self.fleets.publish(&name, self.translation.parts.get(&name));
        }
        for shard in stale.shards {
            self.shard(shard);
        }
        self.translation.fleets.clone_from(self.fleets.configurations());
        for stage in stale.recount {
            self.recount(&stage);
        }
        self.translated
    }

    /// Updates the claims of changed objects. Objects that win or lose something by that are translated again, and with a Stage
    /// the routes that read it.
    fn reclaim(&mut self, state: &ClusterState, dirty: &mut BTreeSet<Node>) {
        let mut touched = BTreeSet::new();
        for node in dirty.iter() {
            let Node::Object(kind, key) = node else { continue };
            let view = View::new(state, &self.claims, self.days);
            // The reads are recorded by the translation, which reads the same.
            let now = object::claims(&view, state, *kind, key);
            touched.extend(self.claims.replace(&(*kind, key.clone()), now));
        }
        for (kind, key) in touched {
            let source = (kind, key);
            dirty.extend(self.readers.get(&source).into_iter().flatten().cloned());
            dirty.insert(Node::Object(source.0, source.1));
        }
    }

    fn object(&mut self, state: &ClusterState, kind: Kind, key: ObjectKey, stale: &mut Stale) {
        let view = View::new(state, &self.claims, self.days);
        let output = object::translate(&view, state, kind, &key);
        let reads = view.into_reads();
        let node = Node::Object(kind, key.clone());
        self.remember(&node, reads);
        let before = self.outputs.remove(&node).unwrap_or_default();
        let now = output.unwrap_or_default();
        self.need(&before, &now, stale);
        if kind == Kind::ApiKey && (before.key != now.key || before.created != now.created) {
            let shard = api_keys::shard_of(&key);
            self.replace_plans(&key, before.key.as_ref(), now.key.as_ref());
            let keys = self.shards.entry(shard).or_default();
            let _: bool = if now.key.is_some() { keys.insert(key.clone()) } else { keys.remove(&key) };
            stale.shards.insert(shard);
        }
        if before.rules != now.rules {
            for (stage, count) in &now.rules {
                *self.rules.entry(stage.clone()).or_default() += count;
            }
            for (stage, count) in &before.rules {
                if let Some(rules) = self.rules.get_mut(stage) {
                    *rules -= count;
                }
            }
            stale.recount.extend(before.rules.keys().chain(now.rules.keys()).cloned());
        }
        if let (Some((object, _)), None) = (&before.status, &now.status) {
            self.translation.statuses.remove(object);
        }
        let there = now.status.is_some();
        self.replace(node, &before, there.then_some(now), stale);
    }

    fn replace_plans(&mut self, key: &ObjectKey, before: Option<&KeyEntry>, now: Option<&KeyEntry>) {
        for plan in before.iter().flat_map(|entry| &entry.plans) {
            if let Some(keys) = self.plan_keys.get_mut(plan) {
                keys.remove(key);
                if keys.is_empty() {
                    self.plan_keys.remove(plan);
                }
            }
        }
        for plan in now.iter().flat_map(|entry| &entry.plans) {
            self.plan_keys.entry(plan.clone()).or_default().insert(key.clone());
        }
    }

    /// Finds what has to be published because its fleets changed.
    fn follow(&mut self, stale: &mut Stale) {
        for name in self.fleets.take_moved() {
            for key in self.plan_keys.get(&name).into_iter().flatten() {
                stale.shards.insert(api_keys::shard_of(key));
                stale.publish.insert(Node::Object(Kind::ApiKey, key.clone()));
            }
            let object = name.object();
            if let Some(kind) = Kind::OWN.iter().copied().find(|kind| kind.as_str() == &*object.kind) {
                stale.publish.insert(Node::Object(kind, ObjectKey::new(&*object.namespace, &*object.name)));
            }
            stale.parts.insert(name);
        }
    }

    /// The fleets whose proxies need an object.
    fn fleets_of(&self, output: &Output, object: &ObjectRef, parts: &BTreeSet<PartName>) -> BTreeSet<FleetName> {
        let own = parts.iter().filter(|part| part.object() == *object);
        let plans = output.key.iter().flat_map(|entry| &entry.plans);
        own.chain(plans).flat_map(|name| self.fleets.of(name)).cloned().collect()
    }

    /// Counts the outputs that need each node that is not an object.
    fn need(&mut self, before: &Output, now: &Output, stale: &mut Stale) {
        for need in before.needs.difference(&now.needs) {
            let count = self.needed.get_mut(need).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if count == 0 {
                self.needed.remove(need);
                stale.derived.insert(need.clone());
            }
        }
        for need in now.needs.difference(&before.needs) {
            *self.needed.entry(need.clone()).or_default() += 1;
            stale.derived.insert(need.clone());
        }
    }

    fn derived(&mut self, state: &ClusterState, node: Node, stale: &mut Stale) {
        let before = self.outputs.remove(&node).unwrap_or_default();
        if !self.needed.contains_key(&node) {
            self.remember(&node, BTreeSet::new());
            self.replace(node, &before, None, stale);
            return;
        }
        let view = View::new(state, &self.claims, self.days);
        let made = match &node {
            Node::Upstream(id) => upstreams::translate(&view, id).map(|body| (upstreams::part_name(id), body)),
            Node::Certificate(secret) => {
                stages::certificate_part(&view, secret).map(|body| (stages::certificate_name(secret), body))
            }
            Node::Object(..) => None,
        };
        let reads = view.into_reads();
        self.remember(&node, reads);
        let now = Output::of(made.map(|(name, body)| Arc::new(Part::new(name, &body))).into_iter().collect());
        self.replace(node, &before, Some(now), stale);
    }

    /// Replaces an output. Its parts are published when the cuts are known.
    fn replace(&mut self, node: Node, before: &Output, now: Option<Output>, stale: &mut Stale) {
        for part in &before.parts {
            self.translation.parts.remove(&part.name);
            stale.parts.insert(part.name.clone());
        }
        self.weight -= before.weight;
        let links = now.as_ref().map(|now| now.links.as_slice()).unwrap_or_default();
        for (name, links) in links {
            self.fleets.link(name, Some(links.clone()));
        }
        for (name, _) in before.links.iter().filter(|(name, _)| !links.iter().any(|(kept, _)| kept == name)) {
            self.fleets.link(name, None);
        }
        if let Some(now) = now {
            self.weight += now.weight;
            stale.publish.insert(node.clone());
            self.outputs.insert(node, now);
        }
    }

    /// Determines the outputs that exceed the limits.
    fn cut(&mut self, stale: &mut Stale) {
        for shard in &stale.shards {
            let cuts = self.cuts_of_shard(*shard);
            if cuts.is_empty() {
                self.shard_cuts.remove(shard)
            } else {
                self.shard_cuts.insert(*shard, cuts)
            };
        }
        let mut cuts = BTreeMap::new();
        if self.weight > self.limits.total {
            let mut namespaces: BTreeMap<&str, Vec<Load<'_>>> = BTreeMap::new();
            for (node, output) in &self.outputs {
                namespaces.entry(node.namespace()).or_default().push(load(node, output));
            }
            cuts = budget::cut(self.limits.total, namespaces);
        }
        for (node, cut) in self.shard_cuts.values().flatten() {
            cuts.entry(node.clone()).or_insert(*cut);
        }
        if cuts.is_empty() && self.cuts.is_empty() {
            return;
        }
        let nodes = self.cuts.keys().chain(cuts.keys());
        for node in nodes.filter(|node| self.cuts.get(*node) != cuts.get(*node)) {
            if let Node::Object(Kind::ApiKey, key) = node {
                stale.shards.insert(api_keys::shard_of(key));
            }
            stale.publish.insert(node.clone());
        }
        self.cuts = cuts;
    }

    fn cuts_of_shard(&self, shard: u8) -> BTreeMap<Node, Cut> {
        let nodes: Vec<Node> = self.keys(shard).map(|key| Node::Object(Kind::ApiKey, key.clone())).collect();
        let mut namespaces: BTreeMap<&str, Vec<Load<'_>>> = BTreeMap::new();
        for node in &nodes {
            let output = self.outputs.get(node);
            namespaces.entry(node.namespace()).or_default().extend(output.map(|output| load(node, output)));
        }
        budget::cut(self.limits.shard, namespaces)
    }

    fn keys(&self, shard: u8) -> impl Iterator<Item = &ObjectKey> {
        self.shards.get(&shard).into_iter().flatten()
    }

    /// Adds the parts and the status of an output to the translation, reduced by its cut.
    fn publish(&mut self, node: &Node, stale: &mut BTreeSet<PartName>) {
        let Some(output) = self.outputs.get(node) else { return };
        let (parts, status) = output.after(self.cuts.get(node).copied());
        for part in &output.parts {
            self.translation.parts.remove(&part.name);
            stale.insert(part.name.clone());
        }
        self.translation.parts.extend(parts.iter().map(|part| (part.name.clone(), part.clone())));
        let Some((object, mut desired)) = status else { return };
        desired.fleets = self.fleets_of(output, &object, &desired.parts);
        // Not those of a Stage that does not accept the route: they belong to another namespace.
        for (stage, status) in desired.stages.iter_mut().filter(|(_, status)| status.served == Served::Yes) {
            status.fleets = self.fleets.of(&stages::part_name(stage)).cloned().collect();
        }
        let before = self.translation.statuses.get(&object);
        if before.is_none_or(|before| **before != desired) {
            self.translation.statuses.insert(object, Arc::new(desired));
        }
    }

    fn shard(&mut self, shard: u8) {
        let name = api_keys::shard_name(shard);
        let entry = |key: &ObjectKey| -> Option<&KeyEntry> {
            let node = Node::Object(Kind::ApiKey, key.clone());
            self.outputs.get(&node).filter(|_| !self.cuts.contains_key(&node))?.key.as_ref()
        };
        let entries: Vec<&KeyEntry> = self.keys(shard).filter_map(entry).collect();
        let mut by_fleet: BTreeMap<&FleetName, Vec<&KeyEntry>> = BTreeMap::new();
        for entry in &entries {
            let fleets: BTreeSet<&FleetName> = entry.plans.iter().flat_map(|plan| self.fleets.of(plan)).collect();
            fleets.into_iter().for_each(|fleet| by_fleet.entry(fleet).or_default().push(*entry));
        }
        let part = |entries: &[&KeyEntry]| {
            let body = api_keys::shard_part(entries.iter().copied().cloned().collect())?;
            Some(Arc::new(Part::new(name.clone(), &body)))
        };
        let whole = part(&entries);
        let parts = by_fleet.into_iter().filter_map(|(fleet, of_fleet)| {
            let part = if of_fleet.len() == entries.len() { whole.clone() } else { part(&of_fleet) };
            Some((fleet.clone(), part?))
        });
        let parts = parts.collect();
        self.fleets.publish_each(&name, parts);
        match whole {
            Some(part) => drop(self.translation.parts.insert(name, part)),
            None => drop(self.translation.parts.remove(&name)),
        }
    }

    fn recount(&mut self, stage: &ObjectKey) {
        let count = self.rules.get(stage).copied().unwrap_or_default();
        if count == 0 {
            self.rules.remove(stage);
        }
        let object = Kind::Stage.object(stage);
        if let Some(desired) = self.translation.statuses.get(&object)
            && matches!(desired.detail, Detail::Stage { rules, .. } if rules != count)
        {
            let mut now = DesiredStatus::clone(desired);
            if let Detail::Stage { rules, .. } = &mut now.detail {
                *rules = count;
            }
            self.translation.statuses.insert(object, Arc::new(now));
        }
    }

    fn remember(&mut self, node: &Node, reads: BTreeSet<Source>) {
        let before = self.reads.remove(node).unwrap_or_default();
        for source in before.difference(&reads) {
            if let Some(readers) = self.readers.get_mut(source) {
                readers.remove(node);
                if readers.is_empty() {
                    self.readers.remove(source);
                }
            }
        }
        for source in reads.difference(&before) {
            self.readers.entry(source.clone()).or_default().insert(node.clone());
        }
        if !reads.is_empty() {
            self.reads.insert(node.clone(), reads);
        }
    }
}

fn load<'a>(node: &'a Node, output: &Output) -> Load<'a> {
    let closed = output.closed().iter().map(|part| budget::weight(part)).sum();
    Load { node, created: output.created, full: output.weight, closed }
}
