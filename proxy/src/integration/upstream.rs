//! Upstreams of integrations: the endpoints of a Service port, or one external host.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use sluice_wire::{Endpoints, HttpTarget, UpstreamPart};

use crate::body::Upload;
use crate::transport::{self, Context, Http, Pool, ServerAddress, Tls, TlsTarget, Transport};

/// Endpoints that requests are forwarded to.
pub(crate) type Upstream = Pool<Box<Upload>>;

/// The body of a request to an upstream: forwarded as it arrives, or in memory.
pub(crate) type RequestBody = transport::Payload<Box<Upload>>;

/// The head of a response of an upstream, with its connection.
pub(crate) type UpstreamResponse = transport::Received<Box<Upload>>;

/// The connection of a response of an upstream.
pub(crate) type UpstreamConnection = transport::PooledConnection<Box<Upload>>;

/// Replaces the endpoints of a Service port; none: the Service or its port is gone. An error: its TLS name is not valid.
pub(crate) fn update(upstream: &Upstream, part: Option<&UpstreamPart>, tls: &Arc<Tls>) -> Result<(), String> {
    let cleartext = Transport { tls: None, http: Http::H1 };
    let Some(part) = part else {
        upstream.update(Vec::new(), &cleartext);
        return Ok(());
    };
    let transport = match (&part.tls, part.h2c) {
        (None, false) => cleartext,
        (None, true) => Transport { tls: None, http: Http::H2 },
        (Some(with), http2) => {
            let Some(name) = server_name(&with.server_name) else {
                // Without TLS, requests would go out unencrypted.
                upstream.update(Vec::new(), &cleartext);
                return Err(format!("{:?} is not a name that a certificate can have.", with.server_name));
            };
            let http = if http2 { Http::H2 } else { Http::Alpn };
            Transport { tls: Some(TlsTarget { tls: tls.clone(), name }), http }
        }
    };
    let places: Vec<ServerAddress> = match &part.endpoints {
        Endpoints::Addresses(list) => {
            let mut seen: HashSet<SocketAddr> = HashSet::new();
            list.iter()
                .filter(|address| seen.insert(**address))
                .map(|address| ServerAddress::Address(*address))
                .collect()
        }
        Endpoints::Name { host, port } => vec![ServerAddress::Name(host.as_str().into(), *port)],
    };
    upstream.update(places, &transport);
    Ok(())
}

/// An external host; none: it is neither a name nor an address. With TLS the server chooses the version of HTTP.
pub(crate) fn external(target: &HttpTarget, tls: &Arc<Tls>, context: Context) -> Option<Upstream> {
    let tls = match target.tls {
        true => Some(TlsTarget { tls: tls.clone(), name: server_name(&target.host)? }),
        false => None,
    };
    let place = ServerAddress::Name(target.host.as_str().into(), target.port);
    Some(Upstream::single(place, Transport { tls, http: Http::Alpn }, context))
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()).ok()
}
