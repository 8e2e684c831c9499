//! The last known good configuration on disk: one file with a snapshot and the changes since, each with a checksum. The
//! cost of a change depends on its size, and a restart always reads one complete version. Parts with secrets, such as
//! certificates, are stored on memory volumes only. Nothing waits for the disk: a task writes what is newest.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sluice_wire::{Delta, FleetName, Hash, MAX_FRAME_BYTES, MAX_PART_BYTES, Part, PartName, Parts};
use tokio::sync::watch;

/// The first line of the file. A different line means a different format.
const MAGIC: &[u8] = b"sluice-state-2\n";
const FILE: &str = "configuration.state";
const FLEET: &str = "fleet.state";
/// A write that takes longer is logged.
const SLOW_WRITE: Duration = Duration::from_secs(5);
/// A new snapshot is written when the changes are longer than the snapshot and than this.
const MIN_CHANGES: u64 = 1 << 20;
/// The line before each record: a hash in hexadecimal, a space, a length.
const MAX_HEAD: usize = 96;

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file cannot be read.
    #[error("cannot read the file")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write the file")]
    Write(#[source] io::Error),
    /// The format is unknown, or the file is too long.
    #[error("the file is not a saved configuration of this version")]
    Format,
    /// A record was cut.
    #[error("the record is incomplete")]
    Incomplete,
    /// A checksum does not match.
    #[error("the file does not match its checksum")]
    Checksum,
    /// The content cannot be decoded.
    #[error("cannot decode the file")]
    Decode(#[source] serde_json::Error),
    /// A configuration cannot be encoded.
    #[error("cannot encode the configuration")]
    Encode(#[source] serde_json::Error),
    /// The hash of a part does not match.
    #[error("the content of part {0} does not match its hash")]
    Part(PartName),
    /// The changes do not result in the version that the file names.
    #[error("the file does not result in the version that it names")]
    Version,
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// The file, or its newest record, is damaged or cannot be read.
    Read,
    /// A file cannot be written.
    Write,
}

/// Called for each failure.
pub type OnFailure = Arc<dyn Fn(Operation) + Send + Sync>;

/// A directory with the last known good configuration.
#[derive(Clone)]
pub struct Store {
    path: PathBuf,
    /// The proxy's fleet: the configuration of another must not be served.
    fleet: FleetName,
    secrets: bool,
    log: Arc<Mutex<Log>>,
    queue: Arc<Mutex<Queue>>,
    /// Whether nothing is pending.
    idle: watch::Sender<bool>,
    failed: OnFailure,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("path", &self.path).field("fleet", &self.fleet).finish_non_exhaustive()
    }
}

/// The content of the file.
#[derive(Debug, Default)]
struct Log {
    kept: Parts<Part>,
    snapshot: u64,
    changes: u64,
    /// Whether the file ends with a complete record, so that another can be appended.
    sound: bool,
    /// Why the newest record is not used.
    damage: Option<StateError>,
}

/// The pending writes. There is one writer at a time; what is newer replaces what is not being written yet.
#[derive(Debug, Default)]
struct Queue {
    next: Option<Parts<Part>>,
    /// The number of proxies that share each limit.
    proxies: Option<u32>,
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
                "certificates, and authorizers with secrets, are not stored for a restart, because the state directory is not \
                 a memory volume (tmpfs)"
            );
        }
        Ok(Self {
            path: dir.join(FILE),
            fleet: fleet.clone(),
            secrets,
            log: Arc::default(),
            queue: Arc::default(),
            idle: watch::Sender::new(true),
            failed: Arc::new(|_| {}),
        })
    }

    /// Calls `failed` for each failure from now on.
    #[must_use]
    pub fn on_failure(self, failed: OnFailure) -> Self {
        Self { failed, ..self }
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
                if let Some(error) = &read.damage {
                    (self.failed)(Operation::Read);
                    let error = sluice_daemon::logging::chain(error);
                    tracing::warn!(
                        state.file = %self.path.display(),
                        config.version = read.kept.version().short(),
                        error,
                        "the newest change of the saved configuration is damaged; using the version before it"
                    );
                }
                let kept = read.kept.clone();
                *locked(&self.log) = read;
                Some(kept)
            }
            Err(StateError::Read(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                (self.failed)(Operation::Read);
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

    /// Stores the number of proxies that share each limit, without waiting for the disk. A failure is logged.
    pub(super) fn save_fleet(&self, proxies: u32) {
        self.enqueue(|queue| queue.proxies = Some(proxies));
    }

    /// Stores the changes, without waiting for the disk. A failure is logged and leaves the previous file in place.
    pub(crate) fn save(&self, parts: &Parts<Part>) {
        self.enqueue(|queue| queue.next = Some(parts.clone()));
    }

    /// Waits until everything is stored, or its failure is logged.
    pub(crate) async fn flush(&self) {
        // The sender is not dropped: this is one.
        drop(self.idle.subscribe().wait_for(|idle| *idle).await);
    }

    fn enqueue(&self, add: impl FnOnce(&mut Queue)) {
        {
            let mut queue = locked(&self.queue);
            add(&mut queue);
            if std::mem::replace(&mut queue.writing, true) {
                return;
            }
            self.idle.send_replace(false);
        }
        let store = self.clone();
        let mut writing = tokio::task::spawn_blocking(move || store.write());
        let path = self.path.clone();
        tokio::spawn(async move {
            let ended = match tokio::time::timeout(SLOW_WRITE, &mut writing).await {
                Ok(ended) => ended,
                Err(_) => {
                    let seconds = SLOW_WRITE.as_secs();
                    tracing::warn!(state.file = %path.display(), "storing the configuration takes longer than {seconds} s");
                    writing.await
                }
            };
            if let Err(error) = ended {
                tracing::error!(%error, "storing the configuration failed");
            }
        });
    }

    /// Writes until nothing is pending.
    fn write(&self) {
        loop {
            let (proxies, parts) = {
                let mut queue = locked(&self.queue);
                let pending = (queue.proxies.take(), queue.next.take());
                if let (None, None) = pending {
                    queue.writing = false;
                    self.idle.send_replace(true);
                    return;
                }
                pending
            };
            // The fleet first: its file says which fleet the configuration belongs to.
            if let Some(proxies) = proxies {
                let path = self.path.with_file_name(FLEET);
                self.check(&path, replace(&path, format!("{proxies} {}\n", self.fleet).as_bytes()));
            }
            if let Some(parts) = parts {
                self.check(&self.path, self.advance(&parts));
            }
        }
    }

    fn check(&self, path: &Path, written: Result<(), StateError>) {
        if let Err(error) = written {
            (self.failed)(Operation::Write);
            let error = sluice_daemon::logging::chain(&error);
            tracing::warn!(state.file = %path.display(), error, "cannot store the configuration");
        }
    }

    fn advance(&self, parts: &Parts<Part>) -> Result<(), StateError> {
        let mut log = locked(&self.log);
        let mut now = log.kept.clone();
        let difference = parts.since(&log.kept);
        let (upsert, secret): (Vec<_>, Vec<_>) =
            difference.changed.into_iter().partition(|(_, part)| self.secrets || !part.may_hold_secrets());
        let upsert: Vec<Part> = upsert.into_iter().map(|(_, part)| part.clone()).collect();
        // A part that had no secret until now: what it was must not be served after a restart.
        let replaced = secret.into_iter().map(|(name, _)| name).filter(|name| log.kept.contains(name));
        let remove: Vec<PartName> = difference.removed.into_iter().chain(replaced).cloned().collect();
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
            *log = Log { snapshot: bytes.len() as u64, sound: true, ..Log::default() };
        }
        log.kept = now;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(change: &Delta) -> Result<Vec<u8>, StateError> {
    let body = serde_json::to_vec(change).map_err(StateError::Encode)?;
    let mut out = format!("{} {}\n", Hash::of(&body), body.len()).into_bytes();
    out.extend_from_slice(&body);
    out.push(b'\n');
    Ok(out)
}

fn append(path: &Path, bytes: &[u8]) -> Result<u64, StateError> {
    let appended = || {
        let mut file = fs::OpenOptions::new().append(true).open(path)?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    appended().map_err(StateError::Write)?;
    Ok(bytes.len() as u64)
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), StateError> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let replaced = || {
        let temporary = path.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&temporary, path)
    };
    replaced().map_err(StateError::Write)
}

/// Reads a file. If the newest record is incomplete or damaged, the version before it is used: a crash can cut a record, and
/// some file systems fill what was not written with zeros. A damaged record before others makes the whole file invalid.
fn read(path: &Path) -> Result<Log, StateError> {
    let limit = u64::try_from(MAX_FRAME_BYTES).unwrap_or(u64::MAX).saturating_mul(4);
    let mut file = fs::File::open(path).map_err(StateError::Read)?;
    if file.metadata().map_err(StateError::Read)?.len() > limit {
        return Err(StateError::Format);
    }
    let mut bytes = Vec::new();
    (&mut file).take(limit).read_to_end(&mut bytes).map_err(StateError::Read)?;
    drop(file);
    let mut rest = bytes.strip_prefix(MAGIC).ok_or(StateError::Format)?;
    let mut log = Log { sound: true, ..Log::default() };
    while !rest.is_empty() {
        match take(&mut log, rest) {
            Ok(length) => rest = rest.get(length..).unwrap_or_default(),
            Err(error) if log.snapshot == 0 || continues(rest) => return Err(error),
            Err(error) => {
                log.sound = false;
                log.damage = Some(error);
                break;
            }
        }
    }
    if log.snapshot == 0 { Err(StateError::Format) } else { Ok(log) }
}

/// Applies the first record of these bytes and returns its length.
fn take(log: &mut Log, bytes: &[u8]) -> Result<usize, StateError> {
    let (body, length) = first(bytes)?;
    let change: Delta = serde_json::from_slice(body).map_err(StateError::Decode)?;
    let begins = log.snapshot == 0;
    if change.base != if begins { Hash::NONE } else { log.kept.version() } {
        return Err(StateError::Version);
    }
    let mut kept = log.kept.clone();
    kept.extend(check(change.upsert)?.into_iter().map(|part| (part.name.clone(), part)));
    for name in &change.remove {
        kept.remove(name);
    }
    if kept.version() != change.version {
        return Err(StateError::Version);
    }
    log.kept = kept;
    *(if begins { &mut log.snapshot } else { &mut log.changes }) += length as u64;
    Ok(length)
}

/// The body of the first record, and the length of the record.
fn first(bytes: &[u8]) -> Result<(&[u8], usize), StateError> {
    let head = bytes.iter().take(MAX_HEAD).position(|byte| *byte == b'\n');
    let head = head.and_then(|end| Some((bytes.get(..end)?, bytes.get(end + 1..)?)));
    let Some((head, rest)) = head else {
        return Err(if bytes.len() < MAX_HEAD { StateError::Incomplete } else { StateError::Checksum });
    };
    let text = std::str::from_utf8(head).map_err(|_| StateError::Checksum)?;
    let (sum, length) = text.split_once(' ').ok_or(StateError::Checksum)?;
    let sum: Hash = sum.parse().map_err(|_| StateError::Checksum)?;
    let length: usize = length.parse().map_err(|_| StateError::Checksum)?;
    let body = rest.get(..length).filter(|_| rest.len() > length).ok_or(StateError::Incomplete)?;
    if Hash::of(body) != sum {
        return Err(StateError::Checksum);
    }
    Ok((body, head.len() + length + 2))
}

/// Whether a complete record follows the first one.
fn continues(bytes: &[u8]) -> bool {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| matches!(**byte, b'\n' | 0));
    ends.filter_map(|(at, _)| bytes.get(at + 1..)).any(|rest| first(rest).is_ok())
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
