//! One proxy's side of the configuration stream: the configuration it serves, and what each frame changes.
//! `stream` has the sockets; tests call it without.

use sluice_wire::{Ack, Capabilities, Delta, Diagnostic, Down, FleetName, Hash, Hello, Outcome, PartName, Up};

use super::sink::Sink;
use super::step::{Configuration, DeltaError};
use super::store::Store;
use crate::access_review::AccessReviews;
use crate::key_use::KeyUses;

/// A proxy's configuration, where it is applied and where it is stored.
pub struct Subscriber {
    proxy: String,
    fleet: FleetName,
    configuration: Configuration,
    diagnostics: Vec<Diagnostic>,
    /// Whether a configuration was applied; one without parts counts.
    started: bool,
    sink: Sink,
    store: Option<Store>,
}

impl Subscriber {
    /// Starts with the configuration in `store`, which is applied at once, so that a proxy serves without the operator.
    #[must_use]
    pub fn start(proxy: String, fleet: FleetName, mut sink: Sink, store: Option<Store>) -> Self {
        let known = store.as_ref().and_then(Store::load);
        let started = known.is_some();
        let parts = known.unwrap_or_default();
        let mut diagnostics = Vec::new();
        if let Some(proxies) = store.as_ref().and_then(Store::fleet) {
            (sink.set_fleet)(proxies);
        }
        if started {
            let names: Vec<PartName> = parts.iter().map(|(name, _)| name.clone()).collect();
            diagnostics = (sink.apply)(&parts, &names, &[]);
            tracing::info!(
                config.version = parts.version().short(),
                config.parts = parts.len(),
                config.problems = diagnostics.len(),
                "serving the last known good configuration"
            );
        }
        Self { proxy, fleet, configuration: Configuration::new(parts), diagnostics, started, sink, store }
    }

    /// The version that is served.
    #[must_use]
    pub fn version(&self) -> Hash {
        self.configuration.parts.version()
    }

    /// The first frame of a connection.
    #[must_use]
    pub fn hello(&self) -> Up {
        Up::Hello(Hello {
            proxy: self.proxy.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            parts: self.configuration.parts.iter().map(|(name, part)| (name.clone(), part.hash)).collect(),
            fleet: self.fleet.clone(),
            capabilities: Capabilities::of_this_version(),
        })
    }

    /// Reports whether the stream is connected.
    pub fn set_connected(&mut self, connected: bool) {
        (self.sink.set_connected)(connected);
    }

    /// The questions that this proxy asks.
    pub(super) fn access_reviews(&self) -> &AccessReviews {
        &self.sink.access_reviews
    }

    /// The last uses of access keys.
    pub(super) fn key_uses(&self) -> &KeyUses {
        &self.sink.key_uses
    }

    /// Handles a frame and returns the one to send back. After [`Outcome::Rejected`] the stream must be opened again.
    pub fn on_frame(&mut self, frame: Down) -> Option<Up> {
        match frame {
            Down::Welcome(welcome) => {
                tracing::info!(operator.version = welcome.program, "the operator accepted the stream");
                None
            }
            Down::Ping => Some(Up::Pong),
            Down::Reviewed(reviewed) => {
                self.sink.access_reviews.reviewed(&reviewed);
                None
            }
            Down::Fleet { proxies } => {
                (self.sink.set_fleet)(proxies.max(1));
                if let Some(store) = &self.store {
                    store.save_fleet(proxies.max(1));
                }
                None
            }
            Down::Delta(delta) => {
                let version = delta.version;
                let span = tracing::info_span!(
                    "apply_configuration",
                    config.version = version.short(),
                    config.upsert = delta.upsert.len(),
                    config.remove = delta.remove.len()
                );
                let outcome = match span.in_scope(|| self.apply(delta)) {
                    Ok(()) => Outcome::Applied,
                    Err(error) => {
                        let chain = sluice_daemon::logging::chain(&error);
                        tracing::error!(config.version = version.short(), error = chain, "rejected a configuration");
                        (self.sink.rejected)();
                        Outcome::Rejected { why: error.to_string() }
                    }
                };
                Some(Up::Ack(Ack { version, outcome, diagnostics: self.diagnostics.clone() }))
            }
            // The decoder has ended the stream already if the frame is essential.
            Down::Unknown(unknown) => {
                tracing::debug!(frame = unknown.name, "ignored a frame of a newer version");
                None
            }
        }
    }

    fn apply(&mut self, delta: Delta) -> Result<(), DeltaError> {
        let step = self.configuration.step(delta)?;
        if self.started && step.changed.is_empty() && step.removed.is_empty() {
            return Ok(());
        }
        self.started = true;
        self.configuration = step.next;
        // Applied before it is stored: a restart must not begin with a configuration that cannot be compiled.
        self.diagnostics = (self.sink.apply)(&self.configuration.parts, &step.changed, &step.removed);
        tracing::info!(
            config.changed = step.changed.len(),
            config.removed = step.removed.len(),
            config.problems = self.diagnostics.len(),
            "configuration applied"
        );
        if let Some(store) = &self.store {
            store.save(&self.configuration.parts);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
