//! One proxy's side of the conversation with the operator: what it has, and what each frame changes.
//! No sockets: the stream and `sluice dev` drive it alike.

use sluice_wire::{
    Ack, Delta, Diagnostic, Down, Hash, Hello, MAX_FRAME_BYTES, MAX_PART_BYTES, Outcome, Part, PartName, Parts, Up,
};

use super::Sink;
use super::store::Store;

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

/// A proxy's configuration and what keeps it.
pub struct Session {
    proxy: String,
    parts: Parts<Part>,
    /// The length of all parts together.
    bytes: usize,
    diagnostics: Vec<Diagnostic>,
    /// Whether anything was put in force: an empty world is a configuration too.
    begun: bool,
    sink: Sink,
    store: Option<Store>,
}

impl Session {
    /// Begins with what `store` remembers, which is put in force at once, so that a proxy serves without the operator.
    #[must_use]
    pub fn start(proxy: String, mut sink: Sink, store: Option<Store>) -> Self {
        let parts = store.as_ref().map(Store::load).unwrap_or_default();
        let bytes = parts.iter().map(|(_, part)| part.json.len()).sum();
        let mut diagnostics = Vec::new();
        if !parts.is_empty() {
            let names: Vec<PartName> = parts.iter().map(|(name, _)| name.clone()).collect();
            diagnostics = (sink.apply)(&parts, &names, &[]);
            tracing::info!(
                config.version = parts.version().short(),
                config.parts = parts.len(),
                config.problems = diagnostics.len(),
                "serving the last known good configuration"
            );
        }
        let begun = !parts.is_empty();
        Self { proxy, parts, bytes, diagnostics, begun, sink, store }
    }

    /// The version in force.
    #[must_use]
    pub fn version(&self) -> Hash {
        self.parts.version()
    }

    /// The first frame of a connection.
    #[must_use]
    pub fn hello(&self) -> Up {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let parts = self.parts.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
        Up::Hello(Hello { proxy: self.proxy.clone(), program, parts })
    }

    /// Tells whether the stream is up.
    pub fn set_connected(&mut self, connected: bool) {
        (self.sink.set_connected)(connected);
    }

    /// Takes a frame and returns what to answer. After [`Outcome::Refused`] the stream must begin anew.
    pub async fn take(&mut self, frame: Down) -> Option<Up> {
        match frame {
            Down::Ping => Some(Up::Pong),
            Down::Fleet { proxies } => {
                (self.sink.set_fleet)(proxies.max(1));
                None
            }
            Down::Delta(delta) => {
                let version = delta.version;
                let outcome = match self.apply(delta).await {
                    Ok(()) => Outcome::Applied,
                    Err(refusal) => {
                        let error: &dyn std::error::Error = &refusal;
                        tracing::error!(config.version = version.short(), error, "refused a configuration");
                        Outcome::Refused { why: refusal.to_string() }
                    }
                };
                Some(Up::Ack(Ack { version, outcome, diagnostics: self.diagnostics.clone() }))
            }
        }
    }

    async fn apply(&mut self, delta: Delta) -> Result<(), Refusal> {
        let change = self.check(delta)?;
        if self.begun && change.changed.is_empty() && change.removed.is_empty() {
            return Ok(());
        }
        self.begun = true;
        (self.parts, self.bytes) = (change.parts, change.bytes);
        // In force first: what cannot even be compiled must not be what a restart begins with.
        self.diagnostics = (self.sink.apply)(&self.parts, &change.changed, &change.removed);
        tracing::info!(
            config.version = self.version().short(),
            config.changed = change.changed.len(),
            config.removed = change.removed.len(),
            config.problems = self.diagnostics.len(),
            "configuration in force"
        );
        if let Some(store) = &self.store {
            store.save(&self.parts).await;
        }
        Ok(())
    }

    /// Checks every cap and hash before anything is touched.
    fn check(&self, delta: Delta) -> Result<Change, Refusal> {
        let fresh = delta.base == Hash::NONE;
        if !fresh && delta.base != self.version() {
            return Err(Refusal::Base { base: delta.base.short(), have: self.version().short() });
        }
        let mut parts = if fresh { Parts::new() } else { self.parts.clone() };
        let mut bytes = if fresh { 0 } else { self.bytes };
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
        Ok(Change { changed, removed, parts, bytes })
    }
}

struct Change {
    changed: Vec<PartName>,
    removed: Vec<PartName>,
    parts: Parts<Part>,
    bytes: usize,
}

#[cfg(test)]
mod tests;
