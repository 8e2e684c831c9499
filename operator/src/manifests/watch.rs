//! Tells when a directory of manifests has changed and come to rest.
//! What changed is found by loading it again.
//!
//! It looks at times, sizes and identities of the files several times a second instead of asking the system for events:
//! that works the same on every file system (bind mounts of desktop virtual machines, NFS and overlays send no events),
//! survives editors that replace files and ConfigMaps that swap directories, and costs a few microseconds for each file.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::{Stream, stream};

use super::walk;

/// How often the directory is looked at.
const INTERVAL: Duration = Duration::from_millis(150);

/// A directory that never comes to rest is reported at least this often.
const RESTLESS: Duration = Duration::from_millis(600);

/// What is compared: for each file its size, its time, and which file it is.
type Snapshot = BTreeMap<PathBuf, (u64, Option<SystemTime>, u64)>;

/// A stream with one item for each change of the directory that has come to rest.
///
/// The directory is looked at before this returns: begin to watch, then load, and no change is missed. Must be polled
/// within a Tokio runtime.
pub fn watch(dir: &Path) -> impl Stream<Item = ()> + Send + use<> {
    let dir: Arc<Path> = dir.into();
    let told = Some(snapshot(&dir));
    stream::unfold((dir, told), |(dir, told)| async move {
        let now = settle(&dir, told.as_ref()).await;
        Some(((), (dir, Some(now))))
    })
}

/// Waits until the directory differs from what was told and holds still for one interval.
async fn settle(dir: &Arc<Path>, told: Option<&Snapshot>) -> Snapshot {
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
        // A large directory is looked at less often: a tenth of a core at most.
        pause = INTERVAL.max(started.elapsed() * 10);
        let Ok(now) = looked else { continue };
        if told == Some(&now) {
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
    let faults = listing.faults.into_iter().map(|(path, _)| (path, (0, None, 0)));
    let files = listing.files.into_iter().map(|path| {
        let state = fs::metadata(&path)
            .map_or((0, None, 0), |metadata| (metadata.len(), metadata.modified().ok(), identity(&metadata)));
        (path, state)
    });
    faults.chain(files).collect()
}

#[cfg(unix)]
fn identity(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn identity(_: &fs::Metadata) -> u64 {
    0
}
