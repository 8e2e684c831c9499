//! `sluice dev`: a folder of manifests, translated as the operator does and served by the proxy, in one process.
//! This connects the parts; completing the folder is `local`'s, the lines to try it are `curl`'s.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use sluice_operator::translate::Translator;
use sluice_operator::world::World;
use sluice_wire::{Ack, Delta, Hash, Outcome, Part, PartName, version_of};

use crate::args;
use crate::report::{self, Refusals, Statuses};

mod curl;
mod local;

use local::Local;

/// From folder to proxy: what is remembered between two states of the folder.
struct Session {
    local: Local,
    translator: Translator,
    /// The parts that the proxy serves, with their hashes.
    served: BTreeMap<PartName, Hash>,
    version: Hash,
    statuses: Statuses,
    refusals: Refusals,
}

/// What is to be done for one state of the folder, and what will then be true.
struct Step {
    world: World,
    delta: Delta,
    parts: BTreeMap<PartName, Hash>,
    statuses: Statuses,
    problems: Vec<String>,
}

impl Session {
    fn new(mappings: &[args::Mapping]) -> Self {
        Self {
            local: Local::new(mappings),
            translator: Translator::new(),
            served: BTreeMap::new(),
            version: Hash::NONE,
            statuses: Statuses::new(),
            refusals: Refusals::new(),
        }
    }

    /// Completes and translates the folder's world.
    async fn prepare(&mut self, folder: &World) -> anyhow::Result<Step> {
        let (world, problems) = local::complete(&mut self.local, folder).await?;
        let translation = self.translator.translate(&world);
        let parts: BTreeMap<PartName, Hash> =
            translation.parts.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
        let differs = |(name, part): &(&PartName, &Arc<Part>)| self.served.get(*name) != Some(&part.hash);
        let upsert = translation.parts.iter().filter(differs).map(|(_, part)| Part::clone(part)).collect();
        let remove = self.served.keys().filter(|name| !parts.contains_key(*name)).cloned().collect();
        let delta = Delta { base: self.version, version: version_of(&parts), upsert, remove };
        Ok(Step { world, delta, parts, statuses: translation.statuses, problems })
    }

    /// Takes in what the proxy said; gives the statuses that changed.
    fn conclude(&mut self, step: &Step, ack: &Ack) -> anyhow::Result<Statuses> {
        if let Outcome::Refused { why } = &ack.outcome {
            bail!("the proxy refused the configuration, and serves the one before: {why}");
        }
        self.version = ack.version;
        self.served = step.parts.clone();
        let refusals: Refusals =
            ack.diagnostics.iter().map(|found| (found.object.clone(), found.message.clone())).collect();
        let mut changed = report::changed(&self.statuses, &step.statuses);
        // An object whose answer from the proxy changed is worth a line as well.
        for (object, wanted) in &step.statuses {
            if self.refusals.get(object) != refusals.get(object) {
                changed.insert(object.clone(), wanted.clone());
            }
        }
        self.statuses = step.statuses.clone();
        self.refusals = refusals;
        Ok(changed)
    }
}
/// Serves the folder until the program is asked to stop.
pub(crate) async fn run(settings: args::Dev) -> anyhow::Result<ExitCode> {
    bail!("cannot serve {}: the proxy is not part of this build", settings.folder.display())
}
