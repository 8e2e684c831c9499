//! From one configuration to the next: every cap, hash and version is checked before anything is touched.
//! What a configuration means is decided in `compile`.

use sluice_wire::{Delta, Hash, MAX_FRAME_BYTES, MAX_PART_BYTES, Part, PartName, Parts};

/// Why a delta was not put in force.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// It continues another configuration.
    #[error("the change continues version {base}, but this proxy is at {have}")]
    Base {
        /// What it continues.
        base: String,
        /// What is served.
        have: String,
    },
    /// A part is too long.
    #[error("part {name} has {len} bytes, more than the {MAX_PART_BYTES} allowed")]
    PartTooLong {
        /// Which part.
        name: PartName,
        /// Its length.
        len: usize,
    },
    /// All parts together are too long.
    #[error("the configuration has {0} bytes, more than the {MAX_FRAME_BYTES} allowed")]
    TooLong(usize),
    /// A part is not what its hash says.
    #[error("the content of part {0} does not match its hash")]
    PartHash(PartName),
    /// The sum is not what the version says.
    #[error("the change leads to version {got}, but {expected} was announced")]
    Version {
        /// What the parts amount to.
        got: String,
        /// What was announced.
        expected: String,
    },
}

/// The parts in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) parts: Parts<Part>,
    /// The length of all parts together.
    bytes: usize,
}

/// A checked step.
pub(crate) struct Step {
    pub(crate) next: Configuration,
    pub(crate) changed: Vec<PartName>,
    pub(crate) removed: Vec<PartName>,
}

impl Configuration {
    pub(crate) fn new(parts: Parts<Part>) -> Self {
        let bytes = parts.iter().map(|(_, part)| part.json.len()).sum();
        Self { parts, bytes }
    }

    /// The configuration that a delta leads to.
    pub(crate) fn step(&self, delta: Delta) -> Result<Step, Refusal> {
        let fresh = delta.base == Hash::NONE;
        let have = self.parts.version();
        if !fresh && delta.base != have {
            return Err(Refusal::Base { base: delta.base.short(), have: have.short() });
        }
        let Self { mut parts, mut bytes } = if fresh { Self::default() } else { self.clone() };
        for part in delta.upsert {
            if part.json.len() > MAX_PART_BYTES {
                return Err(Refusal::PartTooLong { name: part.name, len: part.json.len() });
            }
            if Hash::of(part.json.as_bytes()) != part.hash {
                return Err(Refusal::PartHash(part.name));
            }
            bytes += part.json.len();
            bytes -= parts.insert(part.name.clone(), part).map_or(0, |old| old.json.len());
        }
        for name in &delta.remove {
            bytes -= parts.remove(name).map_or(0, |old| old.json.len());
        }
        let got = parts.version();
        // Without parts both spellings of nothing are the same.
        let nothing = parts.is_empty() && delta.version == Hash::NONE;
        if got != delta.version && !nothing {
            return Err(Refusal::Version { got: got.short(), expected: delta.version.short() });
        }
        if bytes > MAX_FRAME_BYTES {
            return Err(Refusal::TooLong(bytes));
        }
        let difference = parts.since(&self.parts);
        let changed = difference.changed.into_keys().cloned().collect();
        let removed = difference.removed.into_iter().cloned().collect();
        Ok(Step { next: Self { parts, bytes }, changed, removed })
    }
}
