//! Which fleet gets which parts.

use std::collections::{BTreeMap, BTreeSet};

use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::ObjectKey;
use sluice_operator::translate::{Translation, Translator};
use sluice_wire::{FleetName, KeysPart, ObjectRef, PartBody, PartKind, PartName};

use crate::objects::{object, state};

/// The names of each fleet's parts as they follow from all parts, without looking at what translation remembers.
pub(crate) fn expected(state: &ClusterState, translation: &Translation) -> BTreeMap<String, BTreeSet<String>> {
    let mut fleets: BTreeMap<PartName, BTreeSet<String>> = BTreeMap::new();
    let bodies: Vec<(PartName, PartBody)> =
        translation.parts.iter().map(|(name, part)| (name.clone(), part.decode().unwrap())).collect();
    let of = |fleets: &BTreeMap<PartName, BTreeSet<String>>, names: &[PartName]| -> BTreeSet<String> {
        names.iter().flat_map(|name| fleets.get(name).into_iter().flatten().cloned()).collect()
    };
    for (name, body) in &bodies {
        let PartBody::Stage(stage) = body else { continue };
        let key = ObjectKey::new(&*stage.object.namespace, &*stage.object.name);
        let fleet = state.stages.get(&key).unwrap().spec.fleet.as_ref().map_or("default", |fleet| &fleet.name);
        fleets.insert(name.clone(), [fleet.to_owned()].into());
        for used in &stage.certificates {
            fleets.entry(used.clone()).or_default().insert(fleet.to_owned());
        }
    }
    for (name, body) in &bodies {
        let stages: Vec<PartName> = match body {
            PartBody::Route(route) => route.stages.clone(),
            PartBody::Plan(plan) => plan.stages.iter().map(|stage| stage.stage.clone()).collect(),
            _ => continue,
        };
        let own = of(&fleets, &stages);
        if let PartBody::Route(route) = body {
            route.uses().for_each(|used| fleets.entry(used.clone()).or_default().extend(own.iter().cloned()));
        }
        fleets.insert(name.clone(), own);
    }
    for (name, body) in &bodies {
        let PartBody::Authorizer(authorizer) = body else { continue };
        let own = of(&fleets, std::slice::from_ref(name));
        authorizer.upstream().into_iter().for_each(|used| fleets.entry(used.clone()).or_default().extend(own.clone()));
    }
    for (name, body) in &bodies {
        let PartBody::Keys(KeysPart { keys }) = body else { continue };
        let own = keys.iter().flat_map(|entry| of(&fleets, &entry.plans)).collect();
        fleets.insert(name.clone(), own);
    }
    for (name, body) in &bodies {
        let PartBody::Principal(principal) = body else { continue };
        let own = of(&fleets, &principal.authorizers);
        fleets.insert(name.clone(), own);
    }
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, of) in fleets.into_iter().filter(|(name, _)| translation.parts.contains(name)) {
        for fleet in of {
            all.entry(fleet).or_default().insert(name.to_string());
        }
    }
    all
}

/// The names of each fleet's parts.
pub(crate) fn published(translation: &Translation) -> BTreeMap<String, BTreeSet<String>> {
    let names = |parts: &sluice_wire::Parts<_>| parts.iter().map(|(name, _)| name.to_string()).collect();
    translation.fleets.iter().map(|(fleet, parts)| (fleet.to_string(), names(parts))).collect()
}

fn world() -> ClusterState {
    let certified = rcgen::generate_simple_self_signed(vec!["edge.example".to_owned()]).unwrap();
    let pem = |text: String| text.replace('\n', "\n    ");
    let (chain, private) = (pem(certified.cert.pem()), pem(certified.signing_key.serialize_pem()));
    let mut state = state(&format!(
        "
kind: Secret
metadata: {{name: edge-tls}}
stringData:
  tls.crt: |
    {chain}
  tls.key: |
    {private}
---
kind: Service
metadata: {{name: orders}}
spec: {{ports: [{{port: 80}}]}}
---
kind: Service
metadata: {{name: inner}}
spec: {{ports: [{{port: 80}}]}}
"
    ));
    let objects = [
        serde_json::json!({"kind": "Stage", "metadata": {"name": "edge"}, "spec": {
            "fleet": {"name": "edge"}, "hostnames": ["edge.example"], "tls": tls("edge-tls")}}),
        serde_json::json!({"kind": "Stage", "metadata": {"name": "prod"}, "spec": {"hostnames": ["edge.example"]}}),
        route("orders", &["edge", "prod"], "orders"),
        route("inner", &["prod"], "inner"),
        plan("edge"),
        plan("prod"),
        plan("nowhere"),
    ];
    objects.into_iter().for_each(|value| state.apply(object(value)));
    // All in one shard of keys.
    for (name, plans) in one_shard().iter().zip([vec!["edge"], vec!["prod"], vec!["edge", "prod"], vec!["nowhere"]]) {
        let secret = serde_json::json!({"kind": "Secret", "metadata": {"name": name},
            "stringData": {"api-key": format!("sk_{name:_>40}")}});
        state.apply(object(secret));
        state.apply(object(key(name, &plans)));
    }
    state
}

fn tls(secret: &str) -> serde_json::Value {
    serde_json::json!({"certificates": [{"name": secret}]})
}

fn route(name: &str, stages: &[&str], service: &str) -> serde_json::Value {
    let stages: Vec<_> = stages.iter().map(|stage| serde_json::json!({"name": stage})).collect();
    serde_json::json!({"kind": "ApiRoute", "metadata": {"name": name}, "spec": {
        "stages": stages, "authorization": {"type": "None"}, "rules": [{"name": "a", "methods": ["GET"], "path": format!("/{name}"),
            "integration": {"type": "Service", "service": {"name": service, "port": 80}}}]}})
}

fn plan(name: &str) -> serde_json::Value {
    let stages = if name == "nowhere" { vec![] } else { vec![serde_json::json!({"name": name})] };
    serde_json::json!({"kind": "UsagePlan", "metadata": {"name": name}, "spec": {"stages": stages}})
}

fn key(name: &str, plans: &[&str]) -> serde_json::Value {
    serde_json::json!({"kind": "ApiKey", "metadata": {"name": name}, "spec": {
        "enabled": true, "plans": plan_references(plans), "secret": {"name": name}}})
}

fn plan_references(plans: &[&str]) -> serde_json::Value {
    plans.iter().map(|name| serde_json::json!({"name": name})).collect()
}

/// Names of four ApiKeys whose digests are in the same shard.
fn one_shard() -> [String; 4] {
    let mut shards: BTreeMap<u8, Vec<String>> = BTreeMap::new();
    for n in 0.. {
        let name = format!("k{n}");
        let shard = shards.entry(sluice_wire::Hash::of(format!("shop/{name}").as_bytes()).bytes()[0] % 64).or_default();
        shard.push(name);
        if let Ok(names) = shard.clone().try_into() {
            return names;
        }
    }
    unreachable!()
}

fn keys(translation: &Translation, fleet: &str) -> BTreeSet<String> {
    let parts = &translation.fleets[&fleet.parse::<FleetName>().unwrap()];
    let shards = parts.iter().filter(|(name, _)| name.kind == PartKind::Keys);
    let keys = shards.flat_map(|(_, part)| match part.decode().unwrap() {
        PartBody::Keys(KeysPart { keys }) => keys,
        _ => Vec::new(),
    });
    keys.map(|entry| entry.object.name.to_string()).collect()
}

fn fleets_of(translation: &Translation, kind: &str, name: &str) -> Vec<String> {
    translation.statuses[&ObjectRef::new(kind, "shop", name)].fleets.iter().map(ToString::to_string).collect()
}

#[test]
fn a_fleet_gets_what_its_stages_need_and_no_certificate_or_key_of_another() {
    let state = world();
    let translation = Translator::new().translate(&state);
    assert!(translation.is_clean(), "{:?}", translation.statuses);
    let published = published(&translation);
    assert_eq!(published, expected(&state, &translation));
    let own = |fleet: &str| -> Vec<&str> {
        published[fleet].iter().map(String::as_str).filter(|name| !name.starts_with("keys/")).collect()
    };
    assert_eq!(
        own("edge"),
        [
            "certificate/shop/edge-tls",
            "plan/shop/edge",
            "route/shop/orders",
            "stage/shop/edge",
            "upstream/shop/orders:80"
        ]
    );
    assert_eq!(
        own("default"),
        [
            "plan/shop/prod",
            "route/shop/inner",
            "route/shop/orders",
            "stage/shop/prod",
            "upstream/shop/inner:80",
            "upstream/shop/orders:80"
        ]
    );
    let [edge, prod, both, nowhere] = one_shard();
    assert_eq!(keys(&translation, "edge"), [edge.clone(), both.clone()].into());
    assert_eq!(keys(&translation, "default"), [prod, both.clone()].into());
    assert_eq!(fleets_of(&translation, "ApiRoute", "orders"), ["default", "edge"]);
    assert_eq!(fleets_of(&translation, "ApiKey", &edge), ["edge"]);
    assert_eq!(fleets_of(&translation, "ApiKey", &both), ["default", "edge"]);
    assert_eq!(fleets_of(&translation, "ApiKey", &nowhere), [""; 0]);
    assert_eq!(fleets_of(&translation, "UsagePlan", "nowhere"), [""; 0]);
}

#[test]
fn a_stage_that_changes_its_fleet_takes_everything_with_it_and_a_change_touches_one_fleet_only() {
    let mut state = world();
    let mut translator = Translator::new();
    let before = translator.translate(&state);
    let versions = |translation: &Translation| -> BTreeMap<String, String> {
        translation.fleets.iter().map(|(fleet, parts)| (fleet.to_string(), parts.version().to_string())).collect()
    };
    state.apply(object(route("inner", &["prod"], "orders")));
    let after = translator.translate(&state);
    assert_eq!(versions(&before)["edge"], versions(&after)["edge"]);
    assert_ne!(versions(&before)["default"], versions(&after)["default"]);

    state.apply(object(serde_json::json!({"kind": "Stage", "metadata": {"name": "edge", "generation": 2}, "spec": {
        "fleet": {"name": "far"}, "hostnames": ["edge.example"], "tls": tls("edge-tls")}})));
    let moved = translator.translate(&state);
    assert_eq!(published(&moved), expected(&state, &moved));
    assert_eq!(published(&moved).into_keys().collect::<Vec<_>>(), ["default", "far"]);
    assert_eq!(fleets_of(&moved, "ApiRoute", "orders"), ["default", "far"]);
    assert_eq!(fleets_of(&moved, "ApiKey", &one_shard()[0]), ["far"]);
    assert_eq!(published(&moved)["far"], published(&after)["edge"]);
    assert_eq!(moved, Translator::new().translate(&state));

    // Two Stages of one fleet cannot have the same host.
    state.apply(object(serde_json::json!({"kind": "Stage", "metadata": {"name": "edge", "generation": 3}, "spec": {
        "hostnames": ["edge.example"]}})));
    let joined = translator.translate(&state);
    assert_eq!(joined.statuses[&ObjectRef::new("Stage", "shop", "prod")].problems, ["Conflicted"]);
}
