//! The client's connection: where it comes from, where it is in its exchange of requests and responses, and which bytes of
//! responses it has not sent yet. Accepting and serving connections is `listen`.

mod conn_state;
mod connections;
mod flow;

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::client_certificate::Presented;
use crate::explain::Trace;
use crate::overload::Load;
use crate::source::Trusted;
use crate::timeouts::Timeouts;

pub(crate) use conn_state::ConnState;
pub(crate) use connections::{ConnectionMetrics, Connections, OpenConnection, Orders};
pub(crate) use flow::{Flow, TrackedBytes};

/// Address and protocol of a client's connection, as header values that are made once.
pub(crate) struct Origin {
    pub(crate) address: IpAddr,
    pub(crate) source: HeaderValue,
    /// Set if the other end is a trusted proxy: it states the address of its client in each request.
    pub(crate) behind: Option<Arc<Trusted>>,
    pub(crate) port: HeaderValue,
    /// What the proxy has proved to the client; none: the connection is plain HTTP.
    pub(crate) tls: Option<Arc<dyn Certified>>,
    /// Whether the other end is a load balancer that terminates TLS: its `X-Forwarded-Proto` is true.
    pub(crate) terminates_tls: bool,
}

/// The certificates of a TLS connection.
pub(crate) trait Certified: Send + Sync {
    /// Whether the proxy may respond for a host on this connection.
    fn covers(&self, host: &str) -> bool;

    /// Whether the client named this host in the handshake.
    fn is_named(&self, host: &str) -> bool;

    /// The certificate of the client.
    fn presented(&self) -> &Presented;
}

/// One connection of a client. Requests, request bodies and tunnels hold it for as long as they use the connection.
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    /// Of HTTP/1.1.
    pub(crate) state: ConnState,
    pub(crate) timeouts: Arc<Timeouts>,
    /// Of the whole process.
    pub(crate) load: Arc<Load>,
    /// Counted until the last user of the connection is gone.
    pub(crate) connection: OpenConnection,
    /// Records the explanation of its request; none: it is the connection of a client.
    pub(crate) trace: Option<Arc<Trace>>,
}

impl Peer {
    pub(crate) fn new(
        origin: Origin,
        timeouts: Arc<Timeouts>,
        load: Arc<Load>,
        connection: OpenConnection,
    ) -> Arc<Self> {
        Arc::new(Self { origin, state: ConnState::new(), timeouts, load, connection, trace: None })
    }

    /// A connection whose request is explained and not forwarded.
    pub(crate) fn explained(
        origin: Origin,
        timeouts: Arc<Timeouts>,
        load: Arc<Load>,
        connection: OpenConnection,
        trace: Arc<Trace>,
    ) -> Arc<Self> {
        Arc::new(Self { origin, state: ConnState::new(), timeouts, load, connection, trace: Some(trace) })
    }

    /// Whether the connection gives its place to another one, and has received no complete request.
    pub(crate) fn may_be_dropped(&self) -> bool {
        self.connection.is_evicted() && self.state.is_reading_head()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use prometheus::{IntCounter, IntGauge};

    use super::*;

    pub(crate) fn metrics() -> ConnectionMetrics {
        let counter = |name: &str| IntCounter::new(name, "Connections.").unwrap();
        ConnectionMetrics {
            open: IntGauge::new("open", "Connections.").unwrap(),
            rejected: counter("rejected"),
            evicted: counter("evicted"),
            aborted: counter("aborted"),
        }
    }

    /// A client on its only connection.
    pub(crate) fn peer() -> Arc<Peer> {
        let one = || HeaderValue::from_static("1");
        let address = IpAddr::from([127, 0, 0, 1]);
        let origin = Origin { address, source: one(), behind: None, port: one(), tls: None, terminates_tls: false };
        let open = Connections::new(1, 1, metrics()).open([127, 0, 0, 1].into(), 0).unwrap();
        Peer::new(origin, Arc::default(), Arc::new(Load::new(10, 1)), open)
    }
}
