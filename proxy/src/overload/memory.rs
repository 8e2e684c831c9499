//! Memory in use and its limit: of the control groups of the process (versions 2 and 1), and of the process itself against a
//! configured limit. Files are opened once and read again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const CGROUP: &str = "/sys/fs/cgroup";
const STATUS: &str = "/proc/self/status";
/// Longest file that is read.
const MAX_FILE: usize = 16 << 10;

/// Names of the files of one version of control groups.
struct Version {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: files that can be dropped from memory at any time.
    reclaimable: &'static str,
}

const V2: Version = Version { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file" };
const V1: Version =
    Version { limit: "memory.limit_in_bytes", usage: "memory.usage_in_bytes", reclaimable: "total_inactive_file" };

/// The memory of this process.
pub(crate) struct Memory {
    limited: Vec<Limited>,
}

/// One limit, and what counts towards it.
struct Limited {
    bytes: u64,
    usage: Usage,
}

enum Usage {
    Group { usage: File, stat: Option<File>, reclaimable: &'static str },
    Process(File),
}

impl Memory {
    /// Looks for limits; `configured` is one more.
    pub(crate) fn find(configured: Option<u64>) -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut limited = groups_of(&groups, Path::new(CGROUP));
        if let Some(bytes) = configured {
            match File::open(STATUS) {
                Ok(file) => limited.push(Limited { bytes: bytes.max(1), usage: Usage::Process(file) }),
                Err(error) => tracing::warn!(%error, file = STATUS, "cannot measure memory; the limit is not enforced"),
            }
        }
        Self { limited }
    }

    /// The lowest limit; none: memory is not limited.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.limited.iter().map(|limited| limited.bytes).min()
    }

    /// Bytes in use, and the part of the limit that is used, in thousandths: for the limit that is closest.
    pub(crate) fn usage(&self) -> (u64, u64) {
        let used = self.limited.iter().filter_map(|limited| {
            let used = limited.usage.read()?;
            Some((used, used.saturating_mul(1000) / limited.bytes))
        });
        used.max_by_key(|(_, part)| *part).unwrap_or_default()
    }
}

impl Usage {
    fn read(&self) -> Option<u64> {
        match self {
            Self::Group { usage, stat, reclaimable } => {
                let used: u64 = read(usage).ok()?.trim().parse().ok()?;
                let stat = stat.as_ref().and_then(|stat| read(stat).ok());
                let files = stat.and_then(|text| field(&text, reclaimable)).unwrap_or(0);
                Some(used.saturating_sub(files))
            }
            Self::Process(status) => {
                let text = read(status).ok()?;
                let kib = |name| field(&text, name).unwrap_or(0);
                // Without the program's own file.
                Some((kib("RssAnon:") + kib("RssShmem:")) << 10)
            }
        }
    }
}

/// The limits of the groups in `/proc/self/cgroup`, and of those above them.
fn groups_of(groups: &str, root: &Path) -> Vec<Limited> {
    let mut found = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        let (version, mounts) = if controllers.is_empty() {
            (&V2, vec![root.to_owned(), root.join("unified")])
        } else if controllers.split(',').any(|one| one == "memory") {
            (&V1, vec![root.join("memory"), root.join(controllers)])
        } else {
            continue;
        };
        for mount in mounts {
            // In a container the path is often that of the host, and the group itself is mounted.
            let mut at = PathBuf::from(path.trim_start_matches('/'));
            loop {
                found.extend(limited(&mount.join(&at), version));
                if !at.pop() {
                    break;
                }
            }
        }
    }
    found
}

fn limited(group: &Path, version: &'static Version) -> Option<Limited> {
    // `max`, and a number of pages that no machine has, mean that there is no limit.
    let bytes: u64 = std::fs::read_to_string(group.join(version.limit)).ok()?.trim().parse().ok()?;
    if bytes == 0 || bytes > 1 << 50 {
        return None;
    }
    let usage = File::open(group.join(version.usage)).ok()?;
    let stat = File::open(group.join("memory.stat")).ok();
    Some(Limited { bytes, usage: Usage::Group { usage, stat, reclaimable: version.reclaimable } })
}

/// The file from its beginning.
fn read(file: &File) -> io::Result<String> {
    let mut bytes = vec![0; MAX_FILE];
    let mut length = 0;
    loop {
        let size = file.read_at(&mut bytes[length..], length as u64)?;
        length += size;
        if size == 0 || length == bytes.len() {
            break;
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The number after a name at the beginning of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some(name)).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files with their texts.
    fn tree(name: &str, files: &[(&str, &str)]) -> PathBuf {
        let root = std::env::temp_dir().join(format!("sluice-memory-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn found(groups: &str, root: &Path) -> (Option<u64>, (u64, u64)) {
        let memory = Memory { limited: groups_of(groups, root) };
        (memory.limit(), memory.usage())
    }

    #[test]
    fn the_closest_limit_of_the_groups_of_both_versions_counts() {
        let stat = "anon 10\ninactive_file 400\nactive_file 7\n";
        let v2 = tree(
            "v2",
            &[
                ("pods/memory.max", "2000\n"),
                ("pods/memory.current", "900\n"),
                ("pods/one/memory.max", "1000\n"),
                ("pods/one/memory.current", "900\n"),
                ("pods/one/memory.stat", stat),
            ],
        );
        // 450 of 1,000 (2,000 with 900) without the files that can be dropped, in the group itself.
        assert_eq!(found("0::/pods/one\n", &v2), (Some(1000), (500, 500)));
        assert_eq!(found("0::/pods\n", &v2), (Some(2000), (900, 450)));
        let unlimited = tree("unlimited", &[("memory.max", "max\n"), ("memory.current", "900\n")]);
        assert_eq!(found("0::/\n", &unlimited), (None, (0, 0)));
        // In a container: the path is the host's, and the group is mounted at the root.
        let mounted = tree("mounted", &[("memory.max", "1000\n"), ("memory.current", "990\n")]);
        assert_eq!(found("0::/kubepods/pod1/c1\n", &mounted), (Some(1000), (990, 990)));
        let v1 = tree(
            "v1",
            &[
                ("memory/a/memory.limit_in_bytes", "1000\n"),
                ("memory/a/memory.usage_in_bytes", "950\n"),
                ("memory/a/memory.stat", "inactive_file 1\ntotal_inactive_file 50\n"),
                ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory/memory.usage_in_bytes", "123456\n"),
            ],
        );
        assert_eq!(found("8:pids:/\n4:memory:/a\n1:cpu:/a\n0::/\n", &v1), (Some(1000), (900, 900)));
        assert_eq!(found("nonsense\n4:memory\n", &v1), (None, (0, 0)));
        for root in [v2, unlimited, mounted, v1] {
            std::fs::remove_dir_all(root).unwrap();
        }
    }

    #[test]
    fn a_configured_limit_is_compared_with_the_memory_of_the_process() {
        let memory = Memory::find(Some(1 << 20));
        assert!(memory.limit().unwrap() <= 1 << 20);
        let (used, part) = memory.usage();
        // A test program has more than 1 MiB.
        assert!(used > 1 << 20 && part > 1000, "{used} {part}");
    }
}
