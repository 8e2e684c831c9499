//! The last known good configuration on disk: one file with a snapshot and the changes since, each with a checksum. The
//! cost of a change depends on its size, and a restart always reads one complete version. Certificates contain private keys
//! and are stored on memory volumes only.

use std::fs;
use std::io::{self, BufRead as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_wire::{Delta, FleetName, Hash, MAX_FRAME_BYTES, MAX_PART_BYTES, Part, PartKind, PartName, Parts};

/// The first line of the file. A different line means a different format.
const MAGIC: &[u8] = b"sluice-state-2\n";
const FILE: &str = "configuration.state";
const FLEET: &str = "fleet.state";
/// Timeout of a write. A slow disk does not delay configuration.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// A new snapshot is written when the changes are longer than the snapshot and than this.
const MIN_CHANGES: u64 = 1 << 20;
/// The line before each record: a hash in hexadecimal, a space, a length.
const MAX_HEAD: u64 = 96;

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[from] io::Error),
    /// The format is unknown, or the file is too long.
    #[error("the file is not a saved configuration of this version")]
    Format,
    /// A checksum does not match.
    #[error("the file does not match its checksum")]
    Checksum,
    /// The content cannot be decoded.
    #[error("cannot decode the file")]
    Decode(#[from] serde_json::Error),
    /// The hash of a part does not match.
    #[error("the content of part {0} does not match its hash")]
    Part(PartName),
    /// The changes do not result in the version that the file names.
    #[error("the file does not result in the version that it names")]
    Version,
}

/// A directory with the last known good configuration.
#[derive(Clone, Debug)]
pub struct Store {
    path: PathBuf,
    /// The proxy's fleet: the configuration of another must not be served.
    fleet: FleetName,
    secrets: bool,
    log: Arc<Mutex<Log>>,
    queue: Arc<Mutex<Queue>>,
}

/// The content of the file.
#[derive(Debug, Default)]
struct Log {
    kept: Parts<Part>,
    snapshot: u64,
    changes: u64,
    /// Whether the file ends with a complete record, so that another can be appended.
    sound: bool,
}

/// The pending write. There is one writer at a time; a newer configuration replaces one that is not being written yet.
#[derive(Debug, Default)]
struct Queue {
    next: Option<Parts<Part>>,
    writing: bool,
}

impl Store {
    /// Opens the directory and creates it if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn open(dir: &Path, fleet: &FleetName) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let secrets = in_memory(dir, &fs::read_to_string("/proc/mounts").unwrap_or_default());
        if !secrets {
            tracing::warn!(
                state.dir = %dir.display(),
                "certificates are not stored for a restart, because the state directory is not a memory volume (tmpfs)"
            );
        }
        Ok(Self { path: dir.join(FILE), fleet: fleet.clone(), secrets, log: Arc::default(), queue: Arc::default() })
    }

    /// The stored configuration. None: there is none, or the file is invalid. An invalid file is renamed and logged.
    #[must_use]
    pub fn load(&self) -> Option<Parts<Part>> {
        if let Some((_, fleet)) = self.read_fleet()
            && fleet != self.fleet
        {
            // It may hold certificates and keys that this proxy must not have any more.
            let removed = fs::remove_file(&self.path).is_ok();
            tracing::warn!(
                state.file = %self.path.display(),
                state.fleet = %fleet,
                state.removed = removed,
                "the saved configuration is that of another fleet and is not served"
            );
            return None;
        }
        match read(&self.path) {
            Ok(read) => {
                let kept = read.kept.clone();
                *locked(&self.log) = read;
                Some(kept)
            }
            Err(StateError::Read(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let moved = fs::rename(&self.path, self.path.with_extension("corrupt")).is_ok();
                let error = sluice_daemon::logging::chain(&error);
                tracing::warn!(state.file = %self.path.display(), state.moved = moved, error, "ignoring an invalid saved configuration");
                None
            }
        }
    }

    /// The stored number of proxies that share each limit, so that a proxy that restarts alone does not use all of it.
    #[must_use]
    pub fn fleet(&self) -> Option<u32> {
        self.read_fleet().filter(|(_, fleet)| *fleet == self.fleet).map(|(proxies, _)| proxies)
    }

    fn read_fleet(&self) -> Option<(u32, FleetName)> {
        let text = fs::read_to_string(self.path.with_file_name(FLEET)).ok()?;
        let (proxies, fleet) = text.trim().split_once(' ').unwrap_or((text.trim(), "default"));
        Some((proxies.parse().ok().filter(|proxies| *proxies > 0)?, fleet.parse().ok()?))
    }

    /// Stores the number of proxies that share each limit. A failure is logged.
    pub(super) async fn save_fleet(&self, proxies: u32) {
        let path = self.path.with_file_name(FLEET);
        let text = format!("{proxies} {}\n", self.fleet);
        let writing = tokio::task::spawn_blocking(move || replace(&path, text.as_bytes()));
        let written = tokio::time::timeout(WRITE_DEADLINE, writing).await;
        if !matches!(written, Ok(Ok(Ok(())))) {
            tracing::warn!(state.file = FLEET, "cannot store the number of proxies");
        }
    }

    /// Writes the changes. A failure is logged and leaves the previous file in place.
    pub(crate) async fn save(&self, parts: &Parts<Part>) {
        {
            let mut queue = locked(&self.queue);
            queue.next = Some(parts.clone());
            if std::mem::replace(&mut queue.writing, true) {
                return;
            }
        }
        let store = self.clone();
        let writing = tokio::task::spawn_blocking(move || store.write());
        match tokio::time::timeout(WRITE_DEADLINE, writing).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "storing the configuration failed"),
            Err(_) => {
                tracing::warn!(
                    state.file = %self.path.display(),
                    "storing the configuration takes longer than {} s",
                    WRITE_DEADLINE.as_secs()
                );
            }
        }
    }

    /// Writes until nothing is pending.
    fn write(&self) {
        loop {
            let parts = {
                let mut queue = locked(&self.queue);
                match queue.next.take() {
                    Some(parts) => parts,
                    None => {
                        queue.writing = false;
                        return;
                    }
                }
            };
            if let Err(error) = self.advance(&parts) {
                let error = sluice_daemon::logging::chain(&error);
                tracing::warn!(state.file = %self.path.display(), error, "cannot store the configuration");
            }
        }
    }

    fn advance(&self, parts: &Parts<Part>) -> Result<(), StateError> {
        let mut log = locked(&self.log);
        let may_be_kept = |name: &PartName| self.secrets || name.kind != PartKind::Certificate;
        let mut now = log.kept.clone();
        let difference = parts.since(&log.kept);
        let upsert: Vec<Part> = difference
            .changed
            .into_iter()
            .filter(|(name, _)| may_be_kept(name))
            .map(|(_, part)| part.clone())
            .collect();
        let remove: Vec<PartName> = difference.removed.into_iter().cloned().collect();
        if upsert.is_empty() && remove.is_empty() && log.sound {
            return Ok(());
        }
        now.extend(upsert.iter().map(|part| (part.name.clone(), part.clone())));
        for name in &remove {
            now.remove(name);
        }
        let change = Delta { base: log.kept.version(), version: now.version(), upsert, remove };
        if log.sound && log.changes <= log.snapshot.max(MIN_CHANGES) {
            // Nothing may be appended until the record is complete.
            log.sound = false;
            log.changes += append(&self.path, &record(&change)?)?;
            log.sound = true;
        } else {
            let upsert = now.iter().map(|(_, part)| part.clone()).collect();
            let whole = Delta { base: Hash::NONE, version: now.version(), upsert, remove: Vec::new() };
            let mut bytes = MAGIC.to_vec();
            bytes.extend(record(&whole)?);
            replace(&self.path, &bytes)?;
            *log = Log { snapshot: bytes.len() as u64, changes: 0, sound: true, kept: Parts::new() };
        }
        log.kept = now;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(change: &Delta) -> Result<Vec<u8>, serde_json::Error> {
    let body = serde_json::to_vec(change)?;
    let mut out = format!("{} {}\n", Hash::of(&body), body.len()).into_bytes();
    out.extend_from_slice(&body);
    out.push(b'\n');
    Ok(out)
}

fn append(path: &Path, bytes: &[u8]) -> io::Result<u64> {
    let mut file = fs::OpenOptions::new().append(true).open(path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    Ok(bytes.len() as u64)
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

/// Reads a file. If a crash cut the last record, the version before it is used. A modified record makes the whole file
/// invalid.
fn read(path: &Path) -> Result<Log, StateError> {
    let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX).saturating_mul(4);
    let file = fs::File::open(path)?;
    if file.metadata()?.len() > limit {
        return Err(StateError::Format);
    }
    let mut file = io::BufReader::new(file.take(limit));
    let mut magic = vec![0; MAGIC.len()];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == MAGIC => {}
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error.into()),
        _ => return Err(StateError::Format),
    }
    let mut log = Log { sound: true, ..Log::default() };
    while let Some((body, length)) = next(&mut file, &mut log.sound)? {
        let change: Delta = serde_json::from_slice(&body)?;
        let first = log.snapshot == 0;
        if change.base != if first { Hash::NONE } else { log.kept.version() } {
            return Err(StateError::Version);
        }
        for part in check(change.upsert)? {
            log.kept.insert(part.name.clone(), part);
        }
        for name in &change.remove {
            log.kept.remove(name);
        }
        if log.kept.version() != change.version {
            return Err(StateError::Version);
        }
        *(if first { &mut log.snapshot } else { &mut log.changes }) += length;
    }
    if log.snapshot == 0 { Err(StateError::Format) } else { Ok(log) }
}

/// The next record and its length in the file. None at the end. `sound` becomes false if the last record was cut.
fn next(file: &mut impl io::BufRead, sound: &mut bool) -> Result<Option<(Vec<u8>, u64)>, StateError> {
    let mut head = Vec::new();
    file.take(MAX_HEAD).read_until(b'\n', &mut head)?;
    if head.is_empty() {
        return Ok(None);
    }
    if head.last() != Some(&b'\n') {
        *sound = false;
        return if head.len() as u64 == MAX_HEAD { Err(StateError::Checksum) } else { Ok(None) };
    }
    let text = std::str::from_utf8(&head).map_err(|_| StateError::Checksum)?;
    let (sum, length) = text.trim_end().split_once(' ').ok_or(StateError::Checksum)?;
    let sum: Hash = sum.parse().map_err(|_| StateError::Checksum)?;
    let length: u64 = length.parse().map_err(|_| StateError::Checksum)?;
    let mut body = Vec::new();
    file.take(length.saturating_add(1)).read_to_end(&mut body)?;
    if body.len() as u64 != length + 1 {
        *sound = false;
        return Ok(None);
    }
    body.pop();
    if Hash::of(&body) != sum {
        return Err(StateError::Checksum);
    }
    Ok(Some((body, head.len() as u64 + length + 1)))
}

/// Checks the parts of a file.
pub(super) fn check(parts: Vec<Part>) -> Result<Vec<Part>, StateError> {
    for part in &parts {
        if part.json.len() > MAX_PART_BYTES || Hash::of(part.json.as_bytes()) != part.hash {
            return Err(StateError::Part(part.name.clone()));
        }
    }
    Ok(parts)
}

/// Whether the mount with the longest prefix of `dir` is in memory.
fn in_memory(dir: &Path, mounts: &str) -> bool {
    let Ok(dir) = fs::canonicalize(dir) else { return false };
    let lines = mounts.lines().filter_map(|line| {
        let mut columns = line.split(' ');
        // The kernel writes spaces in paths as \040.
        let point = columns.nth(1)?.replace("\\040", " ");
        Some((point, columns.next()?))
    });
    let of_dir = lines.filter(|(point, _)| dir.starts_with(point));
    // Of two mounts on one point the later one is on top.
    of_dir.max_by_key(|(point, _)| point.len()).is_some_and(|(_, kind)| kind == "tmpfs" || kind == "ramfs")
}

#[cfg(test)]
mod tests;
