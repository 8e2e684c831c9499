//! Watches an API server into a ClusterState. A bad object is only itself unreadable, and nothing is shown before every initial
//! list is complete: an object that nobody has answered for yet is unknown, not absent. What the cluster state leads to is not
//! known here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use kube::api::{Api, DynamicObject};
use kube::core::ApiResource;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster_state::ClusterState;
use crate::objects::{Kind, Object, ObjectKey, Unparsable, for_kind};

mod barrier;

use barrier::{Failure, SyncBarrier};

/// A watch is renewed that often, so that one that hangs without a word is noticed: see [`READ_TIMEOUT`].
const WATCH_SECONDS: u32 = 50;
/// How long nothing may be heard from the API server: a little longer than a watch without any event.
pub const READ_TIMEOUT: Duration = Duration::from_secs(55);
/// What is watched as a whole.
const KINDS: [Kind; 7] =
    [Kind::Stage, Kind::ApiRoute, Kind::Authorizer, Kind::ApiKey, Kind::UsagePlan, Kind::Service, Kind::EndpointSlice];
/// Changes that wait to be taken in.
const QUEUE: usize = 1024;
/// At most so many changes are taken in before they are shown.
const BATCH: usize = 4096;

/// What is watched: all objects of a kind, or one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Scope {
    All(Kind),
    One(Kind, ObjectKey),
}

impl Scope {
    fn kind(&self) -> Kind {
        match self {
            Self::All(kind) | Self::One(kind, _) => *kind,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::All(kind) => write!(f, "all objects of kind {kind}"),
            Self::One(kind, key) => write!(f, "{kind} {key}"),
        }
    }
}

/// What a watch saw. The number tells a watch from an earlier one of the same scope.
struct WatchEvent {
    scope: Scope,
    watch: u64,
    change: Change,
}

enum Change {
    /// Everything there is.
    All(Vec<Object>),
    Apply(Box<Object>),
    Delete(ObjectKey),
    /// There was no answer, or none that says what there is.
    Failed(Failure),
}

/// Takes the cluster state in until `stop`. `show` gets the cluster state and which of its objects changed; it is called as often as
/// changes come, with all that came meanwhile.
pub async fn run(
    client: Client,
    stop: CancellationToken,
    mut show: impl FnMut(&ClusterState, &BTreeSet<(Kind, ObjectKey)>) + Send,
) {
    let (events, mut seen) = mpsc::channel(QUEUE);
    let mut keeper = WatchManager {
        client,
        events,
        watches: BTreeMap::new(),
        next: 0,
        named: BTreeMap::new(),
        owners: BTreeMap::new(),
        state: ClusterState::default(),
        waiting: SyncBarrier::new(KINDS),
    };
    for kind in KINDS {
        keeper.watch(Scope::All(kind));
    }
    let mut changed = BTreeSet::new();
    loop {
        let wait = keeper.waiting.until();
        let first = tokio::select! {
            () = stop.cancelled() => return,
            first = seen.recv() => first,
            () = tokio::time::sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => None,
        };
        if let Some(first) = first {
            keeper.take(first, &mut changed);
        }
        for _ in 0..BATCH {
            let Ok(next) = seen.try_recv() else { break };
            keeper.take(next, &mut changed);
        }
        if !changed.is_empty() {
            keeper.waiting.changed();
        }
        if keeper.waiting.is_over() {
            show(&keeper.state, &changed);
            keeper.waiting.shown();
            changed.clear();
        }
    }
}

struct Watch {
    id: u64,
    task: JoinHandle<()>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct WatchManager {
    client: Client,
    events: mpsc::Sender<WatchEvent>,
    watches: BTreeMap<Scope, Watch>,
    next: u64,
    /// Which Secrets and ConfigMaps an object names.
    named: BTreeMap<(Kind, ObjectKey), BTreeSet<(Kind, ObjectKey)>>,
    /// By how many objects each is named.
    owners: BTreeMap<(Kind, ObjectKey), usize>,
    state: ClusterState,
    waiting: SyncBarrier,
}

impl WatchManager {
    fn watch(&mut self, scope: Scope) {
        self.next += 1;
        let id = self.next;
        let task = tokio::spawn(follow(self.client.clone(), scope.clone(), id, self.events.clone()));
        if let Scope::One(kind, key) = &scope {
            self.waiting.begin((*kind, key.clone()));
            self.state.unknown.insert((*kind, key.clone()));
        }
        self.watches.insert(scope, Watch { id, task });
    }

    fn take(&mut self, seen: WatchEvent, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        let WatchEvent { scope, watch: id, change } = seen;
        if self.watches.get(&scope).is_none_or(|watch| watch.id != id) {
            return;
        }
        match change {
            Change::Apply(object) => self.apply(*object, changed),
            Change::Delete(key) => self.remove(scope.kind(), &key, changed),
            Change::Failed(failure) => {
                if let Scope::One(kind, key) = scope {
                    self.waiting.failed(&(kind, key), failure);
                }
            }
            Change::All(objects) => {
                tracing::debug!(scope = %scope, objects = objects.len(), "list complete");
                let there: BTreeSet<ObjectKey> = objects.iter().map(|object| object.identity().1).collect();
                let before = match &scope {
                    Scope::All(kind) => self.state.keys(*kind),
                    Scope::One(_, key) => vec![key.clone()],
                };
                for key in before.iter().filter(|key| !there.contains(*key)) {
                    self.remove(scope.kind(), key, changed);
                }
                for object in objects {
                    self.apply(object, changed);
                }
                // Even an empty list is news: the first one completes the cluster state.
                if let Scope::One(kind, key) = scope {
                    let named = (kind, key);
                    self.state.unknown.remove(&named);
                    self.waiting.end(&named);
                    changed.insert(named);
                } else {
                    self.waiting.listed(scope.kind());
                    changed.insert((scope.kind(), ObjectKey::new("", "")));
                }
            }
        }
    }

    fn apply(&mut self, object: Object, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        let identity = object.identity();
        if identity.0.is_own() {
            self.name(&identity, object.names().into_iter().collect(), changed);
        }
        self.state.apply(object);
        changed.insert(identity);
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        let identity = (kind, key.clone());
        if kind.is_own() {
            self.name(&identity, BTreeSet::new(), changed);
        }
        self.state.remove(kind, key);
        changed.insert(identity);
    }

    /// Starts and stops watches as an object names other things than before.
    fn name(
        &mut self,
        owner: &(Kind, ObjectKey),
        now: BTreeSet<(Kind, ObjectKey)>,
        changed: &mut BTreeSet<(Kind, ObjectKey)>,
    ) {
        let before = self.named.remove(owner).unwrap_or_default();
        if !now.is_empty() {
            self.named.insert(owner.clone(), now.clone());
        }
        for (kind, key) in before.difference(&now) {
            let named = (*kind, key.clone());
            let left = self.owners.get_mut(&named).map_or(0, |owners| {
                *owners -= 1;
                *owners
            });
            if left == 0 {
                self.owners.remove(&named);
                self.watches.remove(&Scope::One(*kind, key.clone()));
                self.waiting.end(&named);
                self.state.remove(*kind, key);
                changed.insert(named);
            }
        }
        for (kind, key) in now.difference(&before) {
            let owners = self.owners.entry((*kind, key.clone())).or_default();
            *owners += 1;
            if *owners == 1 {
                self.watch(Scope::One(*kind, key.clone()));
                changed.insert((*kind, key.clone()));
            }
        }
    }
}

async fn follow(client: Client, scope: Scope, id: u64, events: mpsc::Sender<WatchEvent>) {
    for_kind!(scope.kind(), K => follow_kind::<K>(client, scope, id, events).await);
}

async fn follow_kind<K>(client: Client, scope: Scope, id: u64, events: mpsc::Sender<WatchEvent>)
where
    K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    Object: From<K>,
{
    let resource = ApiResource::erase::<K>(&());
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let (api, config): (Api<DynamicObject>, _) = match &scope {
        Scope::All(_) => (Api::all_with(client, &resource), config.any_semantic()),
        Scope::One(_, key) => {
            let config = config.fields(&format!("metadata.name={}", key.name));
            (Api::namespaced_with(client, &key.namespace, &resource), config)
        }
    };
    let kind = scope.kind();
    let mut stream = std::pin::pin!(watcher(api, config).default_backoff());
    let mut list = Vec::new();
    while let Some(event) = stream.next().await {
        let change = match event {
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(scope = %scope, %error, cause, "a watch failed and is tried again");
                Change::Failed(failure(&error))
            }
            Ok(watcher::Event::Init) => {
                list = Vec::new();
                continue;
            }
            Ok(watcher::Event::InitApply(object)) => {
                list.push(parse::<K>(kind, object));
                continue;
            }
            Ok(watcher::Event::InitDone) => Change::All(std::mem::take(&mut list)),
            Ok(watcher::Event::Apply(object)) => Change::Apply(Box::new(parse::<K>(kind, object))),
            Ok(watcher::Event::Delete(object)) => Change::Delete(key_of(&object)),
        };
        if events.send(WatchEvent { scope: scope.clone(), watch: id, change }).await.is_err() {
            return;
        }
    }
}

fn failure(error: &watcher::Error) -> Failure {
    let code = match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => status.code,
        watcher::Error::WatchError(status) => status.code,
        _ => return Failure::Unanswered,
    };
    if matches!(code, 403 | 404) { Failure::Denied } else { Failure::BadAnswer }
}

fn key_of(object: &DynamicObject) -> ObjectKey {
    ObjectKey::new(object.namespace().unwrap_or_default(), object.name_any())
}

fn parse<K>(kind: Kind, mut object: DynamicObject) -> Object
where
    K: kube::Resource<DynamicType = ()> + DeserializeOwned,
    Object: From<K>,
{
    let key = key_of(&object);
    let (generation, uid) = (object.metadata.generation, object.metadata.uid.clone());
    object.metadata.managed_fields = None;
    match object.try_parse::<K>() {
        Ok(object) => Object::from(object),
        Err(error) => {
            // The cause alone: it names the field, and the outer text names Rust types.
            let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
            tracing::warn!(object = %kind.object(&key), error = why, "an object cannot be read");
            Object::Unparsable(kind, key, Unparsable { generation, uid, why })
        }
    }
}
