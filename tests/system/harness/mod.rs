//! The harness of the system tests: a real API server, the two programs as processes, backends, clients, waiting. It has
//! no assertions about Sluice; the tests have them.

pub(crate) mod api_server;
pub(crate) mod backend;
pub(crate) mod identity;
pub(crate) mod load;
pub(crate) mod objects;
pub(crate) mod process;
pub(crate) mod programs;
pub(crate) mod promtool;
pub(crate) mod signature;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The root folder of the repository.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every document of the YAML files in a folder, in the order of the files.
pub(crate) fn documents(folder: &str) -> anyhow::Result<Vec<serde_json::Value>> {
    let folder = repository().join(folder);
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .with_context(|| format!("cannot list {}", folder.display()))?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    anyhow::ensure!(!files.is_empty(), "no YAML file in {}", folder.display());
    let mut documents = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let found: Vec<serde_json::Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("cannot parse {}", file.display()))?;
        documents.extend(found.into_iter().filter(|document| !document.is_null()));
    }
    Ok(documents)
}
