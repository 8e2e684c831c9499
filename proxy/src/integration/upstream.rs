//! Upstreams of integrations: the endpoints of a Service port, or one external host.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, ServerName};
use sluice_wire::{Endpoints, HttpTarget, UpstreamPart};

use crate::body::Upload;
use crate::transport::{self, Context, Failures, Http, Pool, SendBody, Tls, TlsTarget, Transport};

/// Endpoints that requests are forwarded to.
pub(crate) type Upstream = Pool<Box<Upload>>;

/// The body of a request to an upstream: forwarded as it arrives, or in memory.
pub(crate) type RequestBody = transport::Payload<Box<Upload>>;

/// The head of a response of an upstream, with its connection.
pub(crate) type UpstreamResponse = transport::Received<Box<Upload>>;

/// The connection of a response of an upstream.
pub(crate) type UpstreamConnection = transport::PooledConnection<Box<Upload>>;

/// The authorities that a Service's certificate is verified with; none: those of all upstreams. An error: one is not valid.
pub(crate) fn authorities(roots: &[String]) -> Result<Arc<Tls>, String> {
    let mut store = RootCertStore::empty();
    for (at, root) in roots.iter().enumerate() {
        let der = STANDARD.decode(root).map_err(|error| format!("certificate authority {at}: {error}."))?;
        store.add(CertificateDer::from(der)).map_err(|error| format!("certificate authority {at}: {error}."))?;
    }
    Tls::trusting(store).map_err(|error| format!("TLS cannot be configured: {error}."))
}

/// Replaces the endpoints of a Service port; none: the Service or its port is gone. With TLS, its certificate is verified
/// with `tls`. An error: it cannot be called as configured.
pub(crate) fn update<B: SendBody>(
    upstream: &Pool<B>,
    part: Option<&UpstreamPart>,
    tls: Result<&Arc<Tls>, String>,
) -> Result<(), String> {
    let cleartext = Transport { tls: None, http: Http::H1 };
    let Some(part) = part else {
        upstream.update(&[], &cleartext);
        return Ok(());
    };
    let transport = match (&part.tls, part.h2c) {
        (None, false) => cleartext,
        (None, true) => Transport { tls: None, http: Http::H2 },
        (Some(with), http2) => {
            let invalid = || format!("{:?} is not a name that a certificate can have.", with.server_name);
            let name = server_name(&with.server_name).ok_or_else(invalid);
            let (name, tls) = match (name, tls) {
                (Ok(name), Ok(tls)) => (name, tls.clone()),
                (Err(why), _) | (_, Err(why)) => {
                    // Without TLS, requests would go out unencrypted.
                    upstream.update(&[], &cleartext);
                    return Err(why);
                }
            };
            let http = if http2 { Http::H2 } else { Http::Alpn };
            Transport { tls: Some(TlsTarget { tls, name }), http }
        }
    };
    match &part.endpoints {
        Endpoints::Addresses(list) => {
            let mut seen: HashSet<SocketAddr> = HashSet::new();
            let addresses: Vec<SocketAddr> = list.iter().copied().filter(|address| seen.insert(*address)).collect();
            upstream.update(&addresses, &transport);
        }
        Endpoints::Name { host, port } => upstream.update_name(host, *port, &part.object.namespace, &transport),
    }
    Ok(())
}

/// An external host that a namespace calls; none: it is neither a name nor an address. With TLS the server chooses the
/// version of HTTP.
pub(crate) fn external(target: &HttpTarget, namespace: &str, tls: &Arc<Tls>, context: Context) -> Option<Upstream> {
    let scheme = if target.tls { "https" } else { "http" };
    let tls = match target.tls {
        true => Some(TlsTarget { tls: tls.clone(), name: server_name(&target.host)? }),
        false => None,
    };
    let backend = format!("{scheme}://{}:{} of namespace {namespace}", target.host, target.port);
    let upstream = Upstream::new(Failures::of(backend), context);
    upstream.update_name(&target.host, target.port, namespace, &Transport { tls, http: Http::Alpn });
    Some(upstream)
}

fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_start_matches('[').trim_end_matches(']').to_owned()).ok()
}
