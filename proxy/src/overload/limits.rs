//! The limits of a process: flags, and defaults that follow from its memory and its file descriptors.

/// Of the memory, in thousandths: clients with many requests get no more, and stalled ones are disconnected early.
pub(super) const MEMORY_HIGH: u64 = 800;
/// Connections with the most requests in progress are closed.
pub(crate) const MEMORY_CRITICAL: u64 = 900;
/// No request is accepted.
pub(super) const MEMORY_FULL: u64 = 950;

const CONNECTIONS: usize = 10_000;
const REQUESTS: usize = 10_000;
/// Memory for buffered bodies.
const BUFFER_MEMORY: u64 = 64 << 20;
/// What a request takes whose client does not read a large response: three times the read buffer of its upstream's connection
/// (the buffer, a chunk on the way, a chunk in the client's connection), and buffers of the kernel. It is taken after the
/// request was accepted, so the number of requests has to bound it.
const BYTES_PER_REQUEST: u64 = 512 << 10;
/// A connection with TLS, with what HTTP/2 keeps for it.
const BYTES_PER_CONNECTION: u64 = 64 << 10;
/// A process with less memory than this does not start to be useful; limits do not go below.
const LEAST: usize = 64;

/// Limits of a proxy. None: the default, which depends on the memory and the file descriptors of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Open client connections. Default: 10,000, or fewer: one for each 64 KiB of memory, and half of the file descriptors.
    pub connections: Option<usize>,
    /// Open connections from one address, or from one IPv6 network of 64 bits. Default: half of `connections`.
    pub connections_per_source: Option<usize>,
    /// Requests in flight. Default: 10,000, or one for each 512 KiB of memory.
    pub requests: Option<usize>,
    /// Requests in flight to one upstream. Default: half of `requests`.
    pub requests_per_upstream: Option<usize>,
    /// Concurrent HTTP/2 streams of one client connection. Default: 128.
    pub streams: Option<u32>,
    /// Bytes of memory. Default: the limit of the control group; without one memory is not limited.
    pub memory: Option<u64>,
    /// Bytes that request bodies may take while they are buffered, all together. Default: 64 MiB, or a quarter of the memory.
    pub buffer_memory: Option<u64>,
}

/// Limits without defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    pub(crate) connections: usize,
    pub(crate) connections_per_source: usize,
    pub(crate) requests: usize,
    pub(crate) requests_per_upstream: usize,
    pub(crate) streams: u32,
    pub(crate) buffer_memory: u64,
}

impl Limits {
    /// With the memory of the process, and the file descriptors that connections may have.
    pub(crate) fn resolve(&self, memory: Option<u64>, descriptors: usize) -> Resolved {
        let fit = |most: usize, bytes: u64| {
            let fit = memory.map_or(most, |memory| usize::try_from(memory / bytes).unwrap_or(usize::MAX));
            fit.clamp(LEAST, most)
        };
        let wanted = self.connections.unwrap_or_else(|| fit(CONNECTIONS, BYTES_PER_CONNECTION));
        // Each connection can have a request, and each request a connection to an upstream.
        let connections = wanted.min(descriptors / 2).max(1);
        let requests = self.requests.unwrap_or_else(|| fit(REQUESTS, BYTES_PER_REQUEST)).max(1);
        let quarter = memory.map_or(BUFFER_MEMORY, |memory| (memory / 4).min(BUFFER_MEMORY));
        Resolved {
            connections,
            connections_per_source: self.connections_per_source.unwrap_or(connections.div_ceil(2)).max(1),
            requests,
            requests_per_upstream: self.requests_per_upstream.unwrap_or(requests.div_ceil(2)).max(1),
            streams: self.streams.unwrap_or(128).max(1),
            buffer_memory: self.buffer_memory.unwrap_or(quarter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_follow_from_memory_and_file_descriptors() {
        let default = Limits::default();
        let of = |memory: Option<u64>, descriptors| {
            let limits = default.resolve(memory, descriptors);
            (limits.connections, limits.requests, limits.buffer_memory >> 20)
        };
        assert_eq!(of(None, 1 << 20), (10_000, 10_000, 64));
        assert_eq!(of(Some(8 << 30), 1 << 20), (10_000, 10_000, 64));
        assert_eq!(of(Some(1 << 30), 1 << 20), (10_000, 2_048, 64));
        assert_eq!(of(Some(256 << 20), 1 << 20), (4_096, 512, 64));
        assert_eq!(of(Some(64 << 20), 1 << 20), (1_024, 128, 16));
        assert_eq!(of(Some(1), 1 << 20), (64, 64, 0));
        assert_eq!(of(None, 30), (15, 10_000, 64));
        assert_eq!(of(None, 0), (1, 10_000, 64));
        let set = Limits {
            connections: Some(50),
            connections_per_source: Some(70),
            requests: Some(9),
            requests_per_upstream: None,
            streams: Some(0),
            memory: None,
            buffer_memory: Some(3),
        };
        let limits = set.resolve(Some(1), 1 << 20);
        assert_eq!((limits.connections, limits.connections_per_source), (50, 70));
        assert_eq!((limits.requests, limits.requests_per_upstream), (9, 5));
        assert_eq!((limits.streams, limits.buffer_memory), (1, 3));
    }
}
