//! The client's connection: where it comes from, where it is in its exchange of requests and responses, and which bytes of
//! responses it has not sent yet. Accepting and serving connections is `listen`.

mod conn_state;
mod connections;
mod flow;

use std::sync::Arc;

use http::HeaderValue;

use crate::timeouts::Timeouts;

pub(crate) use conn_state::ConnState;
pub(crate) use connections::{ConnectionCount, OpenConnection};
pub(crate) use flow::{Flow, TrackedBytes};

/// Address and protocol of a client's connection, as header values that are made once.
pub(crate) struct Origin {
    pub(crate) source: HeaderValue,
    pub(crate) port: HeaderValue,
    pub(crate) tls: bool,
}

/// One connection of a client. Requests, request bodies and tunnels hold it for as long as they use the connection.
pub(crate) struct Peer {
    pub(crate) origin: Origin,
    /// Of HTTP/1.1.
    pub(crate) state: ConnState,
    pub(crate) timeouts: Arc<Timeouts>,
    /// Counted until the last user of the connection is gone.
    _open: OpenConnection,
}

impl Peer {
    pub(crate) fn new(origin: Origin, timeouts: Arc<Timeouts>, open: OpenConnection) -> Arc<Self> {
        Arc::new(Self { origin, state: ConnState::new(), timeouts, _open: open })
    }
}
