//! A saved configuration, served without an operator: `{"parts": [{"name": …, "hash": …, "json": …}]}`.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_wire::{Delta, MAX_FRAME_BYTES, Part};

use super::whole;

/// Why a saved configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("cannot read the configuration file {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It is too long.
    #[error("the configuration file {path} is longer than {MAX_FRAME_BYTES} bytes")]
    TooLong {
        /// Which file.
        path: PathBuf,
    },
    /// It is not a configuration.
    #[error("the configuration file {path} is not a saved configuration")]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

#[derive(Serialize, Deserialize)]
struct Saved {
    parts: Vec<Part>,
}

/// Reads a saved configuration as a delta that replaces everything.
pub fn load(path: &Path) -> Result<Delta, FileError> {
    let read = |source| FileError::Read { path: path.to_owned(), source };
    let length = std::fs::metadata(path).map_err(read)?.len();
    if usize::try_from(length).map_or(true, |length| length > MAX_FRAME_BYTES) {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    let bytes = std::fs::read(path).map_err(read)?;
    let saved: Saved =
        serde_json::from_slice(&bytes).map_err(|source| FileError::Parse { path: path.to_owned(), source })?;
    Ok(whole(saved.parts))
}
