//! A newer and an older proxy connected to this operator, over the real stream server.

use bytes::Bytes;
use serde_json::{Value, json};
use sluice_kit::eventually_async as eventually;
use sluice_operator::publish::{Rollout, programmed};
use sluice_operator::translate::{SigningDays, Translator};
use sluice_wire::{Ack, Down, FleetName, Hash, Hello, ObjectRef, Outcome, Parts, Up};

use crate::stream::{Proxy, Rig, SECRET, member, publish, rig};

impl Proxy {
    /// Sends a frame as another version writes it.
    async fn send(&self, frame: Value) {
        let text = serde_json::to_vec(&frame).unwrap();
        let length = u32::try_from(text.len()).unwrap().to_be_bytes();
        self.up.send(Bytes::from([length.to_vec(), text].concat())).await.unwrap();
    }
}

fn programmed_reason(rig: &Rig) -> (String, String) {
    let current = rig.publisher.subscribe().borrow().clone().unwrap();
    let object = ObjectRef::new("ApiRoute", "shop", "orders");
    let rollout = Rollout::of(&rig.proxies, &current);
    let condition = programmed(&object, &current.statuses[&object], &rollout).condition;
    (condition.reason.to_owned(), condition.message)
}

#[tokio::test]
async fn a_newer_proxy_is_served_and_its_unknown_frames_are_ignored() {
    let rig = rig("newer").await;
    let version = publish(&rig, "/a");
    let mut proxy = Proxy::open(&rig, SECRET).await.unwrap();
    let unknown = Hash::of(b"quota");
    proxy.send(json!({"Greeting": {}})).await;
    proxy
        .send(json!({"zone": "a", "Hello": {
            "proxy": "one", "program": "9.9", "fleet": "default", "zone": "a",
            "capabilities": ["part/stage", "part/route", "part/quota", "frame/Welcome", "frame/Lease", "feature/grpc-web"],
            "parts": {"quota/shop/gold": unknown, "route/shop/orders#canary": unknown},
        }}))
        .await;
    assert!(matches!(proxy.receive().await, Some(Down::Welcome(_))));
    proxy.send(json!({"Usage": {"key": 3}})).await;
    let delta = proxy.delta().await;
    let reported: Parts<Hash> = ["quota/shop/gold", "route/shop/orders#canary"]
        .map(|name| (name.parse().unwrap(), unknown))
        .into_iter()
        .collect();
    assert_eq!((delta.base, delta.version), (reported.version(), version));
    // This operator does not publish them: a leader of an older version takes over from a newer one.
    assert_eq!(
        delta.remove.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["route/shop/orders#canary", "quota/shop/gold"]
    );
    proxy
        .send(json!({"Ack": {"version": version, "outcome": {"Applied": {"after_ms": 3}}, "diagnostics": [], "load": 0.5}}))
        .await;
    eventually("the acknowledgement counts", || member(&rig, "one").version == Some(version)).await;
    assert_eq!(programmed_reason(&rig).0, "Programmed");

    // An outcome that the operator does not know does not count as applied.
    let next = publish(&rig, "/b");
    assert_eq!(proxy.delta().await.version, next);
    proxy.send(json!({"Ack": {"version": next, "outcome": {"Partly": {"of": 2}}}})).await;
    eventually("the outcome is known", || member(&rig, "one").rejected.is_some()).await;
    assert_eq!(programmed_reason(&rig).0, "Rejected");

    // An essential frame ends the stream.
    proxy.send(json!({"essential": true, "Handover": {}})).await;
    while proxy.receive().await.is_some() {}
    eventually("the proxy has left", || rig.proxies.is_empty()).await;
}

#[tokio::test]
async fn an_older_proxy_gets_no_frame_that_it_does_not_list_and_serves_no_kind_that_it_does_not_list() {
    let rig = rig("older").await;
    let version = publish(&rig, "/a");
    // A program from before the lists.
    let mut oldest = Proxy::open(&rig, SECRET).await.unwrap();
    oldest.send(json!({"Hello": {"proxy": "oldest", "program": "0.1", "parts": {}}})).await;
    assert!(matches!(oldest.receive().await, Some(Down::Fleet { .. })));
    assert_eq!(oldest.delta().await.version, version);
    oldest.say(&Up::Ack(Ack { version, outcome: Outcome::Applied, diagnostics: vec![] })).await;
    eventually("it serves", || programmed_reason(&rig).0 == "Programmed").await;
    // One that knows no routes gets them all the same, so that its version is the fleet's, and does not serve them.
    let capabilities = ["part/stage", "frame/Delta"].into_iter().collect();
    let mut partial = Proxy::open(&rig, SECRET).await.unwrap();
    partial.say(&Up::Hello(Hello { capabilities, ..Hello::new("partial", "0.2") })).await;
    assert_eq!(partial.delta().await.version, version);
    partial.say(&Up::Ack(Ack { version, outcome: Outcome::Applied, diagnostics: vec![] })).await;
    eventually("the acknowledgement counts", || member(&rig, "partial").version == Some(version)).await;
    let (reason, message) = programmed_reason(&rig);
    assert_eq!(reason, "Rejected");
    assert!(
        message.contains("1 of 2 proxies") && message.contains("partial") && message.contains("route"),
        "{message}"
    );
}

#[tokio::test]
async fn a_proxy_that_does_not_know_principals_is_not_counted_as_serving_them() {
    let rig = rig("before-principals").await;
    let state = crate::objects::state(
        "kind: Stage\nmetadata: {name: prod}\nspec: {}\n---\nkind: Authorizer\nmetadata: {name: aws}\nspec: {type: Iam, iam: {}}\n---\n\
         kind: ApiRoute\nmetadata: {name: orders}\nspec:\n  stages: [{name: prod}]\n  \
         authorization: {type: Authorizer, authorizer: {name: aws}}\n  \
         rules: [{name: a, methods: [GET], path: /a, integration: {type: Mock, mock: {}}}]\n---\n\
         kind: Principal\nmetadata: {name: reporting}\nspec: {}\n---\nkind: Secret\nmetadata: {name: reporting-access-key}\n\
         stringData: {AWS_ACCESS_KEY_ID: SLCEAAAAAAAAAAAAAAA1, AWS_SECRET_ACCESS_KEY: only-for-tests-only-for}\n",
    );
    let days = SigningDays::around("2026-11-27T00:00:00Z".parse().unwrap(), 7);
    rig.publisher.publish(Translator::new().with_days(days).translate(&state));
    let current = rig.publisher.subscribe().borrow().clone().unwrap();
    let version = current.of(&FleetName::default()).version;
    let reason = || {
        let object = ObjectRef::new("Principal", "shop", "reporting");
        let condition = programmed(&object, &current.statuses[&object], &Rollout::of(&rig.proxies, &current)).condition;
        (condition.reason.to_owned(), condition.message)
    };
    let mut newer = Proxy::open(&rig, SECRET).await.unwrap();
    newer.say(&Up::Hello(Hello::new("newer", "0.2"))).await;
    while !matches!(newer.receive().await, Some(Down::Delta(_))) {}
    newer.say(&Up::Ack(Ack { version, outcome: Outcome::Applied, diagnostics: vec![] })).await;
    eventually("it has the Principal", || reason().0 == "Programmed").await;
    let mut older = Proxy::open(&rig, SECRET).await.unwrap();
    older.send(json!({"Hello": {"proxy": "older", "program": "0.1", "parts": {}}})).await;
    while !matches!(older.receive().await, Some(Down::Delta(_))) {}
    older.say(&Up::Ack(Ack { version, outcome: Outcome::Applied, diagnostics: vec![] })).await;
    eventually("the acknowledgement counts", || member(&rig, "older").version == Some(version)).await;
    let (reason, message) = reason();
    assert_eq!(reason, "Rejected");
    assert!(message.contains("older") && message.contains("principal"), "{message}");
}
