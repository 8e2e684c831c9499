//! Whatever happens in whatever order: a translator that remembers says what one from scratch says.

use proptest::prelude::*;
use serde_json::{Value, json};
use sluice_operator::translate::{Translator, translate};
use sluice_operator::world::{Kind, ObjectKey, World};

use crate::objects::object;

/// One step: an object appears, changes or goes. Few names, so that steps meet.
#[derive(Clone, Debug)]
struct Step {
    kind: Kind,
    name: u8,
    shape: u8,
    gone: bool,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kinds = prop::sample::select(vec![
        Kind::Stage,
        Kind::ApiRoute,
        Kind::ApiRoute,
        Kind::Authorizer,
        Kind::ApiKey,
        Kind::UsagePlan,
        Kind::Service,
        Kind::EndpointSlice,
        Kind::Secret,
        Kind::ConfigMap,
    ]);
    let step = (kinds, 0..3_u8, any::<u8>(), prop::bool::weighted(0.2));
    let step = step.prop_map(|(kind, name, shape, gone)| Step { kind, name, shape, gone });
    prop::collection::vec(step, 1..60)
}

fn value(step: &Step) -> Value {
    let Step { kind, name, shape, .. } = step;
    let (low, high) = (shape % 3, (shape / 3) % 3);
    let spec = match kind {
        Kind::Stage => json!({
            "hostnames": if low == 0 { vec![] } else { vec![format!("h{high}.example")] },
            "basePath": if shape % 7 == 6 { "bad" } else { "/" },
            "tls": if shape % 5 == 4 { json!({"secretName": format!("n{high}")}) } else { Value::Null },
        }),
        Kind::ApiRoute => json!({
            "stages": [{"name": format!("n{low}")}, {"name": format!("n{}", (low + 1) % 3)}],
            "authorizer": if shape % 4 == 0 { json!({"name": format!("n{high}")}) } else { json!({"type": "None"}) },
            "rules": [
                {"name": "a", "methods": ["GET", "POST"], "path": format!("/p{high}"),
                 "integration": {"type": "Service", "service": {"name": format!("n{low}"), "port": 80}}},
                {"name": "b", "methods": ["GET"], "path": if shape % 6 == 5 { "bad" } else { "/q/{id}" },
                 "integration": {"type": "Mock", "mock": {}}},
            ],
        }),
        Kind::Authorizer => json!({"type": "Jwt", "jwt": {"issuers": [{
            "issuer": "https://idp.example", "audiences": ["a"],
            "jwks": {"type": "ConfigMap", "configMap": {"name": format!("n{low}")}},
        }]}}),
        Kind::ApiKey => json!({
            "enabled": shape % 5 != 4, "plans": [format!("n{high}")],
            "secret": if low == 2 { Value::Null } else { json!({"name": format!("n{low}")}) },
        }),
        Kind::UsagePlan => json!({"stages": [{
            "name": format!("n{low}"), "throttles": [{"rule": format!("n{high}/a"), "rate": 1.0, "burst": 1}],
        }]}),
        Kind::Service => json!({"ports": [{"port": if low == 2 { 81 } else { 80 }, "name": "web"}]}),
        _ => Value::Null,
    };
    let mut value = json!({
        "kind": kind.as_str(),
        "metadata": {"name": format!("n{name}"), "namespace": "shop", "generation": shape,
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
        Kind::Secret => value["stringData"] = json!({"api-key": format!("sk_{:030}", high)}),
        Kind::ConfigMap => value["data"] = json!({"jwks.json": if low == 0 { "{}" } else { r#"{"keys":[{}]}"# }}),
        Kind::Stage if shape % 11 == 10 => value["spec"] = json!("unreadable"),
        _ => value["spec"] = spec,
    }
    value
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn remembering_changes_nothing(steps in steps(), batch in 1..5_usize) {
        let mut translator = Translator::new();
        let mut world = World::default();
        for (at, step) in steps.iter().enumerate() {
            if step.gone {
                world.remove(step.kind, &ObjectKey::new("shop", format!("n{}", step.name)));
            } else {
                world.apply(object(value(step)));
            }
            if at % batch == 0 {
                prop_assert_eq!(translator.translate(&world), translate(&world), "after step {} of {:?}", at, steps);
            }
        }
        prop_assert_eq!(translator.translate(&world), translate(&world));
    }
}

fn route(name: usize, path: &str) -> Value {
    json!({
        "kind": "ApiRoute", "metadata": {"name": format!("r{name}"), "namespace": "shop"},
        "spec": {"stages": [{"name": "prod"}], "authorizer": {"type": "None"}, "rules": [{
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
    let mut world = World::default();
    let meta = json!({"name": "prod", "namespace": "shop"});
    world.apply(object(json!({"kind": "Stage", "metadata": meta, "spec": {}})));
    let meta = json!({"name": "orders", "namespace": "shop"});
    world.apply(object(json!({"kind": "Service", "metadata": meta, "spec": {"ports": [{"port": 80}]}})));
    world.apply(object(slice("10.0.0.1")));
    (0..2000).for_each(|n| world.apply(object(route(n, &format!("/p{n}")))));
    let mut translator = Translator::new();
    let before = translator.translate(&world);
    assert!(before.is_clean() && translator.translated() > 2000);
    assert_eq!(translator.translate(&world), before);
    assert_eq!(translator.translated(), 0);
    world.apply(object(route(7, "/other")));
    let after = translator.translate(&world);
    assert_eq!(translator.translated(), 1);
    assert_eq!(after.parts.iter().filter(|(name, part)| before.parts.get(*name) != Some(part)).count(), 1);
    world.apply(object(slice("10.0.0.2")));
    let moved = translator.translate(&world);
    assert_eq!(translator.translated(), 1);
    let changed: Vec<String> = moved
        .parts
        .iter()
        .filter(|(name, part)| after.parts.get(*name) != Some(part))
        .map(|(n, _)| n.to_string())
        .collect();
    assert_eq!(changed, ["upstream/shop/orders:80"]);
}
