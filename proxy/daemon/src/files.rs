//! File descriptors: their limit, and how many are open.

/// Raises the limit of this process as far as it is allowed, and returns it. Container runtimes set a low limit that each
/// process may raise, for programs that use `select`.
pub fn raise_limit() -> usize {
    let limit = rlimit::increase_nofile_limit(u64::MAX).or_else(|error| {
        tracing::warn!(%error, "cannot raise the limit of file descriptors");
        rlimit::getrlimit(rlimit::Resource::NOFILE).map(|(soft, _)| soft)
    });
    // Without a known limit, that of POSIX systems with the fewest.
    limit.map_or(256, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

/// Lets the kernel make room for so many file descriptors, as far as the limit allows. To be called before the first thread
/// starts: after that, each time that the kernel doubles the room, the thread that opens a file waits for tens of
/// milliseconds, and others with it.
pub fn make_room(count: usize) {
    let Ok(file) = std::fs::File::open("/dev/null") else { return };
    let copies: Vec<_> = (0..count).map_while(|_| file.try_clone().ok()).collect();
    drop(copies);
}

/// The limit of this process.
pub fn limit() -> usize {
    let limit = rlimit::getrlimit(rlimit::Resource::NOFILE);
    limit.map_or(256, |(soft, _)| usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Open file descriptors.
pub fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(64, Iterator::count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_files_are_counted_and_fewer_than_the_limit() {
        let before = open();
        let files: Vec<_> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
        assert!(open() >= before + 10 && open() < limit());
        drop(files);
        assert!(raise_limit() >= limit());
        make_room(5_000);
        assert!(open() < 5_000, "all are closed again");
    }
}
