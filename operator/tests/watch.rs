//! Watches of an API server that does not serve every kind. A fake server changes its responses.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use kube::Client;
use serde_json::{Value, json};
use sluice_kit::Backend;
use sluice_operator::objects::{Kind, ObjectKey, Watch};
use sluice_operator::watch::{self, WatchSettings};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// The status code for lists and watches of UsagePlans; a watch lasts until it is an error.
struct Switch {
    code: Mutex<u16>,
    changed: Condvar,
    errors: AtomicUsize,
}

impl Switch {
    fn set(&self, code: u16) {
        *self.code.lock().unwrap() = code;
        self.changed.notify_all();
    }
}

fn response(code: u16, body: &Value) -> String {
    let body = body.to_string();
    let head = format!("HTTP/1.1 {code} Some\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    format!("{head}\r\n\r\n{body}")
}

fn respond(head: &str, switch: &Switch) -> String {
    let (optional, watches) = (head.contains("/usageplans"), head.contains("watch=true"));
    let mut code = switch.code.lock().unwrap();
    if watches {
        // Watches of kinds that are always served never have an event.
        code = switch.changed.wait_while(code, |code| !optional || *code == 200).unwrap();
    }
    if optional && *code != 200 {
        switch.errors.fetch_add(1, Ordering::SeqCst);
        let status =
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": *code, "reason": "Some"});
        return response(*code, &status);
    }
    let plan = json!({"metadata": {"name": "gold", "namespace": "shop"}, "spec": {"stages": [{"name": "prod"}]}});
    let items = if optional { vec![plan] } else { Vec::new() };
    response(200, &json!({"metadata": {"resourceVersion": "1"}, "items": items}))
}

/// Watches with UsagePlan as a kind that may be absent, and returns the plans of each published state.
fn start(first: u16) -> (Arc<Switch>, mpsc::UnboundedReceiver<Vec<ObjectKey>>, impl Drop) {
    let switch = Arc::new(Switch { code: Mutex::new(first), changed: Condvar::new(), errors: AtomicUsize::new(0) });
    let seen = switch.clone();
    let server = Backend::start(move |head, _| respond(head, &seen));
    let uri = format!("http://{}", server.address).parse().unwrap();
    let client = Client::try_from(kube::Config::new(uri)).unwrap();
    let how = |kind: &Kind| (*kind, if *kind == Kind::UsagePlan { Watch::WhenServed } else { kind.watch() });
    let settings = WatchSettings {
        kinds: Kind::ALL.iter().map(how).collect(),
        absent_retry: Duration::from_millis(20),
        ..WatchSettings::default()
    };
    let (shown, states) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let show = move |state: &sluice_operator::cluster_state::ClusterState, _: &BTreeSet<_>| {
        drop(shown.send(state.keys(Kind::UsagePlan)));
    };
    tokio::spawn(watch::run(client, settings, stop.clone(), show));
    (switch, states, stop.drop_guard())
}

async fn next(states: &mut mpsc::UnboundedReceiver<Vec<ObjectKey>>) -> Vec<ObjectKey> {
    tokio::time::timeout(sluice_kit::SOON, states.recv()).await.expect("no state is shown").unwrap()
}

#[tokio::test]
async fn a_kind_that_is_not_served_does_not_block_the_start_and_is_watched_when_it_appears() {
    let (switch, mut states, _stop) = start(404);
    assert!(next(&mut states).await.is_empty(), "the first state has no plans");
    switch.set(200);
    assert_eq!(next(&mut states).await, [ObjectKey::new("shop", "gold")]);
    switch.set(404);
    assert!(next(&mut states).await.is_empty(), "objects of a kind that is not served any more are gone");
    switch.set(200);
    assert_eq!(next(&mut states).await, [ObjectKey::new("shop", "gold")]);
}

#[tokio::test]
async fn a_kind_that_may_be_absent_and_may_not_be_read_does_not_block_the_start() {
    let (_switch, mut states, _stop) = start(403);
    assert!(next(&mut states).await.is_empty());
}

#[tokio::test]
async fn objects_of_a_kind_that_may_no_longer_be_read_stay_as_they_were_seen_last() {
    let (switch, mut states, _stop) = start(200);
    assert_eq!(next(&mut states).await, [ObjectKey::new("shop", "gold")]);
    switch.set(403);
    sluice_kit::eventually_async("the watch ends with 403", || switch.errors.load(Ordering::SeqCst) > 0).await;
    switch.set(404);
    assert!(next(&mut states).await.is_empty(), "nothing is shown for 403, and 404 removes them");
}

#[tokio::test]
async fn what_is_seen_is_shown_again_without_a_change_when_it_is_asked_for() {
    let switch = Arc::new(Switch { code: Mutex::new(200), changed: Condvar::new(), errors: AtomicUsize::new(0) });
    let server = Backend::start(move |head, _| respond(head, &switch));
    let client = Client::try_from(kube::Config::new(format!("http://{}", server.address).parse().unwrap())).unwrap();
    let settings = WatchSettings::default();
    let wake = settings.wake.clone();
    let (shown, mut states) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let show = move |state: &sluice_operator::cluster_state::ClusterState, changed: &BTreeSet<_>| {
        drop(shown.send((state.keys(Kind::UsagePlan), changed.len())));
    };
    tokio::spawn(watch::run(client, settings, stop, show));
    let plans = vec![ObjectKey::new("shop", "gold")];
    let mut next =
        async || tokio::time::timeout(sluice_kit::SOON, states.recv()).await.expect("nothing is shown").unwrap();
    let (seen, changed) = next().await;
    assert!(seen == plans && changed > 0);
    for _ in 0..2 {
        wake.notify_one();
        assert_eq!(next().await, (plans.clone(), 0));
    }
}
