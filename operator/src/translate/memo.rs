//! Translation whose cost follows the change: what an object was translated from is remembered, and only objects that
//! looked at something that changed are translated again. The result always equals a translation from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_crds::condition::{self, ACCEPTED, RESOLVED_REFS, Status, reason};
use sluice_wire::{KeyEntry, MAX_PART_BYTES, ObjectRef, Part, PartBody, PartName};

use crate::translate::conflicts::{Claim, Claimant, Claims};
use crate::translate::problem::Problems;
use crate::translate::references::{Source, View};
use crate::translate::{
    Detail, Served, Translation, Wanted, api_keys, authorizers, routes, stages, upstreams, usage_plans,
};
use crate::world::{Kind, ObjectKey, World};

/// Something that is translated for itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    Object(Kind, ObjectKey),
    Upstream(ObjectKey, u16),
    Certificate(ObjectKey),
}

/// What a unit leads to.
#[derive(Default)]
struct Output {
    parts: Vec<Arc<Part>>,
    status: Option<(ObjectRef, Wanted)>,
    needs: BTreeSet<Unit>,
    key: Option<KeyEntry>,
    rules: BTreeMap<ObjectKey, usize>,
}

/// A translator that remembers.
#[derive(Default)]
pub struct Translator {
    seen: World,
    reads: BTreeMap<Unit, BTreeSet<Source>>,
    readers: BTreeMap<Source, BTreeSet<Unit>>,
    claims: Claims,
    outputs: BTreeMap<Unit, Output>,
    needed: BTreeMap<Unit, usize>,
    shards: BTreeMap<u8, BTreeMap<ObjectKey, KeyEntry>>,
    rules: BTreeMap<ObjectKey, BTreeMap<ObjectKey, usize>>,
    translation: Translation,
    translated: usize,
}

impl Translator {
    /// One that has seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many objects the last call translated: the rest was remembered.
    #[must_use]
    pub fn translated(&self) -> usize {
        self.translated
    }

    /// What the world leads to.
    pub fn translate(&mut self, world: &World) -> Translation {
        self.update(world);
        self.translation.clone()
    }

    /// What the world leads to, unless that is what it led to before: most changes are our own statuses coming back.
    pub fn translate_changed(&mut self, world: &World) -> Option<Translation> {
        (self.update(world) > 0).then(|| self.translation.clone())
    }

    /// Translates what changed and returns how much that was.
    fn update(&mut self, world: &World) -> usize {
        let changed = changes(&mut self.seen, world);
        let mut dirty: BTreeSet<Unit> = BTreeSet::new();
        for source in &changed {
            if Kind::OURS.contains(&source.0) {
                dirty.insert(Unit::Object(source.0, source.1.clone()));
            }
            dirty.extend(self.readers.get(source).into_iter().flatten().cloned());
        }
        self.reclaim(world, &mut dirty);
        let mut shards = BTreeSet::new();
        let mut recount = BTreeSet::new();
        let mut derived = BTreeSet::new();
        self.translated = dirty.len();
        for unit in dirty {
            match unit {
                Unit::Object(kind, key) => self.object(world, kind, key, &mut shards, &mut recount, &mut derived),
                other => drop(derived.insert(other)),
            }
        }
        for unit in derived {
            self.derived(world, unit);
        }
        for shard in shards {
            self.shard(shard);
        }
        for stage in recount {
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
            let now = claims_of(&view, world, *kind, key);
            // Reads are kept by the translation, which claims again.
            touched.extend(self.claims.replace(&(*kind, key.clone()), now));
        }
        for (kind, key) in touched {
            let source = (kind, key);
            dirty.extend(self.readers.get(&source).into_iter().flatten().cloned());
            dirty.insert(Unit::Object(source.0, source.1));
        }
    }

    fn object(
        &mut self,
        world: &World,
        kind: Kind,
        key: ObjectKey,
        shards: &mut BTreeSet<u8>,
        recount: &mut BTreeSet<ObjectKey>,
        derived: &mut BTreeSet<Unit>,
    ) {
        let view = View::new(world, &self.claims);
        drop(claims_of(&view, world, kind, &key));
        let output = object(&view, world, kind, &key);
        let reads = view.into_reads();
        let unit = Unit::Object(kind, key.clone());
        self.remember(&unit, reads);
        let before = self.outputs.remove(&unit).unwrap_or_default();
        let now = output.unwrap_or_default();
        for need in before.needs.difference(&now.needs) {
            let count = self.needed.get_mut(need).map_or(0, |count| {
                *count -= 1;
                *count
            });
            if count == 0 {
                self.needed.remove(need);
                derived.insert(need.clone());
            }
        }
        for need in now.needs.difference(&before.needs) {
            *self.needed.entry(need.clone()).or_default() += 1;
            derived.insert(need.clone());
        }
        if before.key != now.key {
            let shard = api_keys::shard_of(&key);
            let keys = self.shards.entry(shard).or_default();
            match &now.key {
                Some(entry) => drop(keys.insert(key.clone(), entry.clone())),
                None => drop(keys.remove(&key)),
            }
            shards.insert(shard);
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
            recount.extend(before.rules.keys().chain(now.rules.keys()).cloned());
        }
        if kind == Kind::Stage {
            recount.insert(key);
        }
        self.replace_parts(&before, &now);
        match (&before.status, &now.status) {
            (_, Some((object, wanted))) => {
                self.translation.statuses.insert(object.clone(), Arc::new(wanted.clone()));
            }
            (Some((object, _)), None) => drop(self.translation.statuses.remove(object)),
            (None, None) => {}
        }
        if now.status.is_some() {
            self.outputs.insert(unit, now);
        }
    }

    fn replace_parts(&mut self, before: &Output, now: &Output) {
        for part in &before.parts {
            self.translation.parts.remove(&part.name);
        }
        for part in &now.parts {
            self.translation.parts.insert(part.name.clone(), part.clone());
        }
    }

    fn derived(&mut self, world: &World, unit: Unit) {
        let before = self.outputs.remove(&unit).unwrap_or_default();
        if !self.needed.contains_key(&unit) {
            self.remember(&unit, BTreeSet::new());
            self.replace_parts(&before, &Output::default());
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
        let parts = made.map(|(name, body)| Arc::new(Part::new(name, &body))).into_iter().collect();
        let now = Output { parts, ..Output::default() };
        self.replace_parts(&before, &now);
        self.outputs.insert(unit, now);
    }

    fn shard(&mut self, shard: u8) {
        let name = api_keys::shard_name(shard);
        match self.shards.get(&shard).and_then(api_keys::shard_part) {
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

fn claims_of(view: &View<'_>, world: &World, kind: Kind, key: &ObjectKey) -> Option<(Claimant, BTreeSet<Claim>)> {
    let (meta, claims): (&ObjectMeta, _) = match kind {
        Kind::Stage => world.stages.get(key).map(|stage| (&stage.metadata, stages::claims(stage)))?,
        Kind::ApiRoute => world.api_routes.get(key).map(|route| (&route.metadata, routes::claims(key, route)))?,
        Kind::ApiKey => world.api_keys.get(key).map(|k| (&k.metadata, api_keys::claims(view, key, k)))?,
        _ => return None,
    };
    (!claims.is_empty()).then(|| (Claimant::new(kind, key, meta), claims))
}

/// Translates one object; none when it is gone.
fn object(view: &View<'_>, world: &World, kind: Kind, key: &ObjectKey) -> Option<Output> {
    if let Some(unparsable) = world.unparsable.get(&(kind, key.clone())) {
        let mut problems = Problems::default();
        problems.invalid("", format_args!("The object cannot be read: {}", unparsable.why));
        let mut output = Output::default();
        let own = own_part(kind, key);
        finish(&mut output, kind, key, unparsable.generation, &problems, [own].into(), Detail::None);
        return Some(output);
    }
    let mut problems = Problems::default();
    let mut output = Output::default();
    let mut parts: Vec<(PartName, PartBody)> = Vec::new();
    let mut expected: BTreeSet<PartName> = [own_part(kind, key)].into();
    let mut detail = Detail::None;
    let generation;
    match kind {
        Kind::Stage => {
            let stage = world.stages.get(key)?;
            generation = stage.metadata.generation;
            let (part, secret) = stages::translate(view, key, stage, &mut problems);
            parts.extend(part.map(|part| (stages::part_name(key), part)));
            expected.extend(secret.as_ref().map(stages::certificate_name));
            output.needs.extend(secret.map(Unit::Certificate));
            detail = Detail::Stage { routes: 0 };
        }
        Kind::ApiRoute => {
            let route = world.api_routes.get(key)?;
            generation = route.metadata.generation;
            let translated = routes::translate(view, key, route, &mut problems);
            parts.extend(translated.parts.into_iter().map(|(name, part)| (name, PartBody::Route(part))));
            output.needs = translated.upstreams.into_iter().map(|(key, port)| Unit::Upstream(key, port)).collect();
            output.rules = translated.rules;
        }
        Kind::Authorizer => {
            let authorizer = world.authorizers.get(key)?;
            generation = authorizer.metadata.generation;
            parts.push((own_part(kind, key), authorizers::translate(view, key, authorizer, &mut problems)));
        }
        Kind::UsagePlan => {
            let plan = world.usage_plans.get(key)?;
            generation = plan.metadata.generation;
            parts.push((own_part(kind, key), usage_plans::translate(view, key, plan, &mut problems)));
        }
        Kind::ApiKey => {
            let api_key = world.api_keys.get(key)?;
            generation = api_key.metadata.generation;
            let translated = api_keys::translate(view, key, api_key, &mut problems);
            output.key = translated.entry;
            let api_keys::Translated { prefix, secret, must_generate, .. } = translated;
            detail = Detail::ApiKey { prefix, secret, must_generate };
        }
        _ => return None,
    }
    for (name, body) in parts {
        let part = Part::new(name, &body);
        expected.insert(part.name.clone());
        if part.json.len() > MAX_PART_BYTES {
            let why = format!(
                "the object makes {} bytes of configuration; at most {MAX_PART_BYTES} are served",
                part.json.len()
            );
            problems.invalid("spec", why);
            continue;
        }
        output.parts.push(Arc::new(part));
    }
    finish(&mut output, kind, key, generation, &problems, expected, detail);
    Some(output)
}

fn own_part(kind: Kind, key: &ObjectKey) -> PartName {
    match kind {
        Kind::Stage => stages::part_name(key),
        Kind::Authorizer => authorizers::part_name(key),
        Kind::UsagePlan => usage_plans::part_name(key),
        Kind::ApiKey => api_keys::shard_name(api_keys::shard_of(key)),
        _ => routes::part_name(key),
    }
}

fn finish(
    output: &mut Output,
    kind: Kind,
    key: &ObjectKey,
    generation: Option<i64>,
    problems: &Problems,
    parts: BTreeSet<PartName>,
    detail: Detail,
) {
    let nothing = output.parts.is_empty() && output.key.is_none() && problems.count() > 0;
    let mut conditions = problems.conditions(generation);
    if kind == Kind::ApiKey
        && let Detail::ApiKey { must_generate: true, .. } = detail
        && let Some(accepted) = conditions.iter_mut().find(|c| c.type_ == ACCEPTED && c.status == Status::True)
    {
        accepted.status = Status::Unknown;
        accepted.reason = reason::PENDING;
        accepted.message = "The operator is making the key.".to_owned();
    }
    debug_assert!(conditions.iter().all(|c: &condition::Wanted| c.type_ == ACCEPTED || c.type_ == RESOLVED_REFS));
    let wanted = Wanted {
        conditions,
        generation,
        parts,
        served: if nothing { Served::Nothing } else { Served::Yes },
        detail,
        problems: problems.reasons().collect(),
    };
    output.status = Some((kind.object(key), wanted));
}

/// What differs between two worlds; brings `seen` up to `now`.
fn changes(seen: &mut World, now: &World) -> Vec<Source> {
    fn meta(a: &ObjectMeta, b: &ObjectMeta) -> bool {
        a.uid == b.uid && a.generation == b.generation && a.creation_timestamp == b.creation_timestamp
    }
    let mut all = Vec::new();
    // Statuses and bookkeeping change without leading to anything else.
    differ(&mut all, Kind::Stage, &mut seen.stages, &now.stages, |a, b| {
        a.spec == b.spec && meta(&a.metadata, &b.metadata)
    });
    differ(&mut all, Kind::ApiRoute, &mut seen.api_routes, &now.api_routes, |a, b| {
        a.spec == b.spec && meta(&a.metadata, &b.metadata)
    });
    differ(&mut all, Kind::Authorizer, &mut seen.authorizers, &now.authorizers, |a, b| {
        a.spec == b.spec && meta(&a.metadata, &b.metadata)
    });
    differ(&mut all, Kind::ApiKey, &mut seen.api_keys, &now.api_keys, |a, b| {
        a.spec == b.spec && meta(&a.metadata, &b.metadata)
    });
    differ(&mut all, Kind::UsagePlan, &mut seen.usage_plans, &now.usage_plans, |a, b| {
        a.spec == b.spec && meta(&a.metadata, &b.metadata)
    });
    differ(&mut all, Kind::Service, &mut seen.services, &now.services, |a, b| a.spec == b.spec);
    differ(&mut all, Kind::Secret, &mut seen.secrets, &now.secrets, |a, b| a.data == b.data);
    differ(&mut all, Kind::ConfigMap, &mut seen.config_maps, &now.config_maps, |a, b| {
        a.data == b.data && a.binary_data == b.binary_data
    });
    slices(&mut all, seen, now);
    unparsable(&mut all, seen, now);
    all
}

fn differ<K>(
    all: &mut Vec<Source>,
    kind: Kind,
    seen: &mut BTreeMap<ObjectKey, Arc<K>>,
    now: &BTreeMap<ObjectKey, Arc<K>>,
    same: fn(&K, &K) -> bool,
) {
    let gone: Vec<ObjectKey> = if seen.len() == now.len() && seen.keys().eq(now.keys()) {
        Vec::new()
    } else {
        seen.keys().filter(|key| !now.contains_key(*key)).cloned().collect()
    };
    for key in gone {
        seen.remove(&key);
        all.push((kind, key));
    }
    let mut fresh = Vec::new();
    let mut old = seen.iter_mut().peekable();
    for (key, object) in now {
        // Both are sorted, and every key of `seen` is in `now`.
        match old.next_if(|(old_key, _)| *old_key == key) {
            Some((_, before)) => {
                if !Arc::ptr_eq(before, object) {
                    if !same(before, object) {
                        all.push((kind, key.clone()));
                    }
                    *before = object.clone();
                }
            }
            None => fresh.push((key.clone(), object.clone())),
        }
    }
    for (key, object) in fresh {
        all.push((kind, key.clone()));
        seen.insert(key, object);
    }
}

fn slices(all: &mut Vec<Source>, seen: &mut World, now: &World) {
    let same = |a: &EndpointSlice, b: &EndpointSlice| {
        a.endpoints == b.endpoints && a.ports == b.ports && a.address_type == b.address_type
    };
    let changed = |key: &ObjectKey| match (seen.endpoint_slices.get(key), now.endpoint_slices.get(key)) {
        (Some(before), Some(after)) => {
            before.len() != after.len()
                || before.iter().zip(after).any(|((old_key, old), (new_key, new))| {
                    old_key != new_key || !(Arc::ptr_eq(old, new) || same(old, new))
                })
        }
        (None, None) => false,
        _ => true,
    };
    let keys: BTreeSet<&ObjectKey> = seen.endpoint_slices.keys().chain(now.endpoint_slices.keys()).collect();
    let changed: Vec<ObjectKey> = keys.into_iter().filter(|key| changed(key)).cloned().collect();
    for key in changed {
        match now.endpoint_slices.get(&key) {
            Some(slices) => drop(seen.endpoint_slices.insert(key.clone(), slices.clone())),
            None => drop(seen.endpoint_slices.remove(&key)),
        }
        all.push((Kind::EndpointSlice, key));
    }
}

fn unparsable(all: &mut Vec<Source>, seen: &mut World, now: &World) {
    if seen.unparsable == now.unparsable {
        return;
    }
    let keys: BTreeSet<&Source> = seen.unparsable.keys().chain(now.unparsable.keys()).collect();
    all.extend(keys.into_iter().filter(|key| seen.unparsable.get(*key) != now.unparsable.get(*key)).cloned());
    seen.unparsable.clone_from(&now.unparsable);
}
