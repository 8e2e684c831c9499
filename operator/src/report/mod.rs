//! Says in statuses and events what became of objects: one field manager, only when something changed, latest wins.
//! What is to be said is decided by `translate` and the fleet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch as KubePatch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as EventReporter};
use serde_json::json;
use sluice_crds::condition::{ACCEPTED, Status};
use sluice_wire::ObjectRef;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::objects::{Kind, Object, for_own_kind};
use crate::publish::{Current, Fleet, Rollout, programmed};
use crate::report::debounce::Debounce;
use crate::report::key_provisioner::KeyProvisioner;
use crate::report::status_queue::StatusQueue;
use crate::translate::{DesiredStatus, Detail};

mod debounce;
mod key_provisioner;
pub mod keys;
mod status;
mod status_cache;
mod status_queue;

pub use status_cache::StatusCache;

/// Who writes statuses.
pub const FIELD_MANAGER: &str = "sluice-operator";

const PATCH_TIMEOUT: Duration = Duration::from_secs(10);
const CONCURRENT: usize = 8;
/// At most so many objects are written before it is asked again what is most urgent.
const ROUND: usize = 256;
/// What comes within this time of the first change is said together.
const COALESCE: Duration = Duration::from_millis(100);
/// Proxies come and go in groups: this much silence ends a group, at the latest after `FLEET_LIMIT`.
const FLEET_QUIET: Duration = Duration::from_secs(1);
const FLEET_LIMIT: Duration = Duration::from_secs(5);
const RETRY: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15)];
/// The longest note of an event.
const MAX_NOTE_BYTES: usize = 1000;

/// What became of writing one object's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// There is no more to say.
    All,
    /// It is tried again.
    Failed,
    /// It is said later: see `pace`.
    Later,
}

/// What became of a round of writing.
#[derive(Default)]
struct Round {
    failed: bool,
    /// Whether there is more to write at once.
    more: bool,
    /// Whether there is something that is said later.
    later: bool,
}

/// The rollout that was taken last.
struct Taken {
    of: Arc<Current>,
    /// The count of the fleet's changes.
    at: u64,
    rollout: Arc<Rollout>,
}

/// Writes statuses.
pub struct Reporter {
    client: Client,
    recorder: Recorder,
    current: watch::Receiver<Option<Arc<Current>>>,
    fleet: Fleet,
    live: StatusCache,
    metrics: Metrics,
    /// When the fleet is believed to be connected again.
    settled: Instant,
    /// What was written and is not in `live` yet.
    written: Mutex<BTreeMap<ObjectRef, (Option<String>, serde_json::Value)>>,
    taken: Mutex<Option<Taken>>,
    pace: Mutex<Debounce>,
}

impl Reporter {
    /// Reports about `current` and `fleet`; the fleet has `settle` to connect again.
    #[must_use]
    pub fn new(
        client: Client,
        current: watch::Receiver<Option<Arc<Current>>>,
        fleet: Fleet,
        live: StatusCache,
        metrics: Metrics,
        settle: Duration,
    ) -> Self {
        let reporter = EventReporter { controller: FIELD_MANAGER.to_owned(), instance: std::env::var("POD_NAME").ok() };
        let recorder = Recorder::new(client.clone(), reporter);
        let settled = Instant::now() + settle;
        let (written, taken, pace) = (Mutex::default(), Mutex::default(), Mutex::new(Debounce::new()));
        Self { client, recorder, current, fleet, live, metrics, settled, written, taken, pace }
    }

    /// Reports until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let maker = KeyProvisioner::new(self.client.clone(), self.current.clone(), self.live.clone());
        tokio::join!(maker.run(stop.clone()), self.write_all(stop));
    }

    async fn write_all(&mut self, stop: CancellationToken) {
        let mut fleet = self.fleet.changes();
        let mut live = self.live.changes();
        let mut due = StatusQueue::default();
        let mut failures = 0_usize;
        let mut round = Round::default();
        let mut settling = true;
        loop {
            if !round.more && !self.wait(&mut fleet, &mut live, failures, round.later, &stop).await {
                return;
            }
            fleet.mark_unchanged();
            live.mark_unchanged();
            let Some(current) = self.current.borrow_and_update().clone() else { continue };
            due.note(&current, &self.rollout(&current), self.live.take_changed());
            if settling && self.phase() == status::Fleet::Settled {
                settling = false;
                due.all();
            }
            round = self.round(&current, &mut due, &stop).await;
            if stop.is_cancelled() {
                return;
            }
            failures = if round.failed { failures + 1 } else { 0 };
            round.more &= !round.failed;
        }
    }

    /// Waits for something to say; false: it is time to stop.
    async fn wait(
        &mut self,
        fleet: &mut watch::Receiver<u64>,
        live: &mut watch::Receiver<u64>,
        failures: usize,
        later: bool,
        stop: &CancellationToken,
    ) -> bool {
        let retry = RETRY.get(failures.saturating_sub(1)).or(RETRY.last()).copied().unwrap_or_default();
        let retry = (failures > 0).then(|| Instant::now() + retry);
        let recount = if later { self.pace().due() } else { None };
        let again = retry.into_iter().chain(recount).min();
        let members = self.fleet.len();
        let alive = tokio::select! {
            () = stop.cancelled() => false,
            changed = self.current.changed() => changed.is_ok(),
            changed = live.changed() => changed.is_ok(),
            changed = fleet.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(self.settled), if self.settled > Instant::now() => true,
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => true,
        };
        let grown = self.fleet.len() != members;
        let settle = async { if grown { quiet(fleet).await } else { tokio::time::sleep(COALESCE).await } };
        tokio::select! {
            () = stop.cancelled() => false,
            () = settle => alive,
        }
    }

    /// Writes the most urgent of what must be written: what says nothing about its generation yet, then what is one of few.
    async fn round(&self, current: &Arc<Current>, due: &mut StatusQueue, stop: &CancellationToken) -> Round {
        let rollout = self.rollout(current);
        self.pace().count(rollout.total());
        let mut round = Round::default();
        let (mut writing, mut silent) = (Vec::new(), Vec::new());
        for object in due.open() {
            match self.patch_for(current, &rollout, object) {
                None => silent.push(object.clone()),
                Some((_, patch)) if self.is_early(&patch) => round.later = true,
                Some(_) => writing.push(object.clone()),
            }
        }
        silent.iter().for_each(|object| due.close(object));
        writing.sort_by_cached_key(|object| {
            let wanted = current.statuses.get(object).and_then(|wanted| wanted.generation);
            let live = self.live.get(object).and_then(|live| status::present(&live).generation);
            (wanted == live, &*object.kind == Kind::ApiRoute.as_str())
        });
        round.more = writing.len() > ROUND;
        writing.truncate(ROUND);
        let writes = futures::stream::iter(writing).map(async |object| {
            let written = self.write(&object).await;
            (object, written)
        });
        let mut writes = std::pin::pin!(writes.buffer_unordered(CONCURRENT));
        while let Some((object, written)) = tokio::select! {
            one = writes.next() => one,
            () = stop.cancelled() => return round,
        } {
            match written {
                Written::All => due.close(&object),
                Written::Failed => round.failed = true,
                Written::Later => round.later = true,
            }
        }
        if !round.more && !round.failed && !round.later {
            self.pace().said();
        }
        round
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, Debounce> {
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a patch can wait until the fleet has come to rest.
    fn is_early(&self, patch: &status::Patch) -> bool {
        patch.recounts && !self.pace().is_open()
    }

    /// The fleet as it is right now.
    fn rollout(&self, current: &Arc<Current>) -> Arc<Rollout> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.fleet.count();
        if let Some(taken) = &*taken
            && Arc::ptr_eq(&taken.of, current)
            && taken.at == at
        {
            return taken.rollout.clone();
        }
        let rollout = Arc::new(Rollout::of(&self.fleet, &current.published));
        *taken = Some(Taken { of: current.clone(), at, rollout: rollout.clone() });
        rollout
    }

    fn phase(&self) -> status::Fleet {
        if self.settled > Instant::now() { status::Fleet::Settling } else { status::Fleet::Settled }
    }

    fn patch_for(&self, current: &Current, rollout: &Rollout, object: &ObjectRef) -> Option<(Object, status::Patch)> {
        let wanted = current.statuses.get(object)?;
        let live = self.live.get(object)?;
        let told =
            must_generate(&wanted.detail).then(|| self.live.why_no_key(object).map(|why| without_key(wanted, &why)));
        let wanted = match &told {
            // The Secret is about to appear in the cluster state: only then there is something to say.
            Some(None) => return None,
            Some(Some(told)) => told,
            None => wanted,
        };
        let programmed = programmed(object, wanted, rollout);
        let now = Time(Timestamp::now());
        let patch = status::patch(&status::present(&live), wanted, &programmed, self.phase(), &now)?;
        // What was written already only has to come back.
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let again = written
            .get(object)
            .is_some_and(|(version, status)| *version == resource_version(&live) && *status == timeless(&patch.status));
        (!again).then_some((live, patch))
    }

    /// Writes one object's status as it should be right now.
    async fn write(&self, object: &ObjectRef) -> Written {
        // The latest wins: what was due when the round began may be old by now.
        let Some(current) = self.current.borrow().clone() else { return Written::All };
        let rollout = self.rollout(&current);
        let Some((live, patch)) = self.patch_for(&current, &rollout, object) else { return Written::All };
        if self.is_early(&patch) {
            return Written::Later;
        }
        let version = resource_version(&live);
        let without_times = timeless(&patch.status);
        let outcome = self.apply(object, live.uid(), &patch.status).await;
        let word = match &outcome {
            Ok(true) => "written",
            Ok(false) => "gone",
            Err(_) => "failed",
        };
        self.metrics.status_patches.with_label_values(&[&*object.kind, word]).inc();
        match outcome {
            Err(error) => {
                tracing::warn!(%object, error, "cannot write a status; retrying");
                Written::Failed
            }
            Ok(there) => {
                self.remember(object, version, without_times);
                if there {
                    self.tell(object, &live, &patch.transitions).await;
                }
                Written::All
            }
        }
    }

    fn remember(&self, object: &ObjectRef, version: Option<String>, status: serde_json::Value) {
        let known = self.live.len();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(object.clone(), (version, status));
        if written.len() > 2 * known.max(64) {
            written.retain(|object, _| self.live.get(object).is_some());
        }
    }

    /// Server-side apply; false: the object is gone, or another has taken its name.
    async fn apply(&self, object: &ObjectRef, uid: Option<String>, status: &serde_json::Value) -> Result<bool, String> {
        let Some(resource) = resource(&object.kind) else { return Ok(false) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": object.name, "namespace": object.namespace, "uid": uid},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = KubePatch::Apply(&body);
        match tokio::time::timeout(PATCH_TIMEOUT, api.patch_status(&object.name, &parameters, &patch)).await {
            Err(_) => Err(format!("no response within {} s", PATCH_TIMEOUT.as_secs())),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(false),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(_)) => Ok(true),
        }
    }

    async fn tell(&self, object: &ObjectRef, live: &Object, transitions: &[status::Transition]) {
        let Some(reference) = live.reference() else { return };
        for transition in transitions {
            let cut = (0..=MAX_NOTE_BYTES.min(transition.message.len())).rev();
            let end = cut.into_iter().find(|end| transition.message.is_char_boundary(*end)).unwrap_or(0);
            let event = Event {
                type_: if transition.status == Status::True { EventType::Normal } else { EventType::Warning },
                reason: transition.reason.to_owned(),
                note: transition.message.get(..end).map(str::to_owned),
                action: transition.type_.to_owned(),
                secondary: None,
            };
            match tokio::time::timeout(PATCH_TIMEOUT, self.recorder.publish(&event, &reference)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%object, %error, "cannot write an event"),
                Err(_) => tracing::warn!(%object, "writing an event timed out"),
            }
        }
    }
}

/// Waits until the fleet is quiet, or no longer.
async fn quiet(fleet: &mut watch::Receiver<u64>) {
    let limit = Instant::now() + FLEET_LIMIT;
    loop {
        fleet.mark_unchanged();
        let until = (Instant::now() + FLEET_QUIET).min(limit);
        let more = tokio::time::timeout_at(until, fleet.changed()).await;
        if more.is_err() || Instant::now() >= limit {
            return;
        }
    }
}

fn must_generate(detail: &Detail) -> bool {
    matches!(detail, Detail::ApiKey { must_generate: true, .. })
}

/// What is said of an ApiKey whose key cannot be made.
fn without_key(wanted: &DesiredStatus, why: &str) -> Arc<DesiredStatus> {
    let mut wanted = wanted.clone();
    if let Some(accepted) = wanted.conditions.iter_mut().find(|condition| condition.type_ == ACCEPTED) {
        accepted.message = format!("The operator cannot generate the key and retries: {why}.");
    }
    Arc::new(wanted)
}

fn timeless(status: &serde_json::Value) -> serde_json::Value {
    let mut status = status.clone();
    let conditions = status.get_mut("conditions").and_then(serde_json::Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        condition.remove("lastTransitionTime");
    }
    status
}

fn resource(kind: &str) -> Option<ApiResource> {
    let kind = Kind::named(kind)?;
    for_own_kind!(kind, K => ApiResource::erase::<K>(&()))
}

fn resource_version(object: &Object) -> Option<String> {
    object.meta().and_then(|meta| meta.resource_version.clone())
}
