//! The last known good configuration on disk: one file per kind of part, replaced atomically, with a checksum.
//! Certificates hold private keys and are kept on memory volumes only.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use sluice_wire::{Hash, MAX_FRAME_BYTES, MAX_PART_BYTES, Part, PartKind, PartName};

/// The first word of each file; another one is another format.
const MAGIC: &str = "sluice-state-1";
/// A disk that takes longer does not hold up the configuration.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
const KINDS: [(PartKind, &str); 7] = [
    (PartKind::Stage, "stages"),
    (PartKind::Route, "routes"),
    (PartKind::Authorizer, "authorizers"),
    (PartKind::Keys, "keys"),
    (PartKind::Plan, "plans"),
    (PartKind::Upstream, "upstreams"),
    (PartKind::Certificate, "certificates"),
];

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    /// It has another beginning than ours, or is too long.
    #[error("the file is not a saved configuration of this version")]
    Format,
    /// It was cut, or changed.
    #[error("the file does not match its checksum")]
    Checksum,
    /// Its text is not what it should be.
    #[error("cannot decode the file")]
    Decode(#[from] serde_json::Error),
    /// A part in it is not what its hash says.
    #[error("the content of part {0} does not match its hash")]
    Part(PartName),
}

/// A directory with the last known good configuration.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
    secrets: bool,
    writes: Arc<Writes>,
}

/// A write that outlived its deadline must not undo a later one.
#[derive(Debug, Default)]
struct Writes {
    next: AtomicU64,
    /// The newest of each kind. Held while a file is written: one writer at a time.
    done: Mutex<BTreeMap<PartKind, u64>>,
}

impl Writes {
    fn run(&self, kind: PartKind, number: u64, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        if done.get(&kind).is_some_and(|newest| *newest > number) {
            return Ok(());
        }
        replace(path, bytes)?;
        done.insert(kind, number);
        Ok(())
    }
}

impl Store {
    /// Opens the directory and makes it when it is missing.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let secrets = in_memory(dir, &fs::read_to_string("/proc/mounts").unwrap_or_default());
        if !secrets {
            tracing::warn!(
                state.dir = %dir.display(),
                "certificates are not kept over a restart, because the state directory is not a memory volume (tmpfs)"
            );
        }
        Ok(Self { dir: dir.to_owned(), secrets, writes: Arc::default() })
    }

    /// Everything that is there. A file that cannot be used is set aside and said, not fatal.
    #[must_use]
    pub fn load(&self) -> BTreeMap<PartName, Part> {
        let mut all = BTreeMap::new();
        for (kind, name) in KINDS {
            let path = self.path(name);
            match read(&path, kind) {
                Ok(parts) => all.extend(parts.into_iter().map(|part| (part.name.clone(), part))),
                Err(StateError::Read(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let aside = path.with_extension("corrupt");
                    let moved = fs::rename(&path, &aside).is_ok();
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(state.file = %path.display(), state.moved = moved, error, "set a saved configuration aside");
                }
            }
        }
        all
    }

    /// Writes the files of the kinds that changed. A failure is said and leaves the file before it in place.
    pub(super) async fn save(&self, parts: &BTreeMap<PartName, Part>, kinds: &[PartKind]) {
        let deadline = Instant::now() + WRITE_DEADLINE;
        let number = self.writes.next.fetch_add(1, Ordering::Relaxed);
        for (kind, name) in KINDS.into_iter().filter(|(kind, _)| kinds.contains(kind)) {
            if kind == PartKind::Certificate && !self.secrets {
                continue;
            }
            let of_kind: Vec<&Part> = parts.values().filter(|part| part.name.kind == kind).collect();
            let path = self.path(name);
            let written = match encode(&of_kind) {
                Ok(bytes) => {
                    let (target, writes) = (path.clone(), Arc::clone(&self.writes));
                    let write = tokio::task::spawn_blocking(move || writes.run(kind, number, &target, &bytes));
                    match tokio::time::timeout_at(deadline, write).await {
                        Ok(Ok(result)) => result,
                        Ok(Err(join)) => Err(io::Error::other(join)),
                        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the disk took longer than 5 s")),
                    }
                }
                Err(error) => Err(error.into()),
            };
            if let Err(error) = written {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(state.file = %path.display(), error, "cannot keep the configuration over a restart");
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.state"))
    }
}

fn encode(parts: &[&Part]) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_vec(parts)?;
    let mut out = format!("{MAGIC} {}\n", Hash::of(&body)).into_bytes();
    out.extend_from_slice(&body);
    Ok(out)
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&temporary, path)
}

fn read(path: &Path, kind: PartKind) -> Result<Vec<Part>, StateError> {
    let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    fs::File::open(path)?.take(limit.saturating_mul(2)).read_to_end(&mut bytes)?;
    let end = bytes.iter().position(|b| *b == b'\n').ok_or(StateError::Format)?;
    let (head, body) = bytes.split_at(end);
    let body = body.get(1..).ok_or(StateError::Format)?;
    let head = std::str::from_utf8(head).map_err(|_| StateError::Format)?;
    let sum = head.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' ')).ok_or(StateError::Format)?;
    if sum.parse::<Hash>().ok() != Some(Hash::of(body)) {
        return Err(StateError::Checksum);
    }
    let parts: Vec<Part> = serde_json::from_slice(body)?;
    check(parts, Some(kind))
}

/// Parts as they may be taken from a file.
pub(super) fn check(parts: Vec<Part>, kind: Option<PartKind>) -> Result<Vec<Part>, StateError> {
    for part in &parts {
        let fits = part.json.len() <= MAX_PART_BYTES && Hash::of(part.json.as_bytes()) == part.hash;
        if !fits || kind.is_some_and(|kind| part.name.kind != kind) {
            return Err(StateError::Part(part.name.clone()));
        }
    }
    Ok(parts)
}

/// Whether the mount with the longest prefix of `dir` lives in memory.
fn in_memory(dir: &Path, mounts: &str) -> bool {
    let Ok(dir) = fs::canonicalize(dir) else { return false };
    let lines = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ');
        // The kernel writes spaces in paths as \040.
        let point = words.nth(1)?.replace("\\040", " ");
        Some((point, words.next()?))
    });
    let of_dir = lines.filter(|(point, _)| dir.starts_with(point));
    // Of two mounts on one point the later one is on top.
    of_dir.max_by_key(|(point, _)| point.len()).is_some_and(|(_, kind)| kind == "tmpfs" || kind == "ramfs")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static NEXT: AtomicU32 = AtomicU32::new(0);

    struct Dir(PathBuf);
    impl Dir {
        fn new() -> Self {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            Self(std::env::temp_dir().join(format!("sluice-store-{}-{n}", std::process::id())))
        }
    }
    impl Drop for Dir {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    fn part(kind: PartKind, id: &str, json: &str) -> (PartName, Part) {
        let name = PartName::new(kind, id);
        (name.clone(), Part { name, hash: Hash::of(json.as_bytes()), json: json.to_owned() })
    }

    fn world() -> BTreeMap<PartName, Part> {
        BTreeMap::from([
            part(PartKind::Stage, "shop/prod", "{\"a\":1}"),
            part(PartKind::Route, "shop/orders", "{\"b\":2}"),
            part(PartKind::Certificate, "shop/tls", "{\"key\":\"secret\"}"),
        ])
    }

    const ALL: [PartKind; 3] = [PartKind::Stage, PartKind::Route, PartKind::Certificate];

    #[tokio::test]
    async fn what_was_saved_is_loaded_and_certificates_only_where_they_may_be() {
        for secrets in [true, false] {
            let dir = Dir::new();
            let mut store = Store::open(&dir.0).unwrap();
            store.secrets = secrets;
            store.save(&world(), &ALL).await;
            let mut expected = world();
            if !secrets {
                expected.retain(|name, _| name.kind != PartKind::Certificate);
            }
            assert_eq!(store.load(), expected);
        }
    }

    #[tokio::test]
    async fn a_corrupt_file_is_set_aside_and_the_others_are_served() {
        let good = encode(&[&part(PartKind::Route, "shop/orders", "{\"b\":2}").1]).unwrap();
        let wrong_hash = Part { hash: Hash::of(b"other"), ..part(PartKind::Route, "shop/orders", "{}").1 };
        let cut = good[..good.len() - 1].to_vec();
        let flipped = {
            let mut bytes = good.clone();
            *bytes.last_mut().unwrap() ^= 1;
            bytes
        };
        let foreign = encode(&[&part(PartKind::Stage, "shop/prod", "{}").1]).unwrap();
        for bad in [Vec::new(), b"{}".to_vec(), cut, flipped, encode(&[&wrong_hash]).unwrap(), foreign] {
            let dir = Dir::new();
            let store = Store::open(&dir.0).unwrap();
            store.save(&world(), &ALL).await;
            fs::write(store.path("routes"), &bad).unwrap();
            let loaded = store.load();
            assert!(loaded.keys().any(|name| name.kind == PartKind::Stage));
            assert!(!loaded.keys().any(|name| name.kind == PartKind::Route));
            assert!(dir.0.join("routes.corrupt").exists());
            assert_eq!(store.load(), loaded);
        }
    }

    #[test]
    fn a_late_write_does_not_undo_a_newer_one() {
        let dir = Dir::new();
        let store = Store::open(&dir.0).unwrap();
        let path = store.path("routes");
        for (number, text) in [(0, "zero"), (2, "two"), (1, "one")] {
            store.writes.run(PartKind::Route, number, &path, text.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "two");
    }

    #[test]
    fn memory_volumes_are_told_from_disks() {
        let dir = Dir::new();
        fs::create_dir_all(&dir.0).unwrap();
        let real = fs::canonicalize(&dir.0).unwrap();
        let root = "overlay / overlay rw 0 0\n";
        let at = |kind: &str| format!("{root}x {} {kind} rw 0 0\n", real.display());
        assert!(!in_memory(&dir.0, root));
        assert!(in_memory(&dir.0, &at("tmpfs")));
        assert!(!in_memory(&dir.0, &at("ext4")));
        assert!(!in_memory(&dir.0, &format!("{}{}", at("tmpfs"), at("ext4"))));
        assert!(!in_memory(&dir.0, &format!("{root}x {}-other tmpfs rw 0 0\n", real.display())));
    }
}
