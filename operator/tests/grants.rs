//! Objects of other namespaces are read only while a ReferenceGrant permits a reference to them. A fake API server records what
//! the operator reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex};

use kube::Client;
use serde_json::{Value, json};
use sluice_crds::reference::{FIELDS, ReferenceField};
use sluice_kit::{Backend, eventually_async};
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{Kind, ObjectKey, Watch};
use sluice_operator::watch::{self, WatchSettings};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::references::{SHARED, grant, referrer, target};

/// An API server with a few objects. Each change gets the next resource version.
#[derive(Default)]
struct Api {
    content: Mutex<Content>,
    changed: Condvar,
}

#[derive(Default)]
struct Content {
    /// By path of the collection and name, with the version of the last change; none: deleted.
    objects: BTreeMap<(String, String), (u64, Option<Value>)>,
    version: u64,
    /// The requests for single objects, as namespace and name.
    reads: Vec<(String, String)>,
    stopped: bool,
}

impl Api {
    fn set(&self, object: &Value, there: bool) {
        let kind = Kind::named(object["kind"].as_str().unwrap()).unwrap();
        let mut content = self.content.lock().unwrap();
        content.version += 1;
        let id = format!("{}/{}", object["metadata"]["namespace"].as_str().unwrap(), object["metadata"]["name"]);
        let version = content.version;
        let mut object = object.clone();
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        content.objects.insert((kind.plural(), id), (version, there.then_some(object)));
        drop(content);
        self.changed.notify_all();
    }

    fn reads_of(&self, namespace: &str) -> usize {
        self.content.lock().unwrap().reads.iter().filter(|(of, _)| of == namespace).count()
    }

    fn stop(&self) {
        self.content.lock().unwrap().stopped = true;
        self.changed.notify_all();
    }

    fn respond(&self, head: &str) -> String {
        let target = head.split(' ').nth(1).unwrap();
        // It has no issuer of tokens.
        let Some((path, query)) = target.split_once('?') else {
            return "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned();
        };
        let segments: Vec<&str> = path.split('/').collect();
        let plural = (*segments.last().unwrap()).to_owned();
        let namespace =
            segments.iter().position(|segment| *segment == "namespaces").and_then(|at| segments.get(at + 1));
        let query = query.replace("%3D", "=");
        let query: BTreeMap<&str, &str> = query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let name = query.get("fieldSelector").map(|selector| selector.strip_prefix("metadata.name=").unwrap());
        let mut content = self.content.lock().unwrap();
        if let (Some(namespace), Some(name)) = (namespace, name) {
            content.reads.push(((*namespace).to_owned(), name.to_owned()));
        }
        let seen =
            |content: &Content, after: u64| -> Vec<(u64, bool, Value)> {
                let of_plural = content.objects.iter().filter(|((of, _), (at, _))| *of == plural && *at > after);
                let mut found: Vec<_> = of_plural
                .map(|((_, id), (at, object))| {
                    let (namespace, name) = id.split_once('/').unwrap();
                    let gone = || json!({"metadata": {
                        "namespace": namespace, "name": name.trim_matches('"'), "resourceVersion": at.to_string(),
                    }});
                    (*at, object.is_some(), object.clone().unwrap_or_else(gone))
                })
                .filter(|(_, _, object)| name.is_none_or(|name| object["metadata"]["name"] == name))
                .filter(|(_, _, object)| namespace.is_none_or(|of| object["metadata"]["namespace"] == **of))
                .collect();
                found.sort_by_key(|(at, ..)| *at);
                found
            };
        if query.get("watch") != Some(&"true") {
            let items: Vec<Value> =
                seen(&content, 0).into_iter().filter(|(_, there, _)| *there).map(|found| found.2).collect();
            return response(
                &json!({"metadata": {"resourceVersion": content.version.to_string()}, "items": items}).to_string(),
            );
        }
        let after: u64 = query["resourceVersion"].parse().unwrap();
        let content =
            self.changed.wait_while(content, |content| !content.stopped && seen(content, after).is_empty()).unwrap();
        let events = seen(&content, after).into_iter().map(|(_, there, object)| {
            json!({"type": if there { "MODIFIED" } else { "DELETED" }, "object": object}).to_string() + "\n"
        });
        response(&events.collect::<String>())
    }
}

fn response(body: &str) -> String {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
    format!("{head}\r\n\r\n{body}")
}

/// What a shown state contains.
struct Shown {
    /// Whether the object is in it, and whether it is unknown.
    object: (bool, bool),
    /// The namespaces with a grant.
    grants: BTreeSet<String>,
}

type States = mpsc::UnboundedReceiver<Shown>;

/// Watches the server for an object.
fn start(api: &Arc<Api>, named: (Kind, ObjectKey)) -> (States, impl Drop) {
    let serving = api.clone();
    let server = Backend::start(move |head, _| serving.respond(head));
    let client = Client::try_from(kube::Config::new(format!("http://{}", server.address).parse().unwrap())).unwrap();
    let (shown, states) = mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let show = move |state: &ClusterState, _: &BTreeSet<_>| {
        let object = (state.object(named.0, &named.1).is_some(), state.unknown.contains(&named));
        let grants = state.keys(Kind::ReferenceGrant).into_iter().map(|key| key.namespace).collect();
        shown.send(Shown { object, grants }).unwrap_or_default();
    };
    tokio::spawn(watch::run(client, WatchSettings::default(), stop.clone(), show));
    (states, stop.drop_guard())
}

async fn until(states: &mut States, what: &str, expected: (bool, bool)) {
    until_state(states, what, |shown| shown.object == expected).await;
}

/// Changes a grant, and waits until it is seen: of two changes after each other the second one may hide the first.
async fn grant_until(api: &Api, states: &mut States, what: &str, grant: (&Value, bool), expected: (bool, bool)) {
    let (grant, there) = grant;
    api.set(grant, there);
    let namespace = grant["metadata"]["namespace"].as_str().unwrap();
    until_state(states, what, |shown| shown.object == expected && shown.grants.contains(namespace) == there).await;
}

async fn until_state(states: &mut States, what: &str, expected: impl Fn(&Shown) -> bool) {
    let reached = async { while !expected(&states.recv().await.unwrap()) {} };
    tokio::time::timeout(sluice_kit::SOON, reached).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// The fields that refer to objects which are watched by name.
fn fields() -> impl Iterator<Item = &'static ReferenceField> {
    FIELDS.iter().filter(|field| Kind::named(field.target).unwrap().watch() == Watch::ByName)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_another_namespace_is_read_only_while_a_grant_permits_it() {
    assert_eq!(fields().count(), 18, "Secrets and ConfigMaps");
    for field in fields() {
        let name = format!("{} {}", field.kind, field.path);
        let named = (Kind::named(field.target).unwrap(), ObjectKey::new(SHARED, "target"));
        let permission = grant(SHARED, (field.kind, "shop"), field.target);
        let api = Arc::new(Api::default());
        api.set(&target(field.target, SHARED, "target"), true);
        api.set(&referrer(field), true);
        let (mut states, _stop) = start(&api, named);
        until(&mut states, &name, (false, false)).await;
        for other in [
            grant("shop", (field.kind, "shop"), field.target),
            grant(SHARED, (field.kind, "third"), field.target),
            grant(SHARED, (if field.kind == "Stage" { "ApiRoute" } else { "Stage" }, "shop"), field.target),
            grant(SHARED, (field.kind, "shop"), if field.target == "Secret" { "ConfigMap" } else { "Secret" }),
        ] {
            for there in [true, false] {
                grant_until(&api, &mut states, &name, (&other, there), (false, false)).await;
            }
        }
        assert_eq!(api.reads_of(SHARED), 0, "{name}: read without a grant");
        for round in 0..2 {
            for there in [true, false] {
                grant_until(&api, &mut states, &name, (&permission, there), (there, false)).await;
            }
            // The watch has ended: changes of the object cause no further request. One may have been on its way.
            let reads = api.reads_of(SHARED);
            for there in [true, false, true, false] {
                api.set(&target(field.target, SHARED, "target"), true);
                let third = grant("third", ("Stage", "shop"), "Secret");
                grant_until(&api, &mut states, &name, (&third, there), (false, false)).await;
            }
            assert!(api.reads_of(SHARED) <= reads + 1, "{name}: read after the grant is gone, round {round}");
        }
        // The grant as part of the first state.
        api.set(&permission, true);
        let (mut states, _stop) = start(&api, (Kind::named(field.target).unwrap(), ObjectKey::new(SHARED, "target")));
        let first = tokio::time::timeout(sluice_kit::SOON, states.recv()).await.unwrap().unwrap();
        assert_eq!(first.object, (true, false), "{name}: the first state waits for objects that grants permit to read");
        api.stop();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_names_single_objects_and_ends_for_them_alone() {
    let field = fields().find(|field| field.kind == "Stage").unwrap();
    let api = Arc::new(Api::default());
    api.set(&target("Secret", SHARED, "target"), true);
    api.set(&target("Secret", SHARED, "other"), true);
    let mut stage = referrer(field);
    stage["spec"]["tls"]["certificates"] =
        json!([{"name": "target", "namespace": SHARED}, {"name": "other", "namespace": SHARED}]);
    api.set(&stage, true);
    let mut one = grant(SHARED, ("Stage", "shop"), "Secret");
    one["spec"]["to"][0]["name"] = json!("other");
    api.set(&one, true);
    let (mut states, _stop) = start(&api, (Kind::Secret, ObjectKey::new(SHARED, "target")));
    until(&mut states, "the first state", (false, false)).await;
    let read = |name: &str| api.content.lock().unwrap().reads.iter().any(|(_, read)| read == name);
    eventually_async("the Secret of the grant is read", || read("other")).await;
    assert!(!read("target"), "the grant does not name it");
    one["spec"]["to"][0]["name"] = json!("target");
    api.set(&one, true);
    until(&mut states, "the other Secret", (true, false)).await;
    // A grant that cannot be parsed permits nothing.
    one["spec"] = json!({"from": 1});
    api.set(&one, true);
    until(&mut states, "no Secret", (false, false)).await;
    api.stop();
}
