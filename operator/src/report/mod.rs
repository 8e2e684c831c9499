//! Says in statuses and events what became of objects: one field manager, only when something changed, latest wins.
//! What is to be said is decided by `translate` and the fleet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, DynamicObject, Patch as KubePatch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::events::{Event, EventType, Recorder, Reporter as EventReporter};
use kube::{Client, Resource, ResourceExt as _};
use serde_json::json;
use sluice_crds::condition::Status;
use sluice_crds::{ApiKey, ApiRoute, Authorizer, Stage, UsagePlan};
use sluice_wire::ObjectRef;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::publish::{Current, Fleet, programmed};
use crate::translate::Detail;
use crate::world::{Kind, Object, ObjectKey, World};

pub mod keys;
mod status;
mod table;

pub use table::table;

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

/// What became of a round of writing.
struct Round {
    failed: bool,
    /// Whether there is more to write.
    more: bool,
}

/// The objects as they are in the cluster, with their statuses.
#[derive(Clone, Debug, Default)]
pub struct Live {
    objects: Arc<Mutex<BTreeMap<ObjectRef, Object>>>,
    changed: watch::Sender<u64>,
}

impl Live {
    /// Takes over what changed in the world.
    pub fn update(&self, world: &World, changed: &BTreeSet<(Kind, ObjectKey)>) {
        {
            let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
            for (kind, key) in changed.iter().filter(|(kind, _)| Kind::OURS.contains(kind)) {
                let found = match kind {
                    Kind::Stage => world.stages.get(key).cloned().map(Object::Stage),
                    Kind::ApiRoute => world.api_routes.get(key).cloned().map(Object::ApiRoute),
                    Kind::Authorizer => world.authorizers.get(key).cloned().map(Object::Authorizer),
                    Kind::ApiKey => world.api_keys.get(key).cloned().map(Object::ApiKey),
                    _ => world.usage_plans.get(key).cloned().map(Object::UsagePlan),
                };
                let unparsable = || world.unparsable.get(&(*kind, key.clone())).cloned();
                let found = found.or_else(|| unparsable().map(|why| Object::Unparsable(*kind, key.clone(), why)));
                match found {
                    Some(object) => drop(objects.insert(kind.object(key), object)),
                    None => drop(objects.remove(&kind.object(key))),
                }
            }
        }
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn get(&self, object: &ObjectRef) -> Option<Object> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).get(object).cloned()
    }
}

/// Writes statuses.
pub struct Reporter {
    client: Client,
    recorder: Recorder,
    current: watch::Receiver<Option<Arc<Current>>>,
    fleet: Fleet,
    live: Live,
    metrics: Metrics,
    /// When the fleet is believed to be connected again.
    settled: Instant,
    /// What was written and is not in `live` yet.
    written: Mutex<BTreeMap<ObjectRef, (Option<String>, serde_json::Value)>>,
}

impl Reporter {
    /// Reports about `current` and `fleet`; the fleet has `settle` to connect again.
    #[must_use]
    pub fn new(
        client: Client,
        current: watch::Receiver<Option<Arc<Current>>>,
        fleet: Fleet,
        live: Live,
        metrics: Metrics,
        settle: Duration,
    ) -> Self {
        let reporter = EventReporter { controller: FIELD_MANAGER.to_owned(), instance: std::env::var("POD_NAME").ok() };
        let recorder = Recorder::new(client.clone(), reporter);
        let settled = Instant::now() + settle;
        Self { client, recorder, current, fleet, live, metrics, settled, written: Mutex::default() }
    }

    /// Reports until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut fleet = self.fleet.changes();
        let mut live = self.live.changed.subscribe();
        let mut failures = 0_usize;
        let mut more = false;
        loop {
            if !more && !self.wait(&mut fleet, &mut live, failures, &stop).await {
                return;
            }
            fleet.mark_unchanged();
            live.mark_unchanged();
            let Some(current) = self.current.borrow_and_update().clone() else { continue };
            let round = self.round(&current, &stop).await;
            if stop.is_cancelled() {
                return;
            }
            failures = if round.failed { failures + 1 } else { 0 };
            more = round.more && !round.failed;
        }
    }

    /// Waits for something to say; false: it is time to stop.
    async fn wait(
        &mut self,
        fleet: &mut watch::Receiver<u64>,
        live: &mut watch::Receiver<u64>,
        failures: usize,
        stop: &CancellationToken,
    ) -> bool {
        let retry = RETRY.get(failures.saturating_sub(1)).or(RETRY.last()).copied().unwrap_or_default();
        let retry = (failures > 0).then(|| Instant::now() + retry);
        let members = self.fleet.len();
        let alive = tokio::select! {
            () = stop.cancelled() => false,
            changed = self.current.changed() => changed.is_ok(),
            changed = live.changed() => changed.is_ok(),
            changed = fleet.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(self.settled), if self.settled > Instant::now() => true,
            () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => true,
        };
        let grown = self.fleet.len() != members;
        let settle = async { if grown { quiet(fleet).await } else { tokio::time::sleep(COALESCE).await } };
        tokio::select! {
            () = stop.cancelled() => false,
            () = settle => alive,
        }
    }

    /// Writes the most urgent of what must be written: what says nothing about its generation yet, then what is one of few.
    async fn round(&self, current: &Current, stop: &CancellationToken) -> Round {
        let due = current.statuses.keys().filter(|object| self.is_due(current, object));
        let mut due: Vec<ObjectRef> = due.cloned().collect();
        due.sort_by_cached_key(|object| {
            let wanted = current.statuses.get(object).and_then(|wanted| wanted.generation);
            let live = self.live.get(object).and_then(|live| status::present(&live).generation);
            (wanted == live, &*object.kind == Kind::ApiRoute.as_str())
        });
        let more = due.len() > ROUND;
        due.truncate(ROUND);
        let writing =
            futures::stream::iter(due).map(async |object| self.write(&object).await).buffer_unordered(CONCURRENT);
        let all = writing.fold(false, async |failed, one| failed || one);
        tokio::select! {
            failed = all => Round { failed, more },
            () = stop.cancelled() => Round { failed: false, more },
        }
    }

    fn phase(&self) -> status::Fleet {
        if self.settled > Instant::now() { status::Fleet::Settling } else { status::Fleet::Settled }
    }

    fn patch_for(&self, current: &Current, object: &ObjectRef) -> Option<(Object, status::Patch)> {
        let wanted = current.statuses.get(object)?;
        let live = self.live.get(object)?;
        let programmed = programmed(object, wanted, &current.published, &self.fleet.members());
        let now = Time(Timestamp::now());
        let patch = status::patch(&status::present(&live), wanted, &programmed, self.phase(), &now)?;
        // What was written already only has to come back.
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let again = written
            .get(object)
            .is_some_and(|(version, status)| *version == resource_version(&live) && *status == timeless(&patch.status));
        (!again).then_some((live, patch))
    }

    fn is_due(&self, current: &Current, object: &ObjectRef) -> bool {
        let generates = current.statuses.get(object).is_some_and(|wanted| must_generate(&wanted.detail));
        generates || self.patch_for(current, object).is_some()
    }

    /// Writes one object's status as it should be right now; true: it failed.
    async fn write(&self, object: &ObjectRef) -> bool {
        // The latest wins: what was due when the round began may be old by now.
        let Some(current) = self.current.borrow().clone() else { return false };
        let mut failed = false;
        if current.statuses.get(object).is_some_and(|wanted| must_generate(&wanted.detail))
            && let Some(Object::ApiKey(api_key)) = self.live.get(object)
        {
            match keys::make(&self.client, &api_key).await {
                // The Secret is about to appear in the world: only then there is something to say.
                Ok(()) => return false,
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(%object, %error, cause, "an API key could not be made");
                    failed = true;
                }
            }
        }
        let Some((live, patch)) = self.patch_for(&current, object) else { return failed };
        let version = resource_version(&live);
        let without_times = timeless(&patch.status);
        let outcome = self.apply(object, &patch.status).await;
        let word = match &outcome {
            Ok(true) => "written",
            Ok(false) => "gone",
            Err(_) => "failed",
        };
        self.metrics.status_patches.with_label_values(&[&*object.kind, word]).inc();
        match outcome {
            Err(error) => {
                tracing::warn!(%object, error, "a status could not be written and is tried again");
                true
            }
            Ok(there) => {
                self.remember(object, version, without_times);
                if there {
                    self.tell(object, &live, &patch.transitions).await;
                }
                failed
            }
        }
    }

    fn remember(&self, object: &ObjectRef, version: Option<String>, status: serde_json::Value) {
        let known = self.live.objects.lock().unwrap_or_else(PoisonError::into_inner).len();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(object.clone(), (version, status));
        if written.len() > 2 * known.max(64) {
            written.retain(|object, _| self.live.get(object).is_some());
        }
    }

    /// Server-side apply; false: the object is gone.
    async fn apply(&self, object: &ObjectRef, status: &serde_json::Value) -> Result<bool, String> {
        let Some(resource) = resource(&object.kind) else { return Ok(false) };
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &object.namespace, &resource);
        let body = json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": object.name, "namespace": object.namespace},
            "status": status,
        });
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let patch = KubePatch::Apply(&body);
        match tokio::time::timeout(PATCH_TIMEOUT, api.patch_status(&object.name, &parameters, &patch)).await {
            Err(_) => Err(format!("no answer within {} s", PATCH_TIMEOUT.as_secs())),
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(false),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(_)) => Ok(true),
        }
    }

    async fn tell(&self, object: &ObjectRef, live: &Object, transitions: &[status::Transition]) {
        let Some(reference) = reference(live) else { return };
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
                Ok(Err(error)) => tracing::warn!(%object, %error, "an event could not be written"),
                Err(_) => tracing::warn!(%object, "an event was not written in time"),
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

fn timeless(status: &serde_json::Value) -> serde_json::Value {
    let mut status = status.clone();
    let conditions = status.get_mut("conditions").and_then(serde_json::Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        condition.remove("lastTransitionTime");
    }
    status
}

fn resource(kind: &str) -> Option<ApiResource> {
    match kind {
        "Stage" => Some(ApiResource::erase::<Stage>(&())),
        "ApiRoute" => Some(ApiResource::erase::<ApiRoute>(&())),
        "Authorizer" => Some(ApiResource::erase::<Authorizer>(&())),
        "ApiKey" => Some(ApiResource::erase::<ApiKey>(&())),
        "UsagePlan" => Some(ApiResource::erase::<UsagePlan>(&())),
        _ => None,
    }
}

fn resource_version(object: &Object) -> Option<String> {
    match object {
        Object::Stage(object) => object.resource_version(),
        Object::ApiRoute(object) => object.resource_version(),
        Object::Authorizer(object) => object.resource_version(),
        Object::ApiKey(object) => object.resource_version(),
        Object::UsagePlan(object) => object.resource_version(),
        _ => None,
    }
}

fn reference(object: &Object) -> Option<k8s_openapi::api::core::v1::ObjectReference> {
    match object {
        Object::Stage(object) => Some(object.object_ref(&())),
        Object::ApiRoute(object) => Some(object.object_ref(&())),
        Object::Authorizer(object) => Some(object.object_ref(&())),
        Object::ApiKey(object) => Some(object.object_ref(&())),
        Object::UsagePlan(object) => Some(object.object_ref(&())),
        _ => None,
    }
}
