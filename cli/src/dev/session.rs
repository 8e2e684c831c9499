//! From a folder's world to the proxy: what is remembered between two states of the folder.
//! Reading the folder is `folder`'s, and what is printed is `print`'s.

use std::sync::Arc;

use anyhow::bail;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::publish::{Published, delta};
use sluice_operator::translate::Translator;
use sluice_wire::{Ack, Delta, ObjectRef, Outcome, Part, Parts};

use super::local::{self, Local};
use crate::args;
use crate::report::{Refusals, Statuses, changed};

/// What is remembered.
pub(crate) struct Session {
    pub(crate) local: Local,
    /// The completed world of the last state that was translated.
    pub(crate) world: ClusterState,
    pub(crate) statuses: Statuses,
    pub(crate) refusals: Refusals,
    /// What is wrong with the servers that Services ask for.
    pub(crate) server_problems: Vec<String>,
    translator: Translator,
    served: Parts<Arc<Part>>,
}

/// What a change brought.
#[derive(Default)]
pub(crate) struct News {
    /// Objects whose status is new or another.
    pub(crate) changed: Statuses,
    /// Objects that are gone.
    pub(crate) gone: Vec<ObjectRef>,
}

/// What is to be put in force, and what is said of the objects then.
pub(crate) struct Step {
    pub(crate) delta: Delta,
    published: Published,
    statuses: Statuses,
}

impl Session {
    /// Nothing is served yet.
    pub(crate) fn new(mappings: &[args::Mapping]) -> Self {
        Self {
            local: Local::new(mappings),
            world: ClusterState::default(),
            statuses: Statuses::new(),
            refusals: Refusals::new(),
            server_problems: Vec::new(),
            translator: Translator::new(),
            served: Parts::new(),
        }
    }

    /// Completes and translates the folder's world.
    pub(crate) async fn prepare(&mut self, folder: &ClusterState) -> anyhow::Result<Step> {
        (self.world, self.server_problems) = local::complete(&mut self.local, folder).await?;
        let translation = self.translator.translate(&self.world);
        let published = Published::new(translation.parts);
        Ok(Step { delta: delta(&self.served, &published), published, statuses: translation.statuses })
    }

    /// Takes in what the proxy said; gives what changed.
    pub(crate) fn conclude(&mut self, step: Step, ack: &Ack) -> anyhow::Result<News> {
        if let Outcome::Refused { why } = &ack.outcome {
            bail!("the proxy refused the change and serves what it had: {why}");
        }
        self.served = step.published.parts;
        let refusals: Refusals =
            ack.diagnostics.iter().map(|found| (found.object.clone(), found.message.clone())).collect();
        let mut changed = changed(&self.statuses, &step.statuses);
        let answered_otherwise = |object| self.refusals.get(object) != refusals.get(object);
        let others = step.statuses.iter().filter(|(object, _)| answered_otherwise(*object));
        changed.extend(others.map(|(object, wanted)| (object.clone(), wanted.clone())));
        let gone = self.statuses.keys().filter(|object| !step.statuses.contains_key(*object)).cloned().collect();
        (self.statuses, self.refusals) = (step.statuses, refusals);
        Ok(News { changed, gone })
    }
}
