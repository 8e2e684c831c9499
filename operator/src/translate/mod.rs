//! World in, configuration parts and statuses out: pure and total, without I/O and without a clock. What the fleet does
//! with the parts is `publish`'s; how statuses are written is `report`'s.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_crds::condition;
use sluice_wire::{ObjectRef, Part, PartName, Parts};

use crate::world::World;

mod api_keys;
mod authorizers;
mod budget;
mod changes;
mod conflicts;
mod key_sets;
mod memo;
mod problem;
mod references;
mod routes;
mod rules;
mod stages;
mod unit;
mod upstreams;
mod usage_plans;

pub use memo::Translator;

/// What a world leads to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Translation {
    /// The configuration of the proxies.
    pub parts: Parts<Arc<Part>>,
    /// What is to be said about each object.
    pub statuses: BTreeMap<ObjectRef, Arc<Wanted>>,
}

/// What is to be said about an object, apart from what only the fleet knows.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// `Accepted` and `ResolvedRefs`.
    pub conditions: Vec<condition::Wanted>,
    /// The generation that was judged.
    pub generation: Option<i64>,
    /// The parts that a proxy must have as [`Translation::parts`] has them (not at all, if it has them not) to run this
    /// generation.
    pub parts: BTreeSet<PartName>,
    /// Whether the proxies were given anything for this object to run.
    pub served: Served,
    /// What the kind's status says besides.
    pub detail: Detail,
    /// The reasons of its problems.
    pub problems: Vec<&'static str>,
}

/// Whether anything of an object reaches the proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// Something does, or there is nothing that should.
    Yes,
    /// The object's problems leave nothing to serve.
    Nothing,
}

/// What the status of some kinds says besides conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Of a Stage: how many rules it serves.
    Stage {
        /// Rules of ApiRoutes.
        routes: usize,
    },
    /// Of an ApiKey.
    ApiKey {
        /// How the key begins.
        prefix: Option<String>,
        /// The Secret that holds it.
        secret: String,
        /// Whether the operator must make that Secret.
        must_generate: bool,
    },
}

impl Translation {
    /// Whether no object has a problem.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.statuses.values().all(|wanted| wanted.problems.is_empty())
    }
}

/// Translates a world from scratch.
#[must_use]
pub fn translate(world: &World) -> Translation {
    Translator::new().translate(world)
}
