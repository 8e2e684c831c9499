//! Watches a directory of manifests and reports changes once files stop changing. The directory is then loaded again.
//!
//! It polls times, sizes and identities of the files several times per second instead of using file system events. Polling
//! works on every file system (bind mounts of virtual machines, NFS and overlays send no events), with editors that replace
//! files and with ConfigMaps that swap directories, and takes a few microseconds per file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::{Stream, stream};

use super::walk;

/// Polling interval.
const INTERVAL: Duration = Duration::from_millis(150);

/// A directory that never stops changing is reported at least this often.
const RESTLESS: Duration = Duration::from_millis(600);

/// The compared state: size, modification time and identity of each file.
type Snapshot = BTreeMap<PathBuf, (u64, Option<SystemTime>, u64)>;

/// A stream with one item for each change of the directory.
///
/// The directory is read before this returns: watch first, then load, and no change is missed. Must be polled within a
/// Tokio runtime.
pub fn watch(dir: &Path) -> impl Stream<Item = ()> + Send + use<> {
    let dir: Arc<Path> = dir.into();
    let reported = Some(snapshot(&dir));
    stream::unfold((dir, reported), |(dir, reported)| async move {
        let now = settle(&dir, reported.as_ref()).await;
        Some(((), (dir, Some(now))))
    })
}

/// Waits until the directory differs from the reported state and is unchanged for one interval.
async fn settle(dir: &Arc<Path>, reported: Option<&Snapshot>) -> Snapshot {
    let mut last: Option<Snapshot> = None;
    let mut changed_since: Option<Instant> = None;
    let mut pause = INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let started = Instant::now();
        let looked = tokio::task::spawn_blocking({
            let dir = Arc::clone(dir);
            move || snapshot(&dir)
        })
        .await;
        // A large directory is polled less often, to use at most a tenth of a core.
        pause = INTERVAL.max(started.elapsed() * 10);
        let Ok(now) = looked else { continue };
        if reported == Some(&now) {
            (last, changed_since) = (None, None);
            continue;
        }
        let since = *changed_since.get_or_insert(started);
        if last.as_ref() == Some(&now) || since.elapsed() >= RESTLESS {
            return now;
        }
        last = Some(now);
    }
}

fn snapshot(dir: &Path) -> Snapshot {
    let listing = walk::list(dir);
    let problems = listing.problems.into_iter().map(|(path, _)| (path, (0, None, 0)));
    let files = listing.files.into_iter().map(|path| {
        let state = fs::metadata(&path)
            .map_or((0, None, 0), |metadata| (metadata.len(), metadata.modified().ok(), identity(&metadata)));
        (path, state)
    });
    problems.chain(files).collect()
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> u64 {
    0
}
