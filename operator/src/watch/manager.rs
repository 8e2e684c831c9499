//! Watches an API server into a [`ClusterState`]. Nothing is translated before every initial list is complete: an object whose
//! existence is not known yet is unknown, not absent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cluster_state::{CLUSTER_ISSUER, ClusterState};
use crate::gateway_api::ReferenceGrant;
use crate::objects::{Kind, Object, ObjectKey, Watch};
use crate::watch::barrier::SyncBarrier;
use crate::watch::event::{Change, Failure, Scope, WatchEvent};
use crate::watch::follow::Follow;
use crate::watch::issuer::{self, Known};
use crate::watch::named::{NamedObjects, WatchChanges};

/// Changes that wait to be applied.
const QUEUE: usize = 1024;
/// At most this many changes are applied before the cluster state is translated.
const BATCH: usize = 4096;

/// What is watched, and how.
#[derive(Clone, Debug)]
pub struct WatchSettings {
    /// The kinds.
    pub kinds: Vec<(Kind, Watch)>,
    /// How often the API server is asked for a kind that it does not serve.
    pub absent_retry: Duration,
    /// Causes a call of `show` without a change of an object.
    pub wake: Arc<Notify>,
}

impl Default for WatchSettings {
    fn default() -> Self {
        let kinds = Kind::ALL.iter().map(|kind| (*kind, kind.watch())).collect();
        Self { kinds, absent_retry: Duration::from_secs(5), wake: Arc::default() }
    }
}

/// Watches until `stop`. `show` gets the cluster state and the objects of it that changed; it is called as often as there
/// are changes, with all changes since the call before; with none when `settings.wake` is notified.
pub async fn run(
    client: Client,
    settings: WatchSettings,
    stop: CancellationToken,
    mut show: impl FnMut(&ClusterState, &BTreeSet<(Kind, ObjectKey)>) + Send,
) {
    let (events, mut arrived) = mpsc::channel(QUEUE);
    let (known, mut issuer) = watch::channel(Known::default());
    let _issuer = Running { id: 0, task: tokio::spawn(issuer::follow(client.clone(), known)) };
    let wake = settings.wake.clone();
    let mut manager = WatchManager::new(client, settings, events);
    let mut changed = BTreeSet::new();
    loop {
        let wait = manager.barrier.until();
        let first = tokio::select! {
            () = stop.cancelled() => return,
            first = arrived.recv() => first,
            Ok(()) = issuer.changed() => {
                manager.on_issuer(issuer.borrow_and_update().clone(), &mut changed);
                None
            }
            () = wake.notified() => {
                manager.barrier.changed();
                None
            }
            () = tokio::time::sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => None,
        };
        if let Some(first) = first {
            manager.on_event(first, &mut changed);
        }
        for _ in 0..BATCH {
            let Ok(next) = arrived.try_recv() else { break };
            manager.on_event(next, &mut changed);
        }
        if !changed.is_empty() {
            manager.barrier.changed();
        }
        if manager.barrier.is_over() {
            show(&manager.state, &changed);
            manager.barrier.shown();
            changed.clear();
        }
    }
}

struct Running {
    id: u64,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct WatchManager {
    client: Client,
    settings: WatchSettings,
    events: mpsc::Sender<WatchEvent>,
    watches: BTreeMap<Scope, Running>,
    next: u64,
    named: NamedObjects,
    /// The namespaces whose ReferenceGrants changed with the current event.
    regranted: BTreeSet<String>,
    state: ClusterState,
    barrier: SyncBarrier,
}

impl WatchManager {
    fn new(client: Client, settings: WatchSettings, events: mpsc::Sender<WatchEvent>) -> Self {
        let kinds = settings.kinds.iter().filter(|(_, watch)| *watch != Watch::ByName);
        let kinds: Vec<Kind> = kinds.map(|(kind, _)| *kind).collect();
        let mut manager = Self {
            client,
            settings,
            events,
            watches: BTreeMap::new(),
            next: 0,
            named: NamedObjects::default(),
            regranted: BTreeSet::new(),
            state: ClusterState::default(),
            barrier: SyncBarrier::new(kinds.iter().copied()),
        };
        for kind in kinds {
            manager.watch(Scope::All(kind));
        }
        manager
    }

    /// Whether the API server may not serve the kind.
    fn may_be_absent(&self, kind: Kind) -> bool {
        self.settings.kinds.contains(&(kind, Watch::WhenServed))
    }

    fn watch(&mut self, scope: Scope) {
        self.next += 1;
        let id = self.next;
        let absent = matches!(scope, Scope::All(kind) if self.may_be_absent(kind));
        let follow = Follow {
            client: self.client.clone(),
            scope: scope.clone(),
            watch: id,
            while_absent: absent.then_some(self.settings.absent_retry),
            events: self.events.clone(),
        };
        if let Scope::One(kind, key) = &scope {
            self.barrier.begin((*kind, key.clone()));
            self.state.unknown.insert((*kind, key.clone()));
        }
        self.watches.insert(scope, Running { id, task: tokio::spawn(follow.run()) });
    }

    fn on_event(&mut self, event: WatchEvent, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        let WatchEvent { scope, watch: id, change } = event;
        if self.watches.get(&scope).is_none_or(|watch| watch.id != id) {
            return;
        }
        match (change, scope) {
            (Change::Apply(object), _) => self.apply(*object, changed),
            (Change::Delete(key), scope) => self.remove(scope.kind(), &key, changed),
            (Change::Failed(failure), Scope::One(kind, key)) => self.barrier.failed(&(kind, key), failure),
            (Change::Failed(Failure::Denied), Scope::All(kind)) if self.may_be_absent(kind) => {
                // Start-up waits only for kinds without which nothing can be served.
                self.complete(kind, changed);
            }
            (Change::Failed(_), Scope::All(_)) => {}
            (Change::NotServed, scope) => {
                for key in self.state.keys(scope.kind()) {
                    self.remove(scope.kind(), &key, changed);
                }
                self.complete(scope.kind(), changed);
            }
            (Change::All(objects), scope) => self.listed(scope, objects, changed),
        }
        self.recheck(changed);
    }

    fn on_issuer(&mut self, known: Known, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        self.state.issuer = match known {
            Known::Nothing => return,
            Known::None(why) => Err(why),
            Known::Issuer(issuer) => Ok(Arc::new(issuer)),
        };
        self.barrier.issuer_read();
        changed.insert(CLUSTER_ISSUER.clone());
    }

    fn listed(&mut self, scope: Scope, objects: Vec<Object>, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        tracing::debug!(scope = %scope, objects = objects.len(), "initial list complete");
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
        // Before the list counts as complete: start-up waits for the objects that the grants permit to watch.
        self.recheck(changed);
        match scope {
            Scope::All(kind) => self.complete(kind, changed),
            Scope::One(kind, key) => {
                let named = (kind, key);
                self.state.unknown.remove(&named);
                self.barrier.end(&named);
                // Even an empty list is a change: the object is known to be absent now.
                changed.insert(named);
            }
        }
    }

    /// The objects of a kind are known. The first time that is a change, even when there are none.
    fn complete(&mut self, kind: Kind, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        if self.barrier.listed(kind) {
            changed.insert((kind, ObjectKey::new("", "")));
        }
    }

    fn apply(&mut self, object: Object, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        let identity = object.identity();
        let names = object.names().into_iter().collect();
        self.state.apply(object);
        self.name(identity, names, changed);
    }

    fn remove(&mut self, kind: Kind, key: &ObjectKey, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        self.state.remove(kind, key);
        self.name((kind, key.clone()), BTreeSet::new(), changed);
    }

    /// `owner` changed, and names these objects now.
    fn name(
        &mut self,
        owner: (Kind, ObjectKey),
        now: BTreeSet<(Kind, ObjectKey)>,
        changed: &mut BTreeSet<(Kind, ObjectKey)>,
    ) {
        let state = &self.state;
        let changes = self.named.replace(&owner, now, |from, to| permits(state, from, to));
        self.rewatch(changes, changed);
        if owner.0 == Kind::ReferenceGrant {
            self.regranted.insert(owner.1.namespace.clone());
        }
        changed.insert(owner);
    }

    /// Decides again about references to the namespaces whose ReferenceGrants changed.
    fn recheck(&mut self, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        for namespace in std::mem::take(&mut self.regranted) {
            let state = &self.state;
            let changes = self.named.recheck(&namespace, |from, to| permits(state, from, to));
            self.rewatch(changes, changed);
        }
    }

    /// Starts and stops watches of named objects.
    fn rewatch(&mut self, changes: WatchChanges, changed: &mut BTreeSet<(Kind, ObjectKey)>) {
        for named in changes.end {
            self.watches.remove(&Scope::One(named.0, named.1.clone()));
            self.barrier.end(&named);
            self.state.remove(named.0, &named.1);
            changed.insert(named);
        }
        for (kind, key) in changes.begin {
            self.watch(Scope::One(kind, key.clone()));
            changed.insert((kind, key));
        }
    }
}

/// Whether a ReferenceGrant permits the reference. Without one the object is not even looked up: a user who may write an object of
/// Sluice must not make the operator read Secrets of other namespaces.
fn permits(state: &ClusterState, (kind, key): &(Kind, ObjectKey), to: &(Kind, ObjectKey)) -> bool {
    let grants = state.reference_grants.group(&ReferenceGrant::of_namespace(&to.1.namespace));
    ReferenceGrant::any_permits(grants.map(|(_, grant)| &**grant), (*kind, &key.namespace), (to.0, &to.1))
}
