//! API keys: which ApiKey a request presents, and which usage plan admits it to a stage. Buckets are in `limit`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::FixedState;
use http::HeaderName;
use sluice_wire::{Hash, KeyEntry, KeysPart, ObjectRef, PartName, PlanPart};

use crate::limit::{BucketId, Buckets, Limit};

/// AWS's header for API keys.
pub(crate) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// A longer value is not a key.
const MAX_KEY_BYTES: usize = 128;

/// What a request presents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// No key.
    Nothing,
    /// A key.
    Key(Cow<'a, [u8]>),
    /// A value that cannot be a key, or two values: the backend might use the other one.
    Invalid,
}

/// The key of a request, of the values in the place for it.
pub(crate) fn presented<'a>(mut values: impl Iterator<Item = Cow<'a, [u8]>>) -> Presented<'a> {
    match (values.next(), values.next()) {
        (None, _) => Presented::Nothing,
        (Some(value), None) if !value.is_empty() && value.len() <= MAX_KEY_BYTES => Presented::Key(value),
        _ => Presented::Invalid,
    }
}

/// A bucket for one rule of one ApiRoute.
#[derive(Debug)]
struct RuleLimit {
    route: PartName,
    rule: String,
    limit: Limit,
}

/// The plan that admits a key to a stage, with this key's buckets.
#[derive(Debug)]
pub(crate) struct PlanAtStage {
    plan: PartName,
    key_limit: Option<Limit>,
    rule_limits: Vec<RuleLimit>,
}

impl PlanAtStage {
    /// `namespace/name` of the UsagePlan: `context.identity.usagePlanId`.
    pub(crate) fn id(&self) -> &str {
        self.plan.id()
    }

    /// This key's buckets at one rule and in the plan, narrowest first, as AWS evaluates them.
    pub(crate) fn limits(&self, route: &PartName, rule: &str) -> [Option<&Limit>; 2] {
        let at_rule = self.rule_limits.iter().find(|limit| limit.rule == rule && limit.route == *route);
        [at_rule.map(|limit| &limit.limit), self.key_limit.as_ref()]
    }
}

/// One enabled key.
#[derive(Debug)]
pub(crate) struct KeyRecord {
    /// The ApiKey.
    pub(crate) object: ObjectRef,
    /// Its `namespace/name`: `context.identity.apiKeyId`.
    pub(crate) id: String,
    /// The customer that the ApiKey names.
    pub(crate) customer: Option<String>,
    stages: BTreeMap<PartName, PlanAtStage>,
}

impl KeyRecord {
    /// The first of the key's plans that lists the stage.
    pub(crate) fn admits(&self, stage: &PartName) -> Option<&PlanAtStage> {
        self.stages.get(stage)
    }
}

/// Number of shards of the table of keys: a change copies the shards that it touches.
const SHARDS: usize = 64;

/// Keys by digest. Clients do not choose the digests in the table, so they cannot cause collisions.
type Shard = HashMap<Hash, Arc<KeyRecord>, FixedState>;

/// Every enabled key. A copy shares its shards.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    shards: Arc<[Arc<Shard>]>,
}

impl Default for Keys {
    fn default() -> Self {
        Self { shards: std::iter::repeat_n(Arc::default(), SHARDS).collect() }
    }
}

fn shard_of(digest: &Hash) -> usize {
    usize::from(digest.bytes()[0]) % SHARDS
}

impl Keys {
    /// The key with this value. The lookup is by digest, so its time reveals nothing about other keys.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Arc<KeyRecord>> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return None;
        }
        let digest = Hash::of(key);
        self.shards[shard_of(&digest)].get(&digest)
    }

    fn shard(&mut self, digest: &Hash) -> &mut Shard {
        let shards = Arc::make_mut(&mut self.shards);
        Arc::make_mut(&mut shards[shard_of(digest)])
    }
}

/// Builds the table of keys from the parts with keys and with plans. A missing plan admits no request.
#[derive(Debug, Default)]
pub(crate) struct KeyRing {
    parts: BTreeMap<PartName, KeysPart>,
    plans: BTreeMap<PartName, PlanPart>,
    keys: Keys,
    /// Parts whose keys must be added again.
    dirty: BTreeSet<PartName>,
}

impl KeyRing {
    /// Replaces a part with keys. None: it was removed.
    pub(crate) fn set_keys(&mut self, name: &PartName, part: Option<KeysPart>) {
        let old = match part {
            Some(part) => self.parts.insert(name.clone(), part),
            None => self.parts.remove(name),
        };
        for entry in old.iter().flat_map(|old| &old.keys) {
            self.keys.shard(&entry.digest).remove(&entry.digest);
        }
        self.dirty.insert(name.clone());
    }

    /// Replaces a plan. None: it was removed.
    pub(crate) fn set_plan(&mut self, name: &PartName, part: Option<PlanPart>) {
        match part {
            Some(part) => drop(self.plans.insert(name.clone(), part)),
            None => drop(self.plans.remove(name)),
        }
        let has = |part: &KeysPart| part.keys.iter().any(|entry| entry.plans.contains(name));
        self.dirty.extend(self.parts.iter().filter(|(_, part)| has(part)).map(|(name, _)| name.clone()));
    }

    /// Updates the table.
    pub(crate) fn join(&mut self, buckets: &Buckets) {
        for name in std::mem::take(&mut self.dirty) {
            for entry in self.parts.get(&name).iter().flat_map(|part| &part.keys) {
                let record = Arc::new(record(entry, &self.plans, buckets));
                let shard = self.keys.shard(&entry.digest);
                // The operator does not give one value to two ApiKeys. If there are two, each proxy uses the same one.
                if shard.get(&entry.digest).is_none_or(|other| other.object >= record.object) {
                    shard.insert(entry.digest, record);
                }
            }
        }
    }

    /// The current table.
    pub(crate) fn keys(&self) -> Keys {
        self.keys.clone()
    }
}

fn record(entry: &KeyEntry, plans: &BTreeMap<PartName, PlanPart>, buckets: &Buckets) -> KeyRecord {
    let id = entry.object.id();
    let mut stages = BTreeMap::new();
    for (name, plan) in entry.plans.iter().filter_map(|name| Some((name, plans.get(name)?))) {
        for at in &plan.stages {
            stages.entry(at.stage.clone()).or_insert_with(|| plan_at_stage(&id, name, plan, &at.stage, buckets));
        }
    }
    KeyRecord { object: entry.object.clone(), id, customer: entry.customer.clone(), stages }
}

fn plan_at_stage(key: &str, name: &PartName, plan: &PlanPart, stage: &PartName, buckets: &Buckets) -> PlanAtStage {
    let key_limit = plan
        .throttle
        .map(|throttle| buckets.limit(BucketId::KeyPlan { key: key.to_owned(), plan: name.clone() }, throttle));
    let throttles = plan.stages.iter().filter(|at| at.stage == *stage).flat_map(|at| &at.throttles);
    let rule_limits = throttles
        .map(|entry| {
            let route = entry.route.clone();
            let id = BucketId::KeyRule {
                key: key.to_owned(),
                plan: name.clone(),
                stage: stage.clone(),
                route: route.clone(),
                rule: entry.rule.clone(),
            };
            RuleLimit { route, rule: entry.rule.clone(), limit: buckets.limit(id, entry.throttle) }
        })
        .collect();
    PlanAtStage { plan: name.clone(), key_limit, rule_limits }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use sluice_wire::{PartKind, PlanStage, RuleThrottle, Throttle};

    use super::*;
    use crate::limit::take_all;

    fn stage(name: &str) -> PartName {
        PartName::new(PartKind::Stage, format!("shop/{name}"))
    }

    fn plan(name: &str, stages: &[&str], burst: u32) -> (PartName, PlanPart) {
        let throttle = Throttle { rate: 0, per_ms: 1000, burst };
        let rule = RuleThrottle {
            route: PartName::new(PartKind::Route, "shop/orders"),
            rule: "list".into(),
            throttle: Throttle { rate: 0, per_ms: 1000, burst: 1 },
        };
        let stages = stages.iter().map(|s| PlanStage { stage: stage(s), throttles: vec![rule.clone()] }).collect();
        let part = PlanPart { object: ObjectRef::new("UsagePlan", "shop", name), stages, throttle: Some(throttle) };
        (PartName::new(PartKind::Plan, format!("shop/{name}")), part)
    }

    fn shard(name: &str) -> PartName {
        PartName::new(PartKind::Keys, name)
    }

    fn ring(buckets: &Buckets) -> KeyRing {
        let mut ring = KeyRing::default();
        for (name, plan) in [plan("gold", &["prod"], 3), plan("free", &["prod", "test"], 1)] {
            ring.set_plan(&name, Some(plan));
        }
        let names = |names: &[&str]| names.iter().map(|n| PartName::new(PartKind::Plan, format!("shop/{n}"))).collect();
        let key = |name: &str, value: &[u8], plans| KeyEntry {
            object: ObjectRef::new("ApiKey", "shop", name),
            digest: Hash::of(value),
            plans,
            customer: None,
        };
        let one = KeysPart { keys: vec![key("anna", b"key-of-anna", names(&["gold", "free"]))] };
        let two = KeysPart { keys: vec![key("bert", b"key-of-bert", names(&["gone"]))] };
        ring.set_keys(&shard("one"), Some(one));
        ring.set_keys(&shard("two"), Some(two));
        ring.join(buckets);
        ring
    }

    #[test]
    fn keys_follow_their_parts_and_plans_and_copies_are_independent() {
        let buckets = Buckets::default();
        let mut ring = ring(&buckets);
        let before = ring.keys();
        let admitted =
            |keys: &Keys, key: &[u8], at: &str| keys.find(key).is_some_and(|k| k.admits(&stage(at)).is_some());
        assert!(admitted(&before, b"key-of-anna", "prod") && !admitted(&before, b"key-of-bert", "prod"));
        let (name, gone) = plan("gone", &["prod"], 1);
        ring.set_plan(&name, Some(gone));
        ring.set_keys(&shard("one"), None);
        ring.join(&buckets);
        assert!(!admitted(&ring.keys(), b"key-of-anna", "prod") && admitted(&ring.keys(), b"key-of-bert", "prod"));
        ring.set_plan(&name, None);
        ring.join(&buckets);
        assert!(!admitted(&ring.keys(), b"key-of-bert", "prod"));
        assert!(admitted(&before, b"key-of-anna", "prod"));
    }

    #[test]
    fn the_first_plan_that_lists_the_stage_counts_and_a_missing_plan_admits_nothing() {
        let buckets = Buckets::default();
        let ring = ring(&buckets).keys();
        let anna = ring.find(b"key-of-anna").unwrap();
        let route = PartName::new(PartKind::Route, "shop/orders");
        let burst = |at: &str| anna.admits(&stage(at)).unwrap().limits(&route, "other")[1].unwrap().throttle.burst;
        assert_eq!((burst("prod"), burst("test")), (3, 1));
        assert!(anna.admits(&stage("other")).is_none());
        assert!(ring.find(b"key-of-bert").unwrap().admits(&stage("prod")).is_none());
        for wrong in [&b""[..], b"key-of-ann", b"KEY-OF-ANNA", &[b'k'; 129]] {
            assert!(ring.find(wrong).is_none());
        }
    }

    #[test]
    fn a_key_meets_its_rule_bucket_first_and_its_plan_bucket_everywhere() {
        let buckets = Buckets::default();
        let ring = ring(&buckets).keys();
        let gold = ring.find(b"key-of-anna").unwrap().admits(&stage("prod")).unwrap();
        let route = PartName::new(PartKind::Route, "shop/orders");
        let foreign = PartName::new(PartKind::Route, "other/orders");
        let limits = |route: &PartName, rule: &str| gold.limits(route, rule).map(|limit| limit.is_some());
        assert_eq!(limits(&route, "list"), [true, true]);
        assert_eq!(limits(&route, "create"), [false, true]);
        assert_eq!(limits(&foreign, "list"), [false, true]);
        let now = Instant::now();
        let take = |route: &PartName, rule: &str| take_all(gold.limits(route, rule).iter().flatten(), 1, now);
        assert!(take(&route, "list").is_ok());
        assert_eq!(take(&route, "list").unwrap_err().index, 0);
        assert!(take(&route, "create").is_ok());
        assert!(take(&route, "create").is_ok());
        assert_eq!(take(&route, "create").unwrap_err().index, 0);
    }

    #[test]
    fn what_a_request_presents() {
        for (values, expected) in [
            (&[][..], Presented::Nothing),
            (&[&b""[..]], Presented::Invalid),
            (&[&[b'k'; 129][..]], Presented::Invalid),
            (&[&b"k"[..]], Presented::Key(b"k".into())),
            (&[&b"\xff"[..]], Presented::Key(b"\xff".into())),
            (&[&b"k"[..], b"k"], Presented::Invalid),
            (&[&b""[..], b"k"], Presented::Invalid),
        ] {
            let texts = values.iter().map(|value| Cow::Borrowed(*value));
            assert_eq!(presented(texts), expected, "{values:?}");
        }
    }
}
