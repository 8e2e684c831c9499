//! Decides when the status of which object is written: only when it differs, the most urgent first, always the latest. What a
//! status should be is decided by `translate`, by the proxies and by `status`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use sluice_crds::condition::ACCEPTED;
use sluice_wire::ObjectRef;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::objects::{Kind, Object};
use crate::publish::{Current, KeyUses, Proxies, Rollout, programmed};
use crate::report::debounce::Debounce;
use crate::report::expected::ExpectedProxies;
use crate::report::key_provisioner::KeyProvisioner;
use crate::report::status;
use crate::report::status_cache::StatusCache;
use crate::report::status_queue::StatusQueue;
use crate::report::writer::StatusWriter;
use crate::translate::DesiredStatus;

const CONCURRENT: usize = 8;
/// At most this many objects are written before the most urgent ones are determined again.
const ROUND: usize = 256;
/// Changes within this time of the first one are written together.
const COALESCE: Duration = Duration::from_millis(100);
/// Proxies connect and disconnect in groups: a group ends after this time without a change, at the latest after
/// `FLEET_LIMIT`.
const FLEET_STABLE: Duration = Duration::from_secs(1);
const FLEET_LIMIT: Duration = Duration::from_secs(5);
/// How often warnings are counted, and those compared that hold for a part of the time only.
const WARNINGS_INTERVAL: Duration = Duration::from_secs(30);
const RETRY: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5), Duration::from_secs(15)];

/// The outcome of writing the status of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// The status is up to date.
    Done,
    /// It is retried.
    Failed,
    /// It is written later: see `debounce`.
    Later,
}

/// The outcome of a round of writes.
#[derive(Default)]
struct Round {
    failed: bool,
    /// Whether there is more to write immediately.
    more: bool,
    /// Whether something is written later.
    later: bool,
}

/// The last computed rollout.
struct Taken {
    of: Arc<Current>,
    /// The number of changes of the proxies by then.
    at: u64,
    rollout: Arc<Rollout>,
}

/// Writes statuses.
pub struct Reporter {
    client: Client,
    writer: StatusWriter,
    current: watch::Receiver<Option<Arc<Current>>>,
    proxies: Proxies,
    cache: StatusCache,
    key_uses: KeyUses,
    metrics: Metrics,
    /// When the fleet is assumed to have reconnected.
    settled: Instant,
    /// Statuses that were written and are not in `cache` yet.
    written: Mutex<HashMap<ObjectRef, (Option<String>, serde_json::Value)>>,
    taken: Mutex<Option<Taken>>,
    debounce: Mutex<Debounce>,
    expected: OnceLock<ExpectedProxies>,
}

impl Reporter {
    /// Reports about `current` and `proxies`, which have `settle` to reconnect.
    #[must_use]
    pub fn new(
        client: Client,
        current: watch::Receiver<Option<Arc<Current>>>,
        proxies: Proxies,
        cache: StatusCache,
        metrics: Metrics,
        settle: Duration,
    ) -> Self {
        let writer = StatusWriter::new(client.clone());
        let settled = Instant::now() + settle;
        let (written, taken, debounce) = (Mutex::default(), Mutex::default(), Mutex::new(Debounce::new()));
        Self {
            client,
            writer,
            current,
            proxies,
            cache,
            key_uses: KeyUses::default(),
            metrics,
            settled,
            written,
            taken,
            debounce,
            expected: OnceLock::new(),
        }
    }

    /// With the uses of access keys that proxies report.
    #[must_use]
    pub fn with_key_uses(mut self, key_uses: KeyUses) -> Self {
        self.key_uses = key_uses;
        self
    }

    /// Reports until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        let provisioner = KeyProvisioner::new(self.client.clone(), self.current.clone(), self.cache.clone());
        let follow_uses = follow_uses(self.key_uses.clone(), self.cache.clone(), stop.clone());
        tokio::join!(provisioner.run(stop.clone()), follow_uses, self.write_all(stop));
    }

    async fn write_all(&mut self, stop: CancellationToken) {
        let mut fleet = self.proxies.changes();
        let mut cache = self.cache.changes();
        let mut queue = StatusQueue::default();
        let mut failures = 0_usize;
        let mut round = Round::default();
        let mut settling = true;
        let mut warned = None;
        loop {
            if !round.more && !self.wait(&mut fleet, &mut cache, failures, round.later, warned, &stop).await {
                return;
            }
            fleet.mark_unchanged();
            cache.mark_unchanged();
            let Some(current) = self.current.borrow_and_update().clone() else { continue };
            queue.update(&current, &self.rollout(&current), self.cache.take_changed());
            if warned.is_none_or(|warned| Instant::now() >= warned + WARNINGS_INTERVAL) {
                warned = Some(Instant::now());
                self.warn(&current, &mut queue);
            }
            if settling && self.phase() == status::Fleet::Settled {
                settling = false;
                queue.push_all();
            }
            round = self.round(&current, &mut queue, &stop).await;
            if stop.is_cancelled() {
                return;
            }
            failures = if round.failed { failures + 1 } else { 0 };
            round.more &= !round.failed;
        }
    }

    /// Waits for a change; false: it is time to stop.
    async fn wait(
        &mut self,
        fleet: &mut watch::Receiver<u64>,
        cache: &mut watch::Receiver<u64>,
        failures: usize,
        later: bool,
        warned: Option<Instant>,
        stop: &CancellationToken,
    ) -> bool {
        let retry = RETRY.get(failures.saturating_sub(1)).or(RETRY.last()).copied().unwrap_or_default();
        let retry = (failures > 0).then(|| Instant::now() + retry);
        let recount = if later { self.debounce().due() } else { None };
        let warnings = warned.map(|warned| warned + WARNINGS_INTERVAL);
        let again = retry.into_iter().chain(recount).chain(warnings).min();
        let members = self.proxies.len();
        let alive = tokio::select! {
            () = stop.cancelled() => false,
            changed = self.current.changed() => changed.is_ok(),
            changed = cache.changed() => changed.is_ok(),
            changed = fleet.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(self.settled), if self.settled > Instant::now() => true,
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => true,
        };
        let grown = self.proxies.len() != members;
        let settle = async { if grown { stable(fleet).await } else { tokio::time::sleep(COALESCE).await } };
        tokio::select! {
            () = stop.cancelled() => false,
            () = settle => alive,
        }
    }

    /// Writes the most urgent statuses: first those that are about an earlier generation, then those of kinds with few objects.
    async fn round(&self, current: &Arc<Current>, queue: &mut StatusQueue, stop: &CancellationToken) -> Round {
        let rollout = self.rollout(current);
        self.debounce().count(rollout.total());
        let mut round = Round::default();
        let (mut writing, mut up_to_date) = (Vec::new(), Vec::new());
        for object in queue.pending() {
            match self.patch_for(current, &rollout, object) {
                None => up_to_date.push(object.clone()),
                Some((_, patch)) if self.is_early(&patch) => round.later = true,
                Some(_) => writing.push(object.clone()),
            }
        }
        up_to_date.iter().for_each(|object| queue.remove(object));
        writing.sort_by_cached_key(|object| {
            let desired = current.statuses.get(object).and_then(|desired| desired.generation);
            let observed = self.cache.get(object).and_then(|found| status::present(&found).generation);
            (desired == observed, &*object.kind == Kind::ApiRoute.as_str())
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
                Written::Done => queue.remove(&object),
                Written::Failed => round.failed = true,
                Written::Later => round.later = true,
            }
        }
        if !round.more && !round.failed && !round.later {
            self.debounce().reported();
        }
        round
    }

    /// Counts the warnings that hold now, and compares the statuses of objects with warnings that depend on the time.
    fn warn(&self, current: &Current, queue: &mut StatusQueue) {
        let now = Timestamp::now().as_second();
        let mut counts: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        for (object, desired) in current.statuses.iter() {
            for warning in desired.warnings.iter().filter(|warning| warning.holds(now)) {
                *counts.entry((&*object.kind, warning.code.name)).or_default() += 1;
            }
            if desired.warnings.iter().any(|warning| warning.from.is_some() || warning.until.is_some()) {
                queue.push(object);
            }
        }
        self.metrics.warnings(&counts);
    }

    fn debounce(&self) -> std::sync::MutexGuard<'_, Debounce> {
        self.debounce.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a patch waits until the size of the fleet is stable.
    fn is_early(&self, patch: &status::Patch) -> bool {
        patch.recounts && !self.debounce().is_open()
    }

    /// The state of the proxies now.
    fn rollout(&self, current: &Arc<Current>) -> Arc<Rollout> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.proxies.count();
        if let Some(taken) = &*taken
            && Arc::ptr_eq(&taken.of, current)
            && taken.at == at
        {
            return taken.rollout.clone();
        }
        let rollout = Arc::new(Rollout::of(&self.proxies, current));
        *taken = Some(Taken { of: current.clone(), at, rollout: rollout.clone() });
        rollout
    }

    /// The numbers of proxies before the operator restarted. Statuses that are written from now on do not change them.
    fn expected(&self) -> &ExpectedProxies {
        self.expected.get_or_init(|| ExpectedProxies::of(self.cache.reported_fleets()))
    }

    fn phase(&self) -> status::Fleet {
        if self.settled > Instant::now() { status::Fleet::Settling } else { status::Fleet::Settled }
    }

    fn patch_for(&self, current: &Current, rollout: &Rollout, object: &ObjectRef) -> Option<(Object, status::Patch)> {
        let desired = current.statuses.get(object)?;
        let present = self.cache.get(object)?;
        let without = desired
            .detail
            .must_generate()
            .then(|| self.cache.key_failure(object).map(|why| without_key(desired, &why)));
        let desired = match &without {
            // The Secret is about to appear in the cluster state; the status is written then.
            Some(None) => return None,
            Some(Some(status)) => status,
            None => desired,
        };
        let observed = status::present(&present);
        let counted = |desired: &DesiredStatus, conditions: &[Condition]| {
            let found = programmed(object, desired, rollout);
            match self.phase() {
                status::Fleet::Settling => found.among(self.expected().for_object(desired, conditions)),
                status::Fleet::Settled => found,
            }
        };
        let programmed = counted(desired, &observed.conditions);
        let stages = desired.stages.iter().map(|(stage, at_stage)| counted(at_stage, observed.at_stage(stage)));
        let stages: Vec<_> = stages.collect();
        let clock = status::Clock {
            now: Time(Timestamp::now()),
            claims: self.cache.next_claim(Timestamp::now()),
            last_uses: self.cache.last_uses(object),
        };
        let patch = status::patch(&observed, desired, &programmed, &stages, self.phase(), &clock)?;
        // A status that was written already only has to arrive here.
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let again = written.get(object).is_some_and(|(version, status)| {
            *version == resource_version(&present) && *status == timeless(&patch.status)
        });
        (!again).then_some((present, patch))
    }

    /// Writes the status that one object should have now.
    async fn write(&self, object: &ObjectRef) -> Written {
        // The latest wins: a newer configuration may have been published since the round began.
        let Some(current) = self.current.borrow().clone() else { return Written::Done };
        let rollout = self.rollout(&current);
        let Some((present, patch)) = self.patch_for(&current, &rollout, object) else { return Written::Done };
        if self.is_early(&patch) {
            return Written::Later;
        }
        let version = resource_version(&present);
        let without_times = timeless(&patch.status);
        let only_to = patch.records_times.then(|| version.clone()).flatten();
        let outcome = self.writer.apply(object, present.uid(), only_to, &patch.status).await;
        let label = match &outcome {
            Ok(true) => "written",
            Ok(false) => "gone",
            Err(_) => "failed",
        };
        self.metrics.status_patches.with_label_values(&[&*object.kind, label]).inc();
        match outcome {
            Err(error) => {
                tracing::warn!(%object, error, "cannot write a status; retrying");
                Written::Failed
            }
            Ok(there) => {
                self.remember(object, version, without_times);
                if there {
                    self.writer.record(object, &present, &patch.transitions).await;
                }
                Written::Done
            }
        }
    }

    fn remember(&self, object: &ObjectRef, version: Option<String>, status: serde_json::Value) {
        let known = self.cache.len();
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.insert(object.clone(), (version, status));
        if written.len() > 2 * known.max(64) {
            written.retain(|object, _| self.cache.get(object).is_some());
        }
    }
}

/// Stores the uses of access keys that proxies report, until `stop`.
async fn follow_uses(key_uses: KeyUses, cache: StatusCache, stop: CancellationToken) {
    let mut changes = key_uses.changes();
    loop {
        cache.used(key_uses.take());
        tokio::select! {
            () = stop.cancelled() => return,
            changed = changes.changed() => if changed.is_err() { return },
        }
    }
}

/// Waits until the fleet is stable, at most for `FLEET_LIMIT`.
async fn stable(fleet: &mut watch::Receiver<u64>) {
    let limit = Instant::now() + FLEET_LIMIT;
    loop {
        fleet.mark_unchanged();
        let until = (Instant::now() + FLEET_STABLE).min(limit);
        let more = tokio::time::timeout_at(until, fleet.changed()).await;
        if more.is_err() || Instant::now() >= limit {
            return;
        }
    }
}

/// The status of an ApiKey or Principal whose key cannot be generated.
fn without_key(desired: &DesiredStatus, why: &str) -> Arc<DesiredStatus> {
    let mut desired = desired.clone();
    if let Some(accepted) = desired.conditions.iter_mut().find(|condition| condition.type_ == ACCEPTED) {
        accepted.message = format!("The operator cannot generate the key and retries: {why}.");
    }
    Arc::new(desired)
}

fn timeless(status: &serde_json::Value) -> serde_json::Value {
    let mut status = status.clone();
    let hostnames = status.get_mut("hostnames").and_then(serde_json::Value::as_array_mut);
    for hostname in hostnames.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        hostname.remove("since");
    }
    if let Some(base_path) = status.get_mut("basePath").and_then(serde_json::Value::as_object_mut) {
        base_path.remove("since");
    }
    let conditions = status.get_mut("conditions").and_then(serde_json::Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(serde_json::Value::as_object_mut) {
        condition.remove("lastTransitionTime");
    }
    status
}

fn resource_version(object: &Object) -> Option<String> {
    object.meta().and_then(|meta| meta.resource_version.clone())
}
