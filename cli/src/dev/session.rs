//! The state of `sluice dev` between two changes of the folder, and the delta for the proxy.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::bail;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::publish::{Published, delta};
use sluice_operator::settings::DEFAULT_SIGNING_KEY_DAYS;
use sluice_operator::translate::{self, SigningDays, Translator};
use sluice_wire::{Ack, Delta, ObjectRef, Outcome, Part, Parts};

use super::local::{self, Local};
use super::reach::Reach;
use crate::args;
use crate::report::{ProxyDiagnostics, Statuses, changed};

/// The state between two changes.
pub(crate) struct Session {
    pub(crate) local: Local,
    /// The completed cluster state of the last state that was translated.
    pub(crate) cluster: ClusterState,
    pub(crate) statuses: Statuses,
    pub(crate) diagnostics: ProxyDiagnostics,
    /// Problems of the example servers that Services request.
    pub(crate) server_problems: Vec<String>,
    /// What is not reachable in the last state that was translated.
    pub(crate) reach: Reach,
    /// The statuses as the token service reads them.
    pub(crate) translated: translate::Statuses,
    translator: Translator,
    /// The days for which the last state has signing keys.
    days: SigningDays,
    served: Parts<Arc<Part>>,
}

/// The result of a change.
#[derive(Default)]
pub(crate) struct Changes {
    /// Objects with a new or changed status.
    pub(crate) changed: Statuses,
    /// Objects that were removed.
    pub(crate) gone: Vec<ObjectRef>,
}

/// A delta for the proxy, and the statuses that hold after it is applied.
pub(crate) struct Step {
    pub(crate) delta: Delta,
    published: Published,
    statuses: Statuses,
}

impl Session {
    /// An empty session.
    pub(crate) fn new(mappings: &[args::Mapping]) -> Self {
        Self::with(Local::new(mappings))
    }

    /// An empty session that starts no servers: those that Services request are expected to run.
    pub(crate) fn without_servers(mappings: &[args::Mapping]) -> Self {
        Self::with(Local::without_servers(mappings))
    }

    fn with(local: Local) -> Self {
        Self {
            local,
            cluster: ClusterState::default(),
            statuses: Statuses::new(),
            diagnostics: ProxyDiagnostics::new(),
            server_problems: Vec::new(),
            reach: Reach::default(),
            translated: translate::Statuses::default(),
            translator: Translator::new(),
            days: SigningDays::default(),
            served: Parts::new(),
        }
    }

    /// Completes and translates the cluster state of the folder.
    pub(crate) async fn prepare(&mut self, folder: &ClusterState) -> anyhow::Result<Step> {
        (self.cluster, self.server_problems) = local::complete(&mut self.local, folder).await?;
        self.server_problems.extend(in_other_fleets(&self.cluster));
        self.days = current_days();
        self.translator.set_days(self.days);
        let translation = self.translator.translate(&self.cluster);
        self.reach = Reach::of(&self.cluster, &translation.parts, &self.local);
        let published = Published::new(translation.parts);
        self.translated = translation.statuses.clone();
        Ok(Step { delta: delta(&self.served, &published), published, statuses: translation.statuses.sorted() })
    }

    /// Whether the day changed since the last state, so that it needs other signing keys.
    pub(crate) fn is_of_another_day(&self) -> bool {
        self.days != current_days()
    }

    /// Evaluates the proxy's acknowledgement and returns what changed.
    pub(crate) fn conclude(&mut self, step: Step, ack: &Ack) -> anyhow::Result<Changes> {
        if let Outcome::Rejected { why } = &ack.outcome {
            bail!("the proxy rejected the change and keeps the previous configuration: {why}");
        }
        self.served = step.published.parts;
        let diagnostics: ProxyDiagnostics =
            ack.diagnostics.iter().map(|found| (found.object.clone(), found.message.clone())).collect();
        let mut changed = changed(&self.statuses, &step.statuses);
        let diagnosed_differently = |object| self.diagnostics.get(object) != diagnostics.get(object);
        let others = step.statuses.iter().filter(|(object, _)| diagnosed_differently(*object));
        changed.extend(others.map(|(object, desired)| (object.clone(), desired.clone())));
        let gone = self.statuses.keys().filter(|object| !step.statuses.contains_key(*object)).cloned().collect();
        (self.statuses, self.diagnostics) = (step.statuses, diagnostics);
        Ok(Changes { changed, gone })
    }
}

/// The days for which signing keys are derived now.
pub(crate) fn current_days() -> SigningDays {
    SigningDays::around(SystemTime::now().try_into().unwrap_or_default(), DEFAULT_SIGNING_KEY_DAYS)
}

/// Stages with the same host and base path in different fleets: one proxy cannot serve both.
fn in_other_fleets(cluster: &ClusterState) -> Vec<String> {
    let mut first = BTreeMap::new();
    let mut problems = Vec::new();
    for (key, stage) in &cluster.stages {
        let fleet = stage.spec.fleet.as_ref().map_or("default", |fleet| &fleet.name);
        let any = stage.spec.hostnames.is_empty().then_some("");
        for host in stage.spec.hostnames.iter().map(String::as_str).chain(any) {
            let (other, served_by) = *first.entry((host, stage.spec.base_path.as_str())).or_insert((key, fleet));
            if served_by != fleet {
                problems.push(format!(
                    "Stage {key} of the fleet {fleet} has a host and base path of Stage {other} of the fleet {served_by}: in \
                     a cluster both are served; here {other} is"
                ));
                break;
            }
        }
    }
    problems
}
