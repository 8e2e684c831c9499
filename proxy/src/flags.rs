//! Flags for the limits of a proxy, in size and time, and for the proxies in front of it.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use sluice_proxy::run::{AddressHeader, ProxyProtocol, TrustedProxies};
use sluice_proxy::{Limits, Timeouts};
use sluice_wire::Network;

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

/// Proxies and load balancers in front of this proxy.
#[derive(Args)]
pub(crate) struct FrontFlags {
    /// Networks of proxies in front of this one, separated by commas. In requests from them, the client's address is the one
    /// that they state in --client-address-header. Example: 10.0.0.0/8,2001:db8:f::/48.
    #[arg(long, env = "SLUICE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    trusted_proxies: Vec<Network>,
    /// Header in which trusted proxies state the address of their client. They must append to it, or replace it.
    #[arg(long, env = "SLUICE_CLIENT_ADDRESS_HEADER", value_enum, default_value = "x-forwarded-for")]
    client_address_header: ClientAddressHeader,
    /// Number of proxies between the client and this proxy, for example if a content delivery network has no fixed addresses:
    /// the client is this entry of the header, counted from its end. Unset: the last entry that is no trusted proxy.
    #[arg(long, env = "SLUICE_TRUSTED_PROXY_HOPS", value_parser = clap::value_parser!(u8).range(1..=16))]
    trusted_proxy_hops: Option<u8>,
    /// Listeners whose connections begin with a PROXY protocol header (version 1 or 2), separated by commas. Only trusted
    /// proxies may connect to them.
    #[arg(long, env = "SLUICE_PROXY_PROTOCOL", value_delimiter = ',', value_enum, value_name = "LISTENER")]
    proxy_protocol: Vec<Listener>,
}

/// Where trusted proxies state the address of their client.
#[derive(Clone, Copy, ValueEnum)]
enum ClientAddressHeader {
    /// Addresses, separated by commas.
    XForwardedFor,
    /// RFC 7239.
    Forwarded,
}

/// A listener.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Listener {
    /// That of --http.
    Http,
    /// That of --https.
    Https,
}

impl FrontFlags {
    pub(crate) fn trusted_proxies(&self) -> TrustedProxies {
        TrustedProxies {
            networks: self.trusted_proxies.clone(),
            header: match self.client_address_header {
                ClientAddressHeader::XForwardedFor => AddressHeader::XForwardedFor,
                ClientAddressHeader::Forwarded => AddressHeader::Forwarded,
            },
            hops: self.trusted_proxy_hops,
        }
    }

    pub(crate) fn proxy_protocol(&self) -> anyhow::Result<ProxyProtocol> {
        if self.trusted_proxies.is_empty() {
            if !self.proxy_protocol.is_empty() {
                bail!(
                    "--proxy-protocol needs --trusted-proxies: the networks of the load balancers that send the header"
                );
            }
            if self.trusted_proxy_hops.is_some() {
                bail!(
                    "--trusted-proxy-hops needs --trusted-proxies: the networks of the proxies that connect to this one"
                );
            }
        }
        let of = |listener| self.proxy_protocol.contains(&listener);
        Ok(ProxyProtocol { http: of(Listener::Http), https: of(Listener::Https) })
    }
}
