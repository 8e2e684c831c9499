//! A saved configuration in one file (`--config`): a JSON list of parts, as the operator would stream them.
//! Reading it is all there is: it does not change while the proxy runs.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use sluice_wire::{Diagnostic, MAX_FRAME_BYTES, Part, PartName};

use super::Sink;
use super::store::{StateError, check};

/// Reads a saved configuration. Unlike the last known good, a broken one is an error: somebody asked for exactly it.
///
/// # Errors
/// The file cannot be read, is too long, or a part does not match its hash.
pub fn load(path: &Path) -> Result<BTreeMap<PartName, Part>, StateError> {
    let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(StateError::Format);
    }
    let parts = check(serde_json::from_slice(&bytes)?, None)?;
    Ok(parts.into_iter().map(|part| (part.name.clone(), part)).collect())
}

/// Puts a saved configuration in force and returns what it cannot serve as written.
///
/// # Errors
/// See [`load`].
pub fn serve(path: &Path, sink: &mut Sink) -> Result<Vec<Diagnostic>, StateError> {
    let parts = load(path)?;
    let names: Vec<PartName> = parts.keys().cloned().collect();
    let diagnostics = (sink.apply)(&parts, &names, &[]);
    tracing::info!(config.file = %path.display(), config.parts = parts.len(), "configuration in force");
    Ok(diagnostics)
}
