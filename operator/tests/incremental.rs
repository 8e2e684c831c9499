//! An incremental translation equals one from scratch, whatever changes in whatever order.

use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{Kind, ObjectKey};
use sluice_operator::translate::{Detail, Served, SigningDays, Translation, Translator};
use sluice_wire::{PartBody, PartKind, PartName};

use crate::fleets;
use crate::objects::object;

/// One step: an object appears, changes or goes. Few names, so that steps meet.
#[derive(Clone, Debug)]
struct Step {
    kind: Kind,
    name: u8,
    shape: u8,
    gone: bool,
    /// In another namespace.
    other: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Every kind of the table; routes, which have most to do with the others, twice.
    let kinds = prop::sample::select([Kind::ALL, &[Kind::ApiRoute]].concat());
    let step = (kinds, 0..3_u8, any::<u8>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let step = step.prop_map(|(kind, name, shape, gone, other)| Step { kind, name, shape, gone, other });
    prop::collection::vec(step, 1..60)
}

const REGIONS: [&str; 3] = ["us-east-1", "eu-west-1", "not a region"];

/// Rules that meet those of other routes, with every way in which a match or a policy can be invalid.
fn rules(shape: u8) -> Value {
    let (low, high) = (shape % 3, (shape / 3) % 3);
    let header = ["x-a", "x-b", "not a header"][usize::from((shape / 9) % 3)];
    json!([
        {"name": "a", "methods": if shape % 13 == 12 { ["ANY"].as_slice() } else { &["GET", "POST"] },
         "path": format!("/p{high}"),
         "integration": {"type": "Service", "service": {
             "name": format!("n{low}"), "port": 80, "namespace": if shape % 5 < 3 { Value::Null } else { json!("store") },
         }}},
        {"name": if shape % 17 == 16 { "a" } else { "b" }, "methods": ["GET"],
         "path": if shape % 6 == 5 { "bad" } else { "/q/{id}" },
         "throttle": if shape % 19 == 18 { json!({"rate": 0, "burst": 1}) } else { Value::Null },
         "apiKey": if shape.is_multiple_of(4) { json!("Alternative") } else { Value::Null },
         "integration": {"type": "Mock", "mock": {}}},
        {"name": "c", "methods": ["GET"], "path": format!("/p{high}"),
         "headers": if shape.is_multiple_of(5) { json!([{"name": header, "type": "Present"}]) } else { json!([]) },
         "integration": {"type": "Http", "http": {"url": "https://api.example"}}},
    ])
}

fn value(step: &Step) -> Value {
    let Step { kind, shape, .. } = step;
    let (low, high) = (shape % 3, (shape / 3) % 3);
    let spec = match kind {
        Kind::Stage => json!({
            "hostnames": match low {
                0 => vec![],
                1 => vec![format!("h{high}.example")],
                _ => vec![["*.example", "*.h1.example", "a.h1.example"][usize::from(high)].to_owned()],
            },
            "accepts": match shape % 4 {
                0 => json!({"namespaces": {"from": "All"}}),
                1 => json!({"namespaces": {"from": "Selector", "selector": {"matchLabels": {"tenant": "a"}}}}),
                _ => json!({}),
            },
            "basePath": if shape % 7 == 6 { "bad" } else { "/" },
            "apiKeySource": if shape % 11 < 4 { json!({"type": "Authorizer"}) } else { Value::Null },
            "fleet": match shape % 8 { 1 | 5 => json!({"name": "edge"}), 3 => json!({"name": "No fleet"}), _ => Value::Null },
            "tls": if shape % 5 == 4 { json!({"certificates": [{"name": format!("n{high}")}, {"name": format!("n{low}")}]}) } else { Value::Null },
        }),
        Kind::ApiRoute => json!({
            "stages": [{"name": format!("n{low}")}, {"name": format!("n{}", (low + 1) % 3), "namespace": "store"}],
        "authorization": if shape % 4 == 0 { json!({"type": "Authorizer", "authorizer": {"name": format!("n{high}")}}) } else { json!({"type": "None"}) },
            "version": if shape % 10 == 9 { json!({"name": "v1", "scheme": "Header"}) } else { Value::Null },
            "rules": rules(*shape),
        }),
        Kind::Authorizer if shape % 4 == 3 => json!({"type": "Iam", "iam": {
            "regions": [REGIONS[usize::from(high)]],
            "unsignedPayload": if low == 0 { "Allow" } else { "Reject" },
        }}),
        Kind::Authorizer if shape % 4 == 2 => json!({"type": "Lambda", "lambda": {"event": "Token", "function": {
            "type": "Service",
            "service": {"name": format!("n{low}"), "port": 80, "namespace": if high == 0 { json!("store") } else { Value::Null }},
        }}}),
        Kind::Principal => json!({
            "accessKeys": match low {
                0 => json!([]),
                1 => json!([{"secret": {"name": format!("n{high}")}}]),
                _ => json!([{"secret": {"name": "n0"}}, {"secret": {"name": format!("n{high}")}}]),
            },
            "policies": match shape % 5 {
                0 => json!([{"configMap": {"name": format!("n{high}"), "key": "jwks.json"}}]),
                1 => json!([{"document": {"Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}}]),
                _ => json!([]),
            },
        }),
        Kind::Authorizer => json!({"type": "Jwt", "jwt": {"issuers": [{
            "issuer": "https://idp.example", "audiences": ["a"],
            "jwks": {"type": "ConfigMap", "configMap": {"name": format!("n{low}")}},
        }]}}),
        Kind::ApiKey => json!({
            "enabled": shape % 5 != 4, "plans": [{"name": format!("n{high}")}],
            "secret": if low == 2 { Value::Null } else { json!({"name": format!("n{low}")}) },
        }),
        Kind::UsagePlan => json!({"stages": [{
            "name": format!("n{low}"), "throttles": [{"route": {"name": format!("n{high}")}, "rule": "a", "rate": 1, "burst": 1}],
        }]}),
        Kind::Service => json!({"ports": [{"port": if low == 2 { 81 } else { 80 }, "name": "web"}]}),
        Kind::ReferenceGrant => json!({
            "from": [{"group": "sluice.dev", "kind": if shape % 2 == 0 { "ApiRoute" } else { "Authorizer" }, "namespace": if low == 0 { "store" } else { "shop" }}],
            "to": [{"group": "", "kind": if high == 0 { "Secret" } else { "Service" }}],
        }),
        _ => Value::Null,
    };
    let mut value = json!({
        "kind": kind.as_str(),
        "metadata": {"name": key(step).name, "namespace": key(step).namespace, "generation": shape,
                     "creationTimestamp": format!("2026-01-01T00:00:{:02}Z", shape % 4)},
    });
    match kind {
        Kind::EndpointSlice => {
            value["metadata"]["labels"] = json!({"kubernetes.io/service-name": format!("n{low}")});
            value["addressType"] = json!("IPv4");
            value["endpoints"] =
                json!([{"addresses": [format!("10.0.0.{shape}")], "conditions": {"ready": high != 2}}]);
            value["ports"] = json!([{"name": "web", "port": 8080}]);
        }
        Kind::Secret => {
            value["stringData"] = json!({
                "api-key": format!("sk_{:030}", high),
                "AWS_ACCESS_KEY_ID": format!("SLCE{high:016}"),
                "AWS_SECRET_ACCESS_KEY": "s".repeat(if low == 2 { 3 } else { 40 }),
            });
        }
        Kind::ConfigMap => {
            value["data"] =
                json!({"jwks.json": if low == 0 { "{}" } else { r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"# }})
        }
        Kind::Namespace => value["metadata"]["labels"] = json!({"tenant": if low == 0 { "a" } else { "b" }}),
        Kind::Principal => {
            value["spec"] = if shape % 11 == 10 { json!("unreadable") } else { spec };
            if shape % 3 == 1 {
                value["status"] = json!({"accessKeys": [{"id": format!("SLCE{:016}", shape % 4)}]});
            }
        }
        Kind::Stage if shape % 11 == 10 => value["spec"] = json!("unreadable"),
        Kind::Stage => {
            value["spec"] = spec;
            let since = format!("2026-01-01T00:00:{:02}Z", shape / 16);
            let name = value["spec"]["hostnames"].get(0).cloned().unwrap_or_else(|| json!("*"));
            if shape % 4 > 0 {
                value["status"] = json!({"hostnames": [{"name": name, "since": since}]});
            }
            if shape % 4 > 1 {
                value["status"]["basePath"] = json!({"path": "/", "fleet": "default", "since": since});
            }
        }
        _ => value["spec"] = spec,
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_incremental_translation_equals_one_from_scratch(steps in steps(), batch in 1..5_usize, quota in 0..4_usize) {
        // With a small quota, the steps also change which objects exceed it.
        let (total, shard) = [(usize::MAX, usize::MAX), (6000, 1000), (3000, 300), (500, 100)][quota];
        let mut translator = Translator::limited(total, shard);
        let mut incremental = Translator::limited(total, shard);
        let mut last = incremental.translate(&ClusterState::default());
        let mut state = ClusterState::default();
        let mut among = BTreeSet::new();
        for (at, step) in steps.iter().enumerate() {
            let key = key(step);
            let days = days(u8::try_from(at / 8).unwrap());
            if step.gone {
                state.remove(step.kind, &key);
            } else {
                state.apply(object(value(step)));
            }
            among.insert((step.kind, key));
            if at % batch == 0 {
                let scratch = Translator::limited(total, shard).with_days(days).translate(&state);
                translator.set_days(days);
                incremental.set_days(days);
                prop_assert_eq!(&translator.translate(&state), &scratch, "after step {} of {:?}", at, steps);
                if quota == 0 {
                    prop_assert_eq!(fleets::published(&scratch), fleets::expected(&state, &scratch));
                }
                last = incremental.translate_changed(&state, &among).unwrap_or(last);
                prop_assert_eq!(&last, &scratch, "translate_changed, after step {} of {:?}", at, steps);
                among.clear();
            }
        }
        translator.set_days(days(0));
        let scratch = Translator::limited(total, shard).with_days(days(0)).translate(&state);
        prop_assert_eq!(translator.translate(&state), scratch);
    }
}

/// A day of January and the next one.
fn days(day: u8) -> SigningDays {
    SigningDays::around(format!("2026-01-{:02}T10:00:00Z", day + 1).parse().unwrap(), 1)
}

fn key(step: &Step) -> ObjectKey {
    if step.kind == Kind::Namespace {
        return ObjectKey::new("", space(step));
    }
    ObjectKey::new(space(step), format!("n{}", step.name))
}

fn space(step: &Step) -> &'static str {
    if step.other { "store" } else { "shop" }
}

fn route(name: usize, path: &str) -> Value {
    json!({
        "kind": "ApiRoute", "metadata": {"name": format!("r{name}"), "namespace": "shop"},
        "spec": {"stages": [{"name": "prod"}], "authorization": {"type": "None"}, "rules": [{
            "name": "a", "methods": ["GET"], "path": path,
            "integration": {"type": "Service", "service": {"name": "orders", "port": 80}},
        }]},
    })
}

fn slice(address: &str) -> Value {
    json!({
        "kind": "EndpointSlice", "addressType": "IPv4", "ports": [{"name": "", "port": 8080}],
        "metadata": {"name": "orders-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "orders"}},
        "endpoints": [{"addresses": [address]}],
    })
}

#[test]
fn one_changed_route_among_thousands_is_translated_alone_and_endpoints_translate_no_route() {
    let mut state = ClusterState::default();
    let meta = json!({"name": "prod", "namespace": "shop"});
    state.apply(object(json!({"kind": "Stage", "metadata": meta, "spec": {}})));
    let meta = json!({"name": "orders", "namespace": "shop"});
    state.apply(object(json!({"kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})));
    state.apply(object(slice("10.0.0.1")));
    (0..2000).for_each(|n| state.apply(object(route(n, &format!("/p{n}")))));
    let mut translator = Translator::new();
    let before = translator.translate(&state);
    assert!(before.is_clean() && translator.translated() > 2000);
    assert_eq!(translator.translate(&state), before);
    assert_eq!(translator.translated(), 0);
    state.apply(object(route(7, "/other")));
    let after = translator.translate(&state);
    assert_eq!(translator.translated(), 1);
    assert_eq!(after.parts.iter().filter(|(name, part)| before.parts.get(name) != Some(part)).count(), 1);
    state.apply(object(slice("10.0.0.2")));
    let moved = translator.translate(&state);
    assert_eq!(translator.translated(), 1);
    let changed: Vec<String> = moved
        .parts
        .iter()
        .filter(|(name, part)| after.parts.get(name) != Some(part))
        .map(|(n, _)| n.to_string())
        .collect();
    assert_eq!(changed, ["upstream/shop/orders:80"]);
}

/// Whether each object of the cluster state is served, in a translation with these quotas.
fn served(state: &ClusterState, total: usize, shard: usize) -> Vec<(String, bool)> {
    let translation = Translator::limited(total, shard).translate(state);
    let all = translation.statuses.sorted().into_iter().filter(|(object, _)| &*object.kind != "Stage");
    all.map(|(object, desired)| (object.id(), desired.served == Served::Yes)).collect()
}

#[test]
fn a_namespace_that_exceeds_its_quota_closes_only_its_own_newest_objects() {
    let mut state = ClusterState::default();
    for (namespace, routes) in [("large", 3), ("small", 1)] {
        let meta = json!({"name": "prod", "namespace": namespace});
        state.apply(object(
            json!({"kind": "Stage", "metadata": meta, "spec": {"hostnames": [format!("{namespace}.example")]}}),
        ));
        for n in 0..routes {
            let mut route = route(n, "/p");
            route["metadata"]["namespace"] = json!(namespace);
            route["metadata"]["creationTimestamp"] = json!(format!("2026-01-01T00:00:{:02}Z", 10 - n));
            route["spec"]["rules"][0]["path"] = json!(format!("/p{n}"));
            route["spec"]["rules"][0]["integration"] = json!({"type": "Mock", "mock": {"body": "x".repeat(5000)}});
            state.apply(object(route));
        }
    }
    let of = |n: usize, fits: bool| (format!("large/r{n}"), fits);
    let small = ("small/r0".to_owned(), true);
    assert_eq!(served(&state, 30_000, usize::MAX), [of(0, true), of(1, true), of(2, true), small.clone()]);
    assert_eq!(served(&state, 20_000, usize::MAX), [of(0, false), of(1, true), of(2, true), small.clone()]);
    assert_eq!(served(&state, 15_000, usize::MAX), [of(0, false), of(1, false), of(2, true), small]);
    let cut = Translator::limited(20_000, usize::MAX).translate(&state);
    let part = cut.parts.get(&"route/large/r0".parse().unwrap()).unwrap();
    assert!(part.json.contains("/p0") && part.json.contains("Invalid"), "it keeps its place: {}", part.json);
    let why = &cut.statuses[&sluice_wire::ObjectRef::new("ApiRoute", "large", "r0")].conditions[0];
    assert_eq!((why.status.as_str(), why.reason), ("False", "QuotaExceeded"), "{why:?}");
}

#[test]
fn a_shard_of_keys_never_grows_longer_than_proxies_take() {
    let mut state = ClusterState::default();
    for n in 0..2000 {
        let meta = |name: String| json!({"name": name, "namespace": "shop", "creationTimestamp": format!("2026-01-01T00:{:02}:00Z", n % 60)});
        state.apply(object(json!({"kind": "Secret", "metadata": meta(format!("s{n}")), "stringData": {"api-key": format!("sk_{n:030}")}})));
        let spec = json!({"secret": {"name": format!("s{n}")}});
        state.apply(object(json!({"kind": "ApiKey", "metadata": meta(format!("k{n}")), "spec": spec})));
    }
    let translation = Translator::limited(usize::MAX, 1000).translate(&state);
    assert_eq!(translation.parts.len(), 64);
    assert!(translation.parts.iter().all(|(_, part)| part.json.len() <= 1100));
    assert!(translation.statuses.iter().any(|(_, desired)| desired.served == Served::Yes));
    assert!(!translation.is_clean());
}

#[test]
fn an_object_longer_than_a_part_keeps_its_places_and_rejects_requests() {
    let mut state = ClusterState::default();
    state.apply(object(json!({"kind": "Stage", "metadata": {"name": "prod", "namespace": "shop"}, "spec": {}})));
    let mut long = route(1, "/long");
    let body = "x".repeat(sluice_wire::MAX_PART_BYTES);
    long["spec"]["rules"][0]["integration"] = json!({"type": "Mock", "mock": {"body": body}});
    state.apply(object(long));
    let translation = Translator::new().translate(&state);
    let part = translation.parts.get(&"route/shop/r1".parse().unwrap()).unwrap();
    assert!(part.json.len() < 1000 && part.json.contains("/long") && part.json.contains("Invalid"), "{}", part.json);
    let status = &translation.statuses[&sluice_wire::ObjectRef::new("ApiRoute", "shop", "r1")];
    assert_eq!(status.conditions[0].reason, "Invalid");
}

#[test]
fn a_key_is_made_only_when_it_is_known_that_there_is_none() {
    let mut state = ClusterState::default();
    let secret = (Kind::Secret, ObjectKey::new("shop", "acme-api-key"));
    let key = json!({"kind": "ApiKey", "metadata": {"name": "acme", "namespace": "shop"}, "spec": {}});
    state.apply(object(key));
    state.unknown.insert(secret.clone());
    let mut translator = Translator::new();
    let makes = |translation: &Translation| {
        let desired = &translation.statuses[&sluice_wire::ObjectRef::new("ApiKey", "shop", "acme")];
        let condition = &desired.conditions[1];
        assert_eq!((condition.status.as_str(), condition.reason), ("False", "SecretNotFound"));
        matches!(desired.detail, Detail::ApiKey { must_generate: true, .. })
    };
    assert!(!makes(&translator.translate(&state)));
    state.unknown.clear();
    assert!(makes(&translator.translate_changed(&state, &BTreeSet::from([secret])).unwrap()));
}

/// The cluster state of the tests of Principals: two in the namespace `shop`, one in `store`, and other objects.
fn principals() -> ClusterState {
    let mut state = ClusterState::default();
    let meta = |name: &str, namespace: &str| json!({"name": name, "namespace": namespace});
    state.apply(object(json!({"kind": "Stage", "metadata": meta("prod", "shop"), "spec": {}})));
    state.apply(object(route(1, "/a")));
    for (number, (name, namespace)) in [("a", "shop"), ("b", "shop"), ("c", "store")].into_iter().enumerate() {
        let data = json!({"AWS_ACCESS_KEY_ID": format!("SLCE{number:016}"), "AWS_SECRET_ACCESS_KEY": "s".repeat(40)});
        state.apply(object(json!({"kind": "Secret", "metadata": meta(name, namespace), "stringData": data})));
        let spec = json!({"accessKeys": [{"secret": {"name": name}}]});
        state.apply(object(json!({"kind": "Principal", "metadata": meta(name, namespace), "spec": spec})));
        state.apply(object(iam(namespace, "us-east-1")));
    }
    state
}

fn iam(namespace: &str, region: &str) -> Value {
    let meta = json!({"name": "aws", "namespace": namespace});
    json!({"kind": "Authorizer", "metadata": meta, "spec": {"type": "Iam", "iam": {"regions": [region]}}})
}

/// The parts that differ.
fn changed(before: &Translation, now: &Translation) -> Vec<String> {
    let differs = |(name, part): &(&PartName, &std::sync::Arc<sluice_wire::Part>)| before.parts.get(name) != Some(part);
    let mut names: Vec<String> = now.parts.iter().filter(differs).map(|(name, _)| name.to_string()).collect();
    names.sort();
    names
}

/// The days and regions of the first access key of a Principal.
fn scopes(translation: &Translation, namespace: &str, name: &str) -> Vec<(String, String)> {
    let name = PartName::of_object(PartKind::Principal, namespace, name);
    let PartBody::Principal(part) = translation.parts.get(&name).unwrap().decode().unwrap() else { panic!() };
    part.keys[0].signing_keys.iter().map(|key| (key.date.clone(), key.region.clone())).collect()
}

#[test]
fn another_day_translates_the_principals_alone() {
    let state = principals();
    let mut translator = Translator::new().with_days(days(4));
    let before = translator.translate(&state);
    let east = |day: &str| (day.to_owned(), "us-east-1".to_owned());
    let first_and_last = |translation: &Translation| {
        let scopes = scopes(translation, "shop", "a");
        (scopes.len(), scopes.first().cloned().unwrap(), scopes.last().cloned().unwrap())
    };
    assert_eq!(first_and_last(&before), (9, east("20251229"), east("20260106")));
    translator.set_days(days(4));
    assert!(translator.translate_changed(&state, &BTreeSet::new()).is_none(), "the same day");
    translator.set_days(days(5));
    let after = translator.translate_changed(&state, &BTreeSet::new()).unwrap();
    assert_eq!(translator.translated(), 3);
    assert_eq!(changed(&before, &after), ["principal/shop/a", "principal/shop/b", "principal/store/c"]);
    assert_eq!(first_and_last(&after), (9, east("20251230"), east("20260107")));
    assert_eq!(after.statuses, before.statuses);
    assert!(translator.translate_changed(&state, &BTreeSet::new()).is_none(), "once");
}

#[test]
fn a_changed_iam_authorizer_translates_the_principals_of_its_namespace_alone() {
    let mut state = principals();
    let mut translator = Translator::new().with_days(days(4));
    let before = translator.translate(&state);
    state.apply(object(iam("shop", "eu-west-1")));
    let among = BTreeSet::from([(Kind::Authorizer, ObjectKey::new("shop", "aws"))]);
    let after = translator.translate_changed(&state, &among).unwrap();
    assert_eq!(translator.translated(), 3, "the Authorizer and two Principals");
    assert_eq!(changed(&before, &after), ["authorizer/shop/aws", "principal/shop/a", "principal/shop/b"]);
    assert!(scopes(&after, "shop", "b").iter().all(|(_, region)| region == "eu-west-1"));
    // The type changes: the Principals are not accepted any more.
    let mut jwt = iam("shop", "eu-west-1");
    jwt["spec"] = json!({"type": "Jwt", "jwt": {"issuers": [{"issuer": "https://idp.example", "audiences": ["a"]}]}});
    state.apply(object(jwt));
    let after = translator.translate_changed(&state, &among).unwrap();
    assert!(scopes(&after, "shop", "a").is_empty() && scopes(&after, "store", "c").len() == 9);
    assert_eq!(after, Translator::new().with_days(days(4)).translate(&state));
}

#[test]
fn an_access_key_is_made_only_when_it_is_known_that_there_is_none() {
    let mut state = ClusterState::default();
    let secret = (Kind::Secret, ObjectKey::new("shop", "reporting-access-key"));
    state.apply(object(
        json!({"kind": "Principal", "metadata": {"name": "reporting", "namespace": "shop"}, "spec": {}}),
    ));
    state.unknown.insert(secret.clone());
    let mut translator = Translator::new();
    let makes = |translation: &Translation| {
        let desired = &translation.statuses[&sluice_wire::ObjectRef::new("Principal", "shop", "reporting")];
        assert_eq!(desired.conditions[1].reason, "SecretNotFound");
        desired.detail.must_generate()
    };
    assert!(!makes(&translator.translate(&state)));
    state.unknown.clear();
    assert!(makes(&translator.translate_changed(&state, &BTreeSet::from([secret])).unwrap()));
}

#[test]
fn signing_keys_are_those_that_aws_documents() {
    // https://docs.aws.amazon.com/general/latest/gr/signature-v4-examples.html
    let (secret, expected) =
        ("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "9HgOLZ9l+olfnGezLOG68LDYpDUFoAChqeCQ1BTbQE0=");
    let mut state = ClusterState::default();
    let meta = |name: &str| json!({"name": name, "namespace": "shop"});
    let data = json!({"AWS_ACCESS_KEY_ID": "SLCEAAAAAAAAAAAAAAA1", "AWS_SECRET_ACCESS_KEY": secret});
    state.apply(object(json!({"kind": "Secret", "metadata": meta("reporting-access-key"), "stringData": data})));
    state.apply(object(json!({"kind": "Principal", "metadata": meta("reporting"), "spec": {}})));
    let mut authorizer = iam("shop", "us-east-1");
    authorizer["spec"]["iam"]["service"] = json!("iam");
    state.apply(object(authorizer));
    let days = SigningDays::around("2012-02-15T00:00:00Z".parse().unwrap(), 1);
    let translation = Translator::new().with_days(days).translate(&state);
    let part = translation.parts.get(&PartName::of_object(PartKind::Principal, "shop", "reporting")).unwrap();
    let PartBody::Principal(body) = part.decode().unwrap() else { panic!() };
    let key = body.keys[0].signing_keys.iter().find(|key| key.date == "20120215").unwrap();
    assert_eq!((key.key.as_str(), key.service.as_str()), (expected, "iam"));
    assert!(part.may_hold_secrets() && !part.json.contains(secret));
    let shown = format!("{:?} {:?}", translation.statuses, translation.parts.iter().collect::<Vec<_>>());
    assert!(!shown.contains(secret) && !shown.contains(expected));
}

#[test]
fn a_principal_that_exceeds_the_quota_keeps_its_place_without_keys_and_policies() {
    let mut state = principals();
    let data = "x".repeat(3000);
    let document = json!({"Id": data, "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}});
    let spec = json!({"accessKeys": [{"secret": {"name": "a"}}], "policies": [{"document": document}]});
    let meta = json!({"name": "a", "namespace": "shop", "creationTimestamp": "2026-02-01T00:00:00Z"});
    state.apply(object(json!({"kind": "Principal", "metadata": meta, "spec": spec})));
    let translation = Translator::limited(6000, usize::MAX).with_days(days(4)).translate(&state);
    let name = PartName::of_object(PartKind::Principal, "shop", "a");
    let PartBody::Principal(part) = translation.parts.get(&name).unwrap().decode().unwrap() else { panic!() };
    assert!(part.invalid.is_some() && part.keys.is_empty() && part.policies.is_empty(), "{part:?}");
    let status = &translation.statuses[&sluice_wire::ObjectRef::new("Principal", "shop", "a")];
    assert_eq!((status.conditions[0].reason, status.served), ("QuotaExceeded", Served::Nothing));
    assert!(matches!(&status.detail, Detail::Principal { access_key_ids, .. } if access_key_ids.is_empty()));
    assert_eq!(scopes(&translation, "store", "c").len(), 9, "another namespace is not affected");
}
