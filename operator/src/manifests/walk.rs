//! Lists the manifests of a directory: every `*.yaml`, `*.yml` and `*.json` below it, and the files that are none. Names that
//! begin with a dot are ignored, and links that point outside of the directory are rejected.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

/// The most manifests of a directory.
pub(super) const MAX_FILES: usize = 10_000;

/// The file name extensions of manifests.
const EXTENSIONS: [&str; 3] = ["yaml", "yml", "json"];

/// The deepest directory that is read.
const MAX_DEPTH: usize = 32;

/// The manifests of a directory in order, and what could not be looked at.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<PathBuf>,
    /// Files that are not read, because of their names.
    pub(super) others: Vec<PathBuf>,
    pub(super) problems: Vec<(PathBuf, String)>,
}

/// Looks through a directory.
pub(super) fn list(dir: &Path) -> Listing {
    let mut walk = Walk { root: PathBuf::new(), seen: BTreeSet::new(), listing: Listing::default() };
    match fs::canonicalize(dir) {
        Ok(root) => {
            walk.root.clone_from(&root);
            walk.seen.insert(root);
            walk.directory(dir, 0);
        }
        Err(error) => walk.problem(dir, format!("Cannot read the directory: {error}.")),
    }
    walk.listing.files.sort();
    walk.listing
}

struct Walk {
    root: PathBuf,
    /// Real paths that were looked at, so that links neither loop nor repeat.
    seen: BTreeSet<PathBuf>,
    listing: Listing,
}

impl Walk {
    fn problem(&mut self, path: &Path, message: String) {
        self.listing.problems.push((path.to_path_buf(), message));
    }

    fn directory(&mut self, dir: &Path, depth: usize) {
        if depth > MAX_DEPTH {
            return self.problem(dir, format!("Directories are read to a depth of {MAX_DEPTH} levels only."));
        }
        let entries = match fs::read_dir(dir).and_then(Iterator::collect::<io::Result<Vec<_>>>) {
            Ok(entries) => entries,
            Err(error) => return self.problem(dir, format!("Cannot read the directory: {error}.")),
        };
        let mut paths: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            if !hidden {
                self.entry(&path, depth);
            }
        }
    }

    fn entry(&mut self, path: &Path, depth: usize) {
        let manifest = path.extension().is_some_and(|extension| EXTENSIONS.iter().any(|known| extension == *known));
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // A file that goes away while one looks is not there.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => return,
            Err(error) if manifest => return self.problem(path, format!("Cannot read the file: {error}.")),
            Err(_) => return,
        };
        if !manifest && metadata.is_file() {
            return self.listing.others.push(path.to_path_buf());
        }
        if !(metadata.is_dir() || metadata.is_file()) {
            return;
        }
        let Ok(real) = fs::canonicalize(path) else { return };
        if !real.starts_with(&self.root) {
            return self.problem(path, "This link points outside of the directory and is not followed.".to_owned());
        }
        if !self.seen.insert(real) {
            return;
        }
        if metadata.is_dir() {
            self.directory(path, depth + 1);
        } else if self.listing.files.len() < MAX_FILES {
            self.listing.files.push(path.to_path_buf());
        } else if self.listing.files.len() == MAX_FILES
            && self.listing.problems.iter().all(|(_, message)| !message.contains("manifests"))
        {
            self.problem(
                path,
                format!("A directory can have at most {MAX_FILES} manifests; this file and the rest are ignored."),
            );
        }
    }
}
