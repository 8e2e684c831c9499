//! Uses of access keys that proxies report, over the stream: those of Principals that the proxy's fleet serves count, and no others.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use sluice_kit::eventually_async as eventually;
use sluice_operator::translate::{SigningDays, Translator};
use sluice_wire::{FleetName, Hello, KeyUse, ObjectRef, PartKind, PartName, Up, Used};

use crate::stream::{Proxy, SECRET, rig};

const ID: &str = "SLCEAAAAAAAAAAAAAAA1";
const OTHER: &str = "SLCEAAAAAAAAAAAAAAA2";

/// A Principal of each fleet: `ann` in `shop`, whose Stage is of the default fleet, and `bob` in `store`, whose Stage is of `edge`.
fn objects() -> String {
    let of = |namespace: &str, name: &str, id: &str, fleet: &str| {
        format!(
            r#"
kind: Stage
metadata: {{name: prod, namespace: {namespace}}}
spec: {{hostnames: [{namespace}.example], fleet: {{name: {fleet}}}}}
---
kind: Authorizer
metadata: {{name: aws, namespace: {namespace}}}
spec: {{type: Iam, iam: {{}}}}
---
kind: ApiRoute
metadata: {{name: orders, namespace: {namespace}}}
spec:
  stages: [{{name: prod}}]
  authorization: {{type: Authorizer, authorizer: {{name: aws}}}}
  rules: [{{name: a, methods: [GET], path: /a, integration: {{type: Mock, mock: {{}}}}}}]
---
kind: Secret
metadata: {{name: key, namespace: {namespace}}}
stringData: {{AWS_ACCESS_KEY_ID: {id}, AWS_SECRET_ACCESS_KEY: wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY}}
---
kind: Principal
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{accessKeys: [{{secret: {{name: key}}}}]}}
"#
        )
    };
    format!("{}---{}", of("shop", "ann", ID, "default"), of("store", "bob", OTHER, "edge"))
}

fn one(namespace: &str, name: &str, id: &str, at: u64) -> KeyUse {
    KeyUse { principal: PartName::of_object(PartKind::Principal, namespace, name), id: id.to_owned(), at }
}

#[tokio::test]
async fn a_proxy_reports_uses_of_the_principals_of_its_fleet_only() {
    let rig = rig("key-uses").await;
    let translation = Translator::new()
        .with_days(SigningDays::around(Timestamp::now(), 1))
        .translate(&crate::objects::state(&objects()));
    let fleet = |name: &str| &translation.fleets[&name.parse::<FleetName>().unwrap()];
    assert!(fleet("default").contains(&one("shop", "ann", ID, 0).principal));
    assert!(fleet("edge").contains(&one("store", "bob", OTHER, 0).principal));
    rig.publisher.publish(translation);
    let mut proxy = Proxy::open(&rig, SECRET).await.unwrap();
    proxy.say(&Up::Hello(Hello::new("one", "test"))).await;
    proxy.delta().await;

    let ann = ObjectRef::new("Principal", "shop", "ann");
    let keys = vec![
        one("shop", "ann", ID, 1_700_000_000),
        one("shop", "ann", ID, 1_700_000_060),
        one("shop", "ann", ID, 1_600_000_000),
        // An id that it does not have, another fleet's Principal, none, and another kind.
        one("shop", "ann", OTHER, 1_700_000_000),
        one("store", "bob", OTHER, 1_700_000_000),
        one("shop", "eve", ID, 1_700_000_000),
        KeyUse {
            principal: PartName::of_object(PartKind::Stage, "shop", "prod"),
            id: ID.to_owned(),
            at: 1_700_000_000,
        },
    ];
    proxy.say(&Up::Used(Used { keys })).await;
    let mut found = rig.key_uses.take();
    eventually("the report has arrived", || {
        found.append(&mut rig.key_uses.take());
        !found.is_empty()
    })
    .await;
    let at = |second| Timestamp::from_second(second).unwrap();
    assert_eq!(found.into_iter().collect::<Vec<_>>(), [((ann.clone(), ID.to_owned()), at(1_700_000_060))]);

    // A clock that is ahead.
    proxy.say(&Up::Used(Used { keys: vec![one("shop", "ann", ID, u64::MAX), one("shop", "ann", ID, 1 << 36)] })).await;
    let mut found = rig.key_uses.take();
    eventually("the report has arrived", || {
        found.append(&mut rig.key_uses.take());
        !found.is_empty()
    })
    .await;
    let reported = found[&(ann, ID.to_owned())];
    assert!(reported <= Timestamp::now() && reported.as_second() > 1_700_000_060, "{reported}");
    assert!(Timestamp::now().duration_since(reported).unsigned_abs() < Duration::from_secs(60));
}
