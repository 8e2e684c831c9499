//! One proxy's side of the conversation with the operator: what it has, and what each frame changes.
//! No sockets: the stream and `sluice dev` drive it alike.

use sluice_wire::{Ack, Delta, Diagnostic, Down, Hash, Hello, Outcome, PartName, Up};

use super::Sink;
use super::step::{Configuration, Refusal};
use super::store::Store;

/// A proxy's configuration and what keeps it.
pub struct Session {
    proxy: String,
    configuration: Configuration,
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
        let known = store.as_ref().and_then(Store::load);
        let begun = known.is_some();
        let parts = known.unwrap_or_default();
        let mut diagnostics = Vec::new();
        if let Some(proxies) = store.as_ref().and_then(Store::fleet) {
            (sink.set_fleet)(proxies);
        }
        if begun {
            let names: Vec<PartName> = parts.iter().map(|(name, _)| name.clone()).collect();
            diagnostics = (sink.apply)(&parts, &names, &[]);
            tracing::info!(
                config.version = parts.version().short(),
                config.parts = parts.len(),
                config.problems = diagnostics.len(),
                "serving the last known good configuration"
            );
        }
        Self { proxy, configuration: Configuration::new(parts), diagnostics, begun, sink, store }
    }

    /// The version in force.
    #[must_use]
    pub fn version(&self) -> Hash {
        self.configuration.parts.version()
    }

    /// The first frame of a connection.
    #[must_use]
    pub fn hello(&self) -> Up {
        let program = env!("CARGO_PKG_VERSION").to_owned();
        let parts = self.configuration.parts.iter().map(|(name, part)| (name.clone(), part.hash)).collect();
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
                if let Some(store) = &self.store {
                    store.save_fleet(proxies.max(1)).await;
                }
                None
            }
            Down::Delta(delta) => {
                let version = delta.version;
                let outcome = match self.apply(delta).await {
                    Ok(()) => Outcome::Applied,
                    Err(refusal) => {
                        let error = sluice_daemon::logging::chain(&refusal);
                        tracing::error!(config.version = version.short(), error, "refused a configuration");
                        (self.sink.refused)();
                        Outcome::Refused { why: refusal.to_string() }
                    }
                };
                Some(Up::Ack(Ack { version, outcome, diagnostics: self.diagnostics.clone() }))
            }
        }
    }

    async fn apply(&mut self, delta: Delta) -> Result<(), Refusal> {
        let step = self.configuration.step(delta)?;
        if self.begun && step.changed.is_empty() && step.removed.is_empty() {
            return Ok(());
        }
        self.begun = true;
        self.configuration = step.next;
        // In force first: what cannot even be compiled must not be what a restart begins with.
        self.diagnostics = (self.sink.apply)(&self.configuration.parts, &step.changed, &step.removed);
        tracing::info!(
            config.version = self.version().short(),
            config.changed = step.changed.len(),
            config.removed = step.removed.len(),
            config.problems = self.diagnostics.len(),
            "configuration in force"
        );
        if let Some(store) = &self.store {
            store.save(&self.configuration.parts).await;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
