//! Translation whose cost follows the change: what an object was translated from is remembered, and only objects that
//! looked at something that changed are translated again. The result always equals a translation from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_wire::{KeyEntry, Part};

use crate::translate::budget::{self, Cut, Load};
use crate::translate::changes::Seen;
use crate::translate::conflicts::Claims;
use crate::translate::references::{Source, View};
use crate::translate::unit::{self, Output, Unit};
use crate::translate::{Detail, Translation, Wanted, api_keys, stages, upstreams};
use crate::world::{Kind, ObjectKey, World};

/// A translator that remembers.
pub struct Translator {
    seen: Seen,
    reads: BTreeMap<Unit, BTreeSet<Source>>,
    readers: BTreeMap<Source, BTreeSet<Unit>>,
    claims: Claims,
    outputs: BTreeMap<Unit, Output>,
    needed: BTreeMap<Unit, usize>,
    /// The ApiKeys with an entry.
    shards: BTreeMap<u8, BTreeSet<ObjectKey>>,
    rules: BTreeMap<ObjectKey, BTreeMap<ObjectKey, usize>>,
    /// What all outputs weigh together.
    weight: usize,
    limits: Limits,
    shard_cuts: BTreeMap<u8, BTreeMap<Unit, Cut>>,
    cuts: BTreeMap<Unit, Cut>,
    translation: Translation,
    translated: usize,
}

/// How much configuration proxies take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    total: usize,
    shard: usize,
}

/// What has to be brought up to date after objects were translated.
#[derive(Default)]
struct Stale {
    derived: BTreeSet<Unit>,
    publish: BTreeSet<Unit>,
    shards: BTreeSet<u8>,
    recount: BTreeSet<ObjectKey>,
}

impl Default for Translator {
    fn default() -> Self {
        Self::limited(budget::MAX_TOTAL, budget::MAX_SHARD)
    }
}

impl Translator {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One with other limits than proxies have: for all parts, and for the keys of one shard.
    #[must_use]
    pub fn limited(total: usize, shard: usize) -> Self {
        Self {
            seen: Seen::default(),
            reads: BTreeMap::new(),
            readers: BTreeMap::new(),
            claims: Claims::default(),
            outputs: BTreeMap::new(),
            needed: BTreeMap::new(),
            shards: BTreeMap::new(),
            rules: BTreeMap::new(),
            weight: 0,
            limits: Limits { total, shard },
            shard_cuts: BTreeMap::new(),
            cuts: BTreeMap::new(),
            translation: Translation::default(),
            translated: 0,
        }
    }

    /// How many objects the last call translated: the rest was remembered.
    #[must_use]
    pub fn translated(&self) -> usize {
        self.translated
    }

    /// What the world leads to.
    pub fn translate(&mut self, world: &World) -> Translation {
        self.update(world, None);
        self.translation.clone()
    }

    /// What the world leads to when nothing but `among` changed since the last call, unless that is what it led to before:
    /// most changes are our own statuses coming back.
    pub fn translate_changed(&mut self, world: &World, among: &BTreeSet<(Kind, ObjectKey)>) -> Option<Translation> {
        (self.update(world, Some(among)) > 0).then(|| self.translation.clone())
    }

    /// Translates what changed and returns how much that was.
    fn update(&mut self, world: &World, among: Option<&BTreeSet<Source>>) -> usize {
        let changed = self.seen.catch_up(world, among);
        let mut dirty: BTreeSet<Unit> = BTreeSet::new();
        for source in &changed {
            if Kind::OURS.contains(&source.0) {
                dirty.insert(Unit::Object(source.0, source.1.clone()));
            }
            dirty.extend(self.readers.get(source).into_iter().flatten().cloned());
        }
        self.reclaim(world, &mut dirty);
        let mut stale = Stale::default();
        self.translated = dirty.len();
        for unit in dirty {
            match unit {
                Unit::Object(kind, key) => self.object(world, kind, key, &mut stale),
                other => drop(stale.derived.insert(other)),
            }
        }
        for unit in std::mem::take(&mut stale.derived) {
            self.derived(world, unit, &mut stale);
        }
        self.cut(&mut stale);
        for unit in stale.publish {
            self.publish(&unit);
            if let Unit::Object(Kind::Stage, key) = unit {
                stale.recount.insert(key);
            }
        }
        for shard in stale.shards {
            self.shard(shard);
        }
        for stage in stale.recount {
            self.recount(&stage);
        }
        self.translated
    }

    /// Brings the claims of changed objects up to date; whoever wins or loses something by that becomes dirty, and with
    /// a Stage the routes that looked at it.
    fn reclaim(&mut self, world: &World, dirty: &mut BTreeSet<Unit>) {
        let mut touched = BTreeSet::new();
        for unit in dirty.iter() {
            let Unit::Object(kind, key) = unit else { continue };
            let view = View::new(world, &self.claims);
            let now = unit::claims_of(&view, world, *kind, key);
            // Reads are kept by the translation, which claims again.
            touched.extend(self.claims.replace(&(*kind, key.clone()), now));
        }
        for (kind, key) in touched {
            let source = (kind, key);
            dirty.extend(self.readers.get(&source).into_iter().flatten().cloned());
            dirty.insert(Unit::Object(source.0, source.1));
        }
    }

    fn object(&mut self, world: &World, kind: Kind, key: ObjectKey, stale: &mut Stale) {
        let view = View::new(world, &self.claims);
        drop(unit::claims_of(&view, world, kind, &key));
        let output = unit::object(&view, world, kind, &key);
        let reads = view.into_reads();
        let unit = Unit::Object(kind, key.clone());
        self.remember(&unit, reads);
        let before = self.outputs.remove(&unit).unwrap_or_default();
        let now = output.unwrap_or_default();
        self.need(&before, &now, stale);
        if kind == Kind::ApiKey && (before.key != now.key || before.created != now.created) {
            let shard = api_keys::shard_of(&key);
            let keys = self.shards.entry(shard).or_default();
            let _: bool = if now.key.is_some() { keys.insert(key.clone()) } else { keys.remove(&key) };
            stale.shards.insert(shard);
        }
        if before.rules != now.rules {
            for stage in before.rules.keys() {
                if let Some(rules) = self.rules.get_mut(stage) {
                    rules.remove(&key);
                }
            }
            for (stage, count) in &now.rules {
                self.rules.entry(stage.clone()).or_default().insert(key.clone(), *count);
            }
            stale.recount.extend(before.rules.keys().chain(now.rules.keys()).cloned());
        }
        if let (Some((object, _)), None) = (&before.status, &now.status) {
            self.translation.statuses.remove(object);
        }
        let there = now.status.is_some();
        self.replace(unit, &before, there.then_some(now), stale);
    }

    /// Counts who needs what is not an object.
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

    fn derived(&mut self, world: &World, unit: Unit, stale: &mut Stale) {
        let before = self.outputs.remove(&unit).unwrap_or_default();
        if !self.needed.contains_key(&unit) {
            self.remember(&unit, BTreeSet::new());
            self.replace(unit, &before, None, stale);
            return;
        }
        let view = View::new(world, &self.claims);
        let made = match &unit {
            Unit::Upstream(service, port) => {
                upstreams::translate(&view, service, *port).map(|body| (upstreams::part_name(service, *port), body))
            }
            Unit::Certificate(secret) => {
                stages::certificate_part(&view, secret).map(|body| (stages::certificate_name(secret), body))
            }
            Unit::Object(..) => None,
        };
        let reads = view.into_reads();
        self.remember(&unit, reads);
        let now = Output::of(made.map(|(name, body)| Arc::new(Part::new(name, &body))).into_iter().collect());
        self.replace(unit, &before, Some(now), stale);
    }

    /// Puts an output in the place of another; its parts are published when it is known what fits.
    fn replace(&mut self, unit: Unit, before: &Output, now: Option<Output>, stale: &mut Stale) {
        for part in &before.parts {
            self.translation.parts.remove(&part.name);
        }
        self.weight -= before.weight;
        if let Some(now) = now {
            self.weight += now.weight;
            stale.publish.insert(unit.clone());
            self.outputs.insert(unit, now);
        }
    }

    /// Finds out what does not fit.
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
            for (unit, output) in &self.outputs {
                namespaces.entry(unit.namespace()).or_default().push(load(unit, output));
            }
            cuts = budget::cut(self.limits.total, namespaces);
        }
        for (unit, cut) in self.shard_cuts.values().flatten() {
            cuts.entry(unit.clone()).or_insert(*cut);
        }
        if cuts.is_empty() && self.cuts.is_empty() {
            return;
        }
        let units = self.cuts.keys().chain(cuts.keys());
        for unit in units.filter(|unit| self.cuts.get(*unit) != cuts.get(*unit)) {
            if let Unit::Object(Kind::ApiKey, key) = unit {
                stale.shards.insert(api_keys::shard_of(key));
            }
            stale.publish.insert(unit.clone());
        }
        self.cuts = cuts;
    }

    fn cuts_of_shard(&self, shard: u8) -> BTreeMap<Unit, Cut> {
        let units: Vec<Unit> = self.keys(shard).map(|key| Unit::Object(Kind::ApiKey, key.clone())).collect();
        let mut namespaces: BTreeMap<&str, Vec<Load<'_>>> = BTreeMap::new();
        for unit in &units {
            let output = self.outputs.get(unit);
            namespaces.entry(unit.namespace()).or_default().extend(output.map(|output| load(unit, output)));
        }
        budget::cut(self.limits.shard, namespaces)
    }

    fn keys(&self, shard: u8) -> impl Iterator<Item = &ObjectKey> {
        self.shards.get(&shard).into_iter().flatten()
    }

    /// Publishes what of an output may be published.
    fn publish(&mut self, unit: &Unit) {
        let Some(output) = self.outputs.get(unit) else { return };
        let (parts, status) = output.after(self.cuts.get(unit).copied());
        for part in &output.parts {
            self.translation.parts.remove(&part.name);
        }
        self.translation.parts.extend(parts.iter().map(|part| (part.name.clone(), part.clone())));
        let Some((object, wanted)) = status else { return };
        let said = self.translation.statuses.get(&object);
        if said.is_none_or(|said| **said != wanted) {
            self.translation.statuses.insert(object, Arc::new(wanted));
        }
    }

    fn shard(&mut self, shard: u8) {
        let name = api_keys::shard_name(shard);
        let entry = |key: &ObjectKey| -> Option<KeyEntry> {
            let unit = Unit::Object(Kind::ApiKey, key.clone());
            self.outputs.get(&unit).filter(|_| !self.cuts.contains_key(&unit))?.key.clone()
        };
        match api_keys::shard_part(self.keys(shard).filter_map(entry).collect()) {
            Some(body) => drop(self.translation.parts.insert(name.clone(), Arc::new(Part::new(name, &body)))),
            None => drop(self.translation.parts.remove(&name)),
        }
    }

    fn recount(&mut self, stage: &ObjectKey) {
        if self.rules.get(stage).is_some_and(BTreeMap::is_empty) {
            self.rules.remove(stage);
        }
        let count = self.rules.get(stage).map_or(0, |rules| rules.values().sum());
        if let Some(wanted) = self.translation.statuses.get_mut(&Kind::Stage.object(stage))
            && wanted.detail != (Detail::Stage { routes: count })
        {
            let mut now = Wanted::clone(wanted);
            now.detail = Detail::Stage { routes: count };
            *wanted = Arc::new(now);
        }
    }

    fn remember(&mut self, unit: &Unit, reads: BTreeSet<Source>) {
        let before = self.reads.remove(unit).unwrap_or_default();
        for source in before.difference(&reads) {
            if let Some(readers) = self.readers.get_mut(source) {
                readers.remove(unit);
                if readers.is_empty() {
                    self.readers.remove(source);
                }
            }
        }
        for source in reads.difference(&before) {
            self.readers.entry(source.clone()).or_default().insert(unit.clone());
        }
        if !reads.is_empty() {
            self.reads.insert(unit.clone(), reads);
        }
    }
}

fn load<'a>(unit: &'a Unit, output: &Output) -> Load<'a> {
    let closed = output.closed().iter().map(|part| budget::weight(part)).sum();
    Load { unit, created: output.created, full: output.weight, closed }
}
