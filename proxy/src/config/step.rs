//! Computes the next configuration from a delta. Every cap, hash and version is checked before it replaces the current one.
//! `compile` applies it.

use sluice_wire::{Delta, Hash, MAX_FRAME_BYTES, MAX_PART_BYTES, Part, PartName, Parts};

/// Why a delta was not applied.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// It continues another configuration.
    #[error("the change is based on version {base}, but this proxy has {have}")]
    Base {
        /// The version it is based on.
        base: String,
        /// The version that is served.
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
    /// A part does not match its hash.
    #[error("the content of part {0} does not match its hash")]
    PartHash(PartName),
    /// The parts do not have the version that was announced.
    #[error("the change results in version {got}, but {expected} was announced")]
    Version {
        /// The version of the parts.
        got: String,
        /// The version that was announced.
        expected: String,
    },
}

/// The parts that are served.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) parts: Parts<Part>,
    /// The length of all parts together.
    bytes: usize,
}

/// A delta that passed every check.
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

    /// Checks a delta and returns the configuration that it results in.
    pub(crate) fn step(&self, delta: Delta) -> Result<Step, DeltaError> {
        let fresh = delta.base == Hash::NONE;
        let have = self.parts.version();
        if !fresh && delta.base != have {
            return Err(DeltaError::Base { base: delta.base.short(), have: have.short() });
        }
        let Self { mut parts, mut bytes } = if fresh { Self::default() } else { self.clone() };
        for part in delta.upsert {
            if part.json.len() > MAX_PART_BYTES {
                return Err(DeltaError::PartTooLong { name: part.name, len: part.json.len() });
            }
            if Hash::of(part.json.as_bytes()) != part.hash {
                return Err(DeltaError::PartHash(part.name));
            }
            bytes += part.json.len();
            bytes -= parts.insert(part.name.clone(), part).map_or(0, |old| old.json.len());
        }
        for name in &delta.remove {
            bytes -= parts.remove(name).map_or(0, |old| old.json.len());
        }
        let got = parts.version();
        // An empty configuration may be announced by either of its two hashes.
        let nothing = parts.is_empty() && delta.version == Hash::NONE;
        if got != delta.version && !nothing {
            return Err(DeltaError::Version { got: got.short(), expected: delta.version.short() });
        }
        if bytes > MAX_FRAME_BYTES {
            return Err(DeltaError::TooLong(bytes));
        }
        let difference = parts.since(&self.parts);
        let changed = difference.changed.into_keys().cloned().collect();
        let removed = difference.removed.into_iter().cloned().collect();
        Ok(Step { next: Self { parts, bytes }, changed, removed })
    }
}
