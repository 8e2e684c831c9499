//! Connections in memory, whose requests are explained. They are read as those of sockets: TLS, HTTP/1.1, requests that cannot be
//! parsed.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use tokio::io::DuplexStream;

use super::context::{Handler, ListenContext};
use super::http1;
use super::tls::{HandshakeError, TlsServer};
use crate::client::Peer;
use crate::explain::Trace;
use crate::reject::Reject;

/// Serves a connection from a client at `address`. It counts as one, so there is none if the proxy has too many.
pub(crate) async fn explain(
    shared: Arc<ListenContext>,
    stream: DuplexStream,
    tls: Option<Arc<TlsServer>>,
    (address, port): (IpAddr, u16),
    trace: Arc<Trace>,
    handler: impl Handler,
) {
    let Some(open) = shared.connections.open(address, shared.load.clock()) else { return };
    let mut origin = shared.origin(address.to_canonical(), HeaderValue::from(port));
    let peer =
        |origin, open| Peer::explained(origin, shared.timeouts.clone(), shared.load.clone(), open, trace.clone());
    let Some(server) = tls else {
        return http1::serve(shared.clone(), stream, Bytes::new(), peer(origin, open), handler).await;
    };
    match server.accept(stream).await {
        Ok((stream, shown)) => {
            origin.tls = Some(shown);
            let stream = Box::new(stream);
            http1::serve(shared.clone(), stream, Bytes::new(), peer(origin, open), handler).await;
        }
        Err(HandshakeError { error, host, rejected }) => {
            tracing::debug!(%error, host, "TLS handshake failed");
            let reject = rejected.map_or(Reject::TlsHandshake, Reject::ClientCertificateInvalid);
            handler.reject_connection(&peer(origin, open), "TLS", &host, &reject);
        }
    }
}
