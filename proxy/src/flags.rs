//! Flags for the limits of a proxy, in size and time.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use clap::Args;
use sluice_proxy::{Limits, Timeouts};

/// What is unset has a default that depends on the memory and on the file descriptors of the process.
#[derive(Args)]
pub(crate) struct LimitFlags {
    /// Open client connections. At the limit, idle ones are closed for new ones. Unset: 10,000, or fewer: one for each 64 KiB
    /// of memory, and half of the file descriptors.
    #[arg(long, env = "SLUICE_MAX_CONNECTIONS")]
    max_connections: Option<NonZeroUsize>,
    /// Open client connections from one IPv4 address, or from one IPv6 network of 64 bits. Unset: half of --max-connections.
    #[arg(long, env = "SLUICE_MAX_CONNECTIONS_PER_SOURCE")]
    max_connections_per_source: Option<NonZeroUsize>,
    /// Concurrent HTTP/2 streams of a client connection. Unset: 128.
    #[arg(long, env = "SLUICE_MAX_STREAMS_PER_CONNECTION")]
    max_streams_per_connection: Option<NonZeroU32>,
    /// Requests in progress, WebSockets included. Further ones are rejected with 503. Unset: 10,000, or one for each 512 KiB of
    /// memory.
    #[arg(long, env = "SLUICE_MAX_REQUESTS")]
    max_requests: Option<NonZeroUsize>,
    /// Requests in progress to one Service port or external host. Further ones are rejected with 503. Unset: half of
    /// --max-requests.
    #[arg(long, env = "SLUICE_MAX_REQUESTS_PER_UPSTREAM")]
    max_requests_per_upstream: Option<NonZeroUsize>,
    /// Seconds from the head of a request to the end of its response or WebSocket. Longer ones are aborted, so that a caller
    /// whose token or key is not valid any more is disconnected.
    #[arg(long, env = "SLUICE_MAX_STREAM_AGE", default_value = "7200")]
    max_stream_age: NonZeroU32,
    /// Memory of this process, in MiB. Close to it, requests are rejected with 503. Unset: the memory limit of the container.
    #[arg(long, env = "SLUICE_MEMORY_LIMIT")]
    memory_limit: Option<NonZeroU32>,
    /// Memory for request bodies that are buffered, in MiB. Requests that need more are rejected with 503. Unset: 64, or a
    /// quarter of the memory.
    #[arg(long, env = "SLUICE_BUFFER_MEMORY")]
    buffer_memory: Option<u32>,
}

impl LimitFlags {
    pub(crate) fn timeouts(&self) -> Timeouts {
        Timeouts { stream_age: Duration::from_secs(self.max_stream_age.get().into()), ..Timeouts::default() }
    }

    pub(crate) fn limits(&self) -> Limits {
        let mebibytes = |number: u32| u64::from(number) << 20;
        Limits {
            connections: self.max_connections.map(NonZeroUsize::get),
            connections_per_source: self.max_connections_per_source.map(NonZeroUsize::get),
            requests: self.max_requests.map(NonZeroUsize::get),
            requests_per_upstream: self.max_requests_per_upstream.map(NonZeroUsize::get),
            streams: self.max_streams_per_connection.map(NonZeroU32::get),
            memory: self.memory_limit.map(|number| mebibytes(number.get())),
            buffer_memory: self.buffer_memory.map(mebibytes),
        }
    }
}
