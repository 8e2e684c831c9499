//! API keys: which ApiKey a request presents, and which plan admits it to a stage.
//! Buckets are `limit`'s; the look of a refusal is `exchange`'s.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::HeaderMap;
use sluice_wire::{Hash, KeysPart, ObjectRef, PartKind, PartName, PlanPart};

use crate::limit::{BucketId, Limit, Limits};

/// Where clients send their key.
pub(crate) const HEADER: &str = "x-api-key";
/// A longer value is no key.
const MAX_KEY_BYTES: usize = 128;

/// What a request presents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Presented<'a> {
    /// No key, or nothing that can be one.
    Nothing,
    /// A key.
    Key(&'a [u8]),
    /// Two fields: the backend might read the other one.
    Twice,
}

/// The key in the headers of a request.
pub(crate) fn presented(headers: &HeaderMap) -> Presented<'_> {
    let mut values = headers.get_all(HEADER).iter();
    match (values.next(), values.next()) {
        (Some(_), Some(_)) => Presented::Twice,
        (Some(value), None) if !value.is_empty() && value.len() <= MAX_KEY_BYTES => Presented::Key(value.as_bytes()),
        _ => Presented::Nothing,
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
    key_limit: Option<Limit>,
    rule_limits: Vec<RuleLimit>,
}

impl PlanAtStage {
    /// This key's buckets at one rule, narrowest first, as AWS evaluates them.
    pub(crate) fn limits<'a>(&'a self, route: &'a PartName, rule: &'a str) -> impl Iterator<Item = &'a Limit> {
        let at_rule = self.rule_limits.iter().find(move |limit| limit.rule == rule && limit.route == *route);
        at_rule.map(|limit| &limit.limit).into_iter().chain(&self.key_limit)
    }
}

/// One enabled key.
#[derive(Debug)]
pub(crate) struct KeyRecord {
    /// The ApiKey.
    pub(crate) object: ObjectRef,
    /// Its `namespace/name`: what `context.identity.apiKeyId` shows.
    pub(crate) id: String,
    stages: HashMap<PartName, PlanAtStage>,
}

impl KeyRecord {
    /// The first of the key's plans that lists the stage.
    pub(crate) fn admits(&self, stage: &PartName) -> Option<&PlanAtStage> {
        self.stages.get(stage)
    }
}

/// Every enabled key.
#[derive(Debug, Default)]
pub(crate) struct KeyRing {
    keys: HashMap<Hash, Arc<KeyRecord>>,
}

impl KeyRing {
    /// Joins the shards of keys with their plans. A plan that is not there admits nothing.
    pub(crate) fn compile<'a>(
        shards: impl IntoIterator<Item = &'a KeysPart>,
        plans: &BTreeMap<PartName, PlanPart>,
        limits: &Limits,
    ) -> Self {
        let mut keys: HashMap<Hash, Arc<KeyRecord>> = HashMap::new();
        for entry in shards.into_iter().flat_map(|shard| &shard.keys) {
            let id = entry.object.id();
            let mut stages = HashMap::new();
            for (name, plan) in entry.plans.iter().filter_map(|name| Some((name, plans.get(name)?))) {
                for at in &plan.stages {
                    stages.entry(at.stage.clone()).or_insert_with(|| plan_at_stage(&id, name, plan, &at.stage, limits));
                }
            }
            let record = Arc::new(KeyRecord { object: entry.object.clone(), id, stages });
            // Two ApiKeys with one secret: the first by shard order wins, as long as it is enabled.
            keys.entry(entry.digest).or_insert(record);
        }
        Self { keys }
    }

    /// The key with this value. The map is searched by digest, so the time it takes tells nothing about any key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<&Arc<KeyRecord>> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return None;
        }
        self.keys.get(&Hash::of(key))
    }
}

fn plan_at_stage(key: &str, name: &PartName, plan: &PlanPart, stage: &PartName, limits: &Limits) -> PlanAtStage {
    let key_limit = plan
        .throttle
        .map(|throttle| limits.limit(BucketId::KeyPlan { key: key.to_owned(), plan: name.clone() }, throttle));
    let throttles = plan.stages.iter().filter(|at| at.stage == *stage).flat_map(|at| &at.throttles);
    let rule_limits = throttles
        .map(|entry| {
            let route = PartName::new(PartKind::Route, format!("{}/{}", plan.object.namespace, entry.route));
            let id = BucketId::KeyRule {
                key: key.to_owned(),
                plan: name.clone(),
                stage: stage.clone(),
                route: route.clone(),
                rule: entry.rule.clone(),
            };
            RuleLimit { route, rule: entry.rule.clone(), limit: limits.limit(id, entry.throttle) }
        })
        .collect();
    PlanAtStage { key_limit, rule_limits }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use http::HeaderValue;
    use sluice_wire::{KeyEntry, PlanStage, RuleThrottle, Throttle};

    use super::*;
    use crate::limit::take_all;

    fn stage(name: &str) -> PartName {
        PartName::new(PartKind::Stage, format!("shop/{name}"))
    }

    fn plan(name: &str, stages: &[&str], burst: u32) -> (PartName, PlanPart) {
        let throttle = Throttle { rate: 0.0, burst };
        let rule =
            RuleThrottle { route: "orders".into(), rule: "list".into(), throttle: Throttle { rate: 0.0, burst: 1 } };
        let stages = stages.iter().map(|s| PlanStage { stage: stage(s), throttles: vec![rule.clone()] }).collect();
        let part = PlanPart { object: ObjectRef::new("UsagePlan", "shop", name), stages, throttle: Some(throttle) };
        (PartName::new(PartKind::Plan, format!("shop/{name}")), part)
    }

    fn ring(limits: &Limits) -> KeyRing {
        let plans = BTreeMap::from([plan("gold", &["prod"], 3), plan("free", &["prod", "test"], 1)]);
        let names = |names: &[&str]| names.iter().map(|n| PartName::new(PartKind::Plan, format!("shop/{n}"))).collect();
        let key = |name: &str, value: &[u8], plans| KeyEntry {
            object: ObjectRef::new("ApiKey", "shop", name),
            digest: Hash::of(value),
            plans,
        };
        let one = KeysPart { keys: vec![key("anna", b"key-of-anna", names(&["gold", "free"]))] };
        let two = KeysPart { keys: vec![key("bert", b"key-of-bert", names(&["gone"]))] };
        KeyRing::compile([&one, &two], &plans, limits)
    }

    #[test]
    fn the_first_plan_that_lists_the_stage_counts_and_a_missing_plan_admits_nothing() {
        let limits = Limits::default();
        let ring = ring(&limits);
        let anna = ring.find(b"key-of-anna").unwrap();
        let route = PartName::new(PartKind::Route, "shop/orders");
        let burst = |at: &str| anna.admits(&stage(at)).unwrap().limits(&route, "other").next().unwrap().throttle.burst;
        assert_eq!((burst("prod"), burst("test")), (3, 1));
        assert!(anna.admits(&stage("other")).is_none());
        assert!(ring.find(b"key-of-bert").unwrap().admits(&stage("prod")).is_none());
        for wrong in [&b""[..], b"key-of-ann", b"KEY-OF-ANNA", &[b'k'; 129]] {
            assert!(ring.find(wrong).is_none());
        }
        assert_eq!(ring.keys.len(), 2);
    }

    #[test]
    fn a_key_meets_its_rule_bucket_first_and_its_plan_bucket_everywhere() {
        let limits = Limits::default();
        let ring = ring(&limits);
        let gold = ring.find(b"key-of-anna").unwrap().admits(&stage("prod")).unwrap();
        let route = PartName::new(PartKind::Route, "shop/orders");
        let foreign = PartName::new(PartKind::Route, "other/orders");
        assert_eq!(gold.limits(&route, "list").count(), 2);
        assert_eq!(gold.limits(&route, "create").count(), 1);
        assert_eq!(gold.limits(&foreign, "list").count(), 1);
        let now = Instant::now();
        let take = |route: &PartName, rule: &str| take_all(&gold.limits(route, rule).collect::<Vec<_>>(), 1, now);
        assert!(take(&route, "list").is_ok());
        assert_eq!(take(&route, "list").unwrap_err().index, 0);
        assert!(take(&route, "create").is_ok());
        assert!(take(&route, "create").is_ok());
        assert_eq!(take(&route, "create").unwrap_err().index, 0);
    }

    #[test]
    fn what_a_request_presents() {
        let headers = |values: &[&[u8]]| {
            let mut map = HeaderMap::new();
            for value in values {
                map.append(HEADER, HeaderValue::from_bytes(value).unwrap());
            }
            map
        };
        for (values, expected) in [
            (&[][..], Presented::Nothing),
            (&[&b""[..]], Presented::Nothing),
            (&[&[b'k'; 129][..]], Presented::Nothing),
            (&[&b"k"[..]], Presented::Key(b"k")),
            (&[&b"\xff"[..]], Presented::Key(b"\xff")),
            (&[&b"k"[..], b"k"], Presented::Twice),
            (&[&b""[..], b"k"], Presented::Twice),
        ] {
            assert_eq!(presented(&headers(values)), expected, "{values:?}");
        }
    }
}
