//! The last known good on disk, so that a proxy starts without its operator. A journal: one line a version, each with a
//! checksum, so that what is written follows the change and a torn end is noticed. Private keys are written only to memory.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sluice_wire::{Hash, MAX_FRAME_BYTES, Part, PartKind, PartName};

const FILE: &str = "last-known-good";

/// The journal in a folder.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    keeps_secrets: bool,
    written: u64,
    whole: u64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    replaces: bool,
    upsert: Vec<Part>,
    remove: Vec<PartName>,
}

impl Store {
    /// Opens the journal in `folder`, which is made if it is not there.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        let keeps_secrets = in_memory(&folder, &fs::read_to_string("/proc/mounts").unwrap_or_default());
        if !keeps_secrets {
            tracing::info!(
                state.dir = %folder.display(),
                "the state folder is not on a memory file system: certificates are not kept there, so that TLS waits for the operator after a restart"
            );
        }
        Ok(Self { path: folder.join(FILE), keeps_secrets, written: 0, whole: 0 })
    }

    /// The parts of the last version that was written whole. A file that cannot be read is set aside, never fatal.
    pub fn load(&mut self) -> Vec<Part> {
        match read(&self.path) {
            Ok((parts, torn)) => {
                if torn {
                    self.set_aside("its end is torn or corrupt: the version before is served");
                    // What was good is written anew, so that the next start finds it.
                    let parts_map = parts.iter().map(|part| (part.name.clone(), part.clone())).collect();
                    if let Err(error) = self.rewrite(&parts_map) {
                        tracing::warn!(%error, "cannot write the last known good configuration");
                    }
                }
                parts
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                self.set_aside(&error.to_string());
                Vec::new()
            }
        }
    }

    /// Writes a version down: only what changed, or everything when the journal has grown to three times that.
    pub fn keep(&mut self, parts: &BTreeMap<PartName, Part>, changed: &[PartName], removed: &[PartName]) -> io::Result<()> {
        if self.whole == 0 || self.written > 3 * self.whole + (64 << 10) {
            return self.rewrite(parts);
        }
        let upsert = changed.iter().filter_map(|name| parts.get(name)).filter(|part| self.may_keep(part)).cloned();
        let line = text(&Line { replaces: false, upsert: upsert.collect(), remove: removed.to_vec() })?;
        let appended = OpenOptions::new().append(true).open(&self.path).and_then(|mut file| file.write_all(line.as_bytes()));
        match appended {
            Ok(()) => {
                self.written += line.len() as u64;
                Ok(())
            }
            // Half a line may be there now: only a whole new file puts that right.
            Err(_) => self.rewrite(parts),
        }
    }

    fn rewrite(&mut self, parts: &BTreeMap<PartName, Part>) -> io::Result<()> {
        self.whole = 0;
        let upsert = parts.values().filter(|part| self.may_keep(part)).cloned().collect();
        let line = text(&Line { replaces: true, upsert, remove: Vec::new() })?;
        let fresh = self.path.with_extension("new");
        let mut file = File::create(&fresh)?;
        file.write_all(line.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        (self.whole, self.written) = (line.len() as u64, line.len() as u64);
        Ok(())
    }

    fn may_keep(&self, part: &Part) -> bool {
        self.keeps_secrets || part.name.kind != PartKind::Certificate
    }

    fn set_aside(&self, why: &str) {
        let aside = self.path.with_extension("corrupt");
        tracing::warn!(file = %self.path.display(), aside = %aside.display(), error = why, "set the stored configuration aside");
        if let Err(error) = fs::rename(&self.path, &aside) {
            tracing::warn!(%error, "cannot set the stored configuration aside");
        }
    }
}

fn text(line: &Line) -> io::Result<String> {
    let json = serde_json::to_string(line)?;
    Ok(format!("{} {json}\n", Hash::of(json.as_bytes())))
}

/// The parts after the last good line, and whether something bad follows it.
fn read(path: &Path) -> io::Result<(Vec<Part>, bool)> {
    let mut lines = BufReader::new(File::open(path)?);
    let mut parts = BTreeMap::new();
    let mut any = false;
    loop {
        let mut raw = Vec::new();
        if lines.by_ref().take(2 * MAX_FRAME_BYTES as u64).read_until(b'\n', &mut raw)? == 0 {
            return Ok((parts.into_values().collect(), !any));
        }
        let good = std::str::from_utf8(&raw).ok().and_then(|line| line.strip_suffix('\n')?.split_once(' ')).and_then(
            |(hash, json)| {
                let same = hash.parse::<Hash>().ok()? == Hash::of(json.as_bytes());
                same.then(|| serde_json::from_str::<Line>(json).ok())?
            },
        );
        let Some(line) = good else { return Ok((parts.into_values().collect(), true)) };
        any = true;
        if line.replaces {
            parts.clear();
        }
        for name in &line.remove {
            parts.remove(name);
        }
        parts.extend(line.upsert.into_iter().map(|part| (part.name.clone(), part)));
    }
}

/// Whether `folder` is on a file system that never reaches a disk, by the table of mounts.
fn in_memory(folder: &Path, mounts: &str) -> bool {
    let mut best: (usize, bool) = (0, false);
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(point), Some(kind)) = (words.next(), words.next()) else { continue };
        let point = point.replace("\\040", " ");
        if folder.starts_with(&point) && point.len() >= best.0 {
            best = (point.len(), matches!(kind, "tmpfs" | "ramfs"));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::super::tests::part;
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sluice-store-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn map(names: &[&str]) -> BTreeMap<PartName, Part> {
        names.iter().map(|name| (part(name).name, part(name))).collect()
    }

    fn names(parts: &[Part]) -> Vec<String> {
        parts.iter().map(|part| part.name.id.clone()).collect()
    }

    #[test]
    fn what_was_kept_is_loaded_also_after_removals() {
        let folder = Folder::new("kept");
        let mut store = Store::open(&folder.0).unwrap();
        assert!(store.load().is_empty());
        store.keep(&map(&["a", "b"]), &[part("a").name, part("b").name], &[]).unwrap();
        store.keep(&map(&["b", "c"]), &[part("c").name], &[part("a").name]).unwrap();
        assert_eq!(names(&Store::open(&folder.0).unwrap().load()), ["shop/b", "shop/c"]);
    }

    #[test]
    fn a_torn_end_falls_back_to_the_version_before_and_rubbish_to_nothing() {
        let folder = Folder::new("torn");
        let mut store = Store::open(&folder.0).unwrap();
        store.keep(&map(&["a"]), &[part("a").name], &[]).unwrap();
        store.keep(&map(&["a", "b"]), &[part("b").name], &[]).unwrap();
        let file = folder.0.join(FILE);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
        assert_eq!(names(&Store::open(&folder.0).unwrap().load()), ["shop/a"]);
        assert_eq!(names(&Store::open(&folder.0).unwrap().load()), ["shop/a"], "and it was written anew");
        fs::write(&file, b"\xff\xff rubbish").unwrap();
        assert!(Store::open(&folder.0).unwrap().load().is_empty());
        assert!(folder.0.join("last-known-good.corrupt").exists());
    }

    #[test]
    fn only_memory_file_systems_take_secrets() {
        let mounts = "/dev/vda / ext4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n/dev/vdb /run/disk ext4 rw 0 0\n";
        assert!(in_memory(Path::new("/run/sluice"), mounts));
        assert!(!in_memory(Path::new("/run/disk/sluice"), mounts));
        assert!(!in_memory(Path::new("/var/lib/sluice"), mounts));
    }
}
