//! A saved configuration in one file (`--config`): a JSON list of parts, as the operator would stream them.
//! It is read once, at the start.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use sluice_wire::{Diagnostic, MAX_FRAME_BYTES, Part, PartName, Parts};

use super::sink::Sink;
use super::store::{StateError, check};

/// Reads a saved configuration. Unlike the last known good, a damaged one is an error, because the user asked for this file.
///
/// # Errors
/// The file cannot be read, is too long, or a part does not match its hash.
pub fn load(path: &Path) -> Result<Parts<Part>, StateError> {
    let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes));
    read.map_err(StateError::Read)?;
    if bytes.len() > MAX_FRAME_BYTES {
        return Err(StateError::Format);
    }
    let parts = check(serde_json::from_slice(&bytes).map_err(StateError::Decode)?)?;
    Ok(parts.into_iter().map(|part| (part.name.clone(), part)).collect())
}

/// Applies a saved configuration and returns the objects that cannot be served as written.
///
/// # Errors
/// See [`load`].
pub fn serve(path: &Path, sink: &mut Sink) -> Result<Vec<Diagnostic>, StateError> {
    let parts = load(path)?;
    let names: Vec<PartName> = parts.iter().map(|(name, _)| name.clone()).collect();
    let diagnostics = (sink.apply)(&parts, &names, &[]);
    tracing::info!(config.file = %path.display(), config.parts = parts.len(), "configuration applied");
    Ok(diagnostics)
}

#[cfg(test)]
mod tests {
    use sluice_wire::{Hash, PartKind};

    use super::*;

    #[test]
    fn a_saved_configuration_is_served_whole_or_not_at_all() {
        let part = |id: &str, json: &str| Part {
            name: PartName::new(PartKind::Route, id),
            hash: Hash::of(json.as_bytes()),
            json: json.into(),
        };
        let lying = Part { hash: Hash::of(b"else"), ..part("n/b", "{}") };
        let text = |parts: &[Part]| serde_json::to_vec(parts).unwrap();
        let path = std::env::temp_dir().join(format!("sluice-file-{}", std::process::id()));
        for (bytes, parts) in [
            (text(&[part("n/a", "{}"), part("n/b", "[]")]), Some(2)),
            (text(&[]), Some(0)),
            (text(&[part("n/a", "{}"), lying]), None),
            (b"[".to_vec(), None),
        ] {
            fs::write(&path, &bytes).unwrap();
            assert_eq!(load(&path).ok().map(|parts| parts.len()), parts);
        }
        fs::remove_file(&path).unwrap();
        assert!(matches!(load(&path), Err(StateError::Read(_))));
    }
}
