//! Translates ports of Services to addresses, by their EndpointSlices. Proxies choose among the addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use sluice_wire::{Endpoints, Hash, PartBody, PartKind, PartName, UpstreamPart, UpstreamTls};

use crate::objects::{Kind, ObjectKey};
use crate::translate::ca;
use crate::translate::node::{CaId, UpstreamId, UpstreamTlsId};
use crate::translate::view::View;

/// More addresses of one Service port are left out: a part has a bounded size.
const MAX_ADDRESSES: usize = 10_000;

/// How a port is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Protocol {
    /// With HTTP/2 only: without TLS with prior knowledge.
    http2: bool,
    tls: bool,
}

/// The values of `appProtocol` that proxies support. WebSocket is an upgrade of HTTP/1.1. `grpc` and `grpcs` are not
/// standard names, and common among Services of gRPC servers.
const PROTOCOLS: [(&str, Protocol); 7] = [
    ("http", Protocol { http2: false, tls: false }),
    ("https", Protocol { http2: false, tls: true }),
    ("grpc", Protocol { http2: true, tls: false }),
    ("grpcs", Protocol { http2: true, tls: true }),
    ("kubernetes.io/h2c", Protocol { http2: true, tls: false }),
    ("kubernetes.io/ws", Protocol { http2: false, tls: false }),
    ("kubernetes.io/wss", Protocol { http2: false, tls: true }),
];

/// The protocol of a port; an error is a sentence. Names without a prefix are service names, for which case does not matter
/// (RFC 6335, 5.1).
pub(crate) fn protocol(service: &Service, port: u16) -> Result<Protocol, String> {
    let named = port_of(service, port).and_then(|listed| listed.app_protocol.as_deref()).unwrap_or_default();
    if named.is_empty() {
        return Ok(Protocol { http2: false, tls: false });
    }
    let same = |known: &str| known == named || (!known.contains('/') && known.eq_ignore_ascii_case(named));
    let found = PROTOCOLS.iter().find(|(known, _)| same(known)).map(|(_, protocol)| *protocol);
    found.ok_or_else(|| {
        let known = PROTOCOLS.map(|(name, _)| name).join(", ");
        format!("port {port} has the appProtocol {named:?}, which is not supported; supported are: {known}")
    })
}

/// The name of the part for a port of a Service.
pub(crate) fn part_name(id: &UpstreamId) -> PartName {
    let UpstreamId { service, port, tls } = id;
    let plain = PartName::of_upstream(&service.namespace, &service.name, *port);
    match tls {
        None => plain,
        // Rules that demand the same share a part.
        Some(UpstreamTlsId { namespace, hostname, ca }) => {
            let ca =
                ca.as_ref().map(|CaId { kind, object, key }| (kind.as_str(), &object.namespace, &object.name, key));
            let settings = serde_json::json!([namespace, hostname, ca]).to_string();
            PartName::new(PartKind::Upstream, format!("{}@{}", plain.id(), Hash::of(settings.as_bytes())))
        }
    }
}

/// Whether a Service has a TCP port of that number. An ExternalName Service has every port.
pub(crate) fn has_port(service: &Service, port: u16) -> bool {
    external_name(service).is_some() || port_of(service, port).is_some()
}

/// The TCP ports that a Service lists, for messages.
pub(crate) fn ports(service: &Service) -> String {
    let ports: Vec<String> = tcp_ports(service).map(|port| port.port.to_string()).collect();
    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
}

fn external_name(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref()?;
    if spec.type_.as_deref() == Some("ExternalName") { spec.external_name.as_deref() } else { None }
}

fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    ports.filter(|listed| listed.protocol.as_deref().unwrap_or("TCP") == "TCP")
}

fn port_of(service: &Service, port: u16) -> Option<&ServicePort> {
    tcp_ports(service).find(|listed| listed.port == i32::from(port))
}

/// The part for a port of a Service; none when the Service or the port is gone, or cannot be called as rules demand it.
pub(crate) fn translate(view: &View<'_>, id: &UpstreamId) -> Option<PartBody> {
    let UpstreamId { service: key, port, tls } = id;
    let service = view.get::<Service>(key)?;
    let object = Kind::Service.object(key);
    let protocol = protocol(service, *port).ok()?;
    let (endpoints, server_name) = match external_name(service) {
        Some(host) => {
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            (Endpoints::Name { host: host.clone(), port: *port }, host)
        }
        None => {
            let listed = port_of(service, *port)?;
            let name = format!("{}.{}.svc", key.name, key.namespace);
            (Endpoints::Addresses(addresses(view, key, service, listed)), name)
        }
    };
    let tls = match tls {
        None => protocol.tls.then_some(UpstreamTls { server_name, roots: None }),
        Some(UpstreamTlsId { hostname, ca, .. }) => {
            let roots = match ca {
                Some(ca) => Some(ca::certificates(view, ca).ok()?),
                None => None,
            };
            Some(UpstreamTls { server_name: hostname.clone().unwrap_or(server_name), roots })
        }
    };
    Some(PartBody::Upstream(UpstreamPart { object, endpoints, h2c: protocol.http2, tls }))
}

fn addresses(view: &View<'_>, key: &ObjectKey, service: &Service, listed: &ServicePort) -> Vec<SocketAddr> {
    // Of a dual-stack Service the first family counts, or every Pod would be there twice.
    let families = service.spec.as_ref().and_then(|spec| spec.ip_families.as_ref());
    let family = families.and_then(|families| families.first());
    let expected = listed.name.as_deref().unwrap_or_default();
    let (mut ready, mut draining) = (BTreeSet::new(), BTreeSet::new());
    for slice in
        view.group::<EndpointSlice>(key).filter(|slice| family.is_none_or(|family| *family == slice.address_type))
    {
        let ports = slice.ports.iter().flatten();
        let numbers = ports.filter(|port| port.name.as_deref().unwrap_or_default() == expected);
        let numbers: Vec<u16> = numbers.filter_map(|port| port.port.and_then(|n| u16::try_from(n).ok())).collect();
        for endpoint in &slice.endpoints {
            let found = match use_of(endpoint.conditions.as_ref()) {
                Use::Always => &mut ready,
                Use::WithoutReady => &mut draining,
                Use::Never => continue,
            };
            if let Some(ip) = endpoint.addresses.first().and_then(|address| address.parse::<IpAddr>().ok()) {
                found.extend(numbers.iter().map(|number| SocketAddr::new(ip, *number)));
            }
        }
    }
    let found = if ready.is_empty() { draining } else { ready };
    found.into_iter().take(MAX_ADDRESSES).collect()
}

/// When an endpoint gets requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Always,
    /// Only when no endpoint of the port is ready.
    WithoutReady,
    Never,
}

/// As kube-proxy decides it: ready endpoints; without any, those that terminate and still serve, so that a rollout with one
/// replica loses no request. A condition that is not set has the value that the API documents: ready and serving are true,
/// terminating is false.
fn use_of(conditions: Option<&EndpointConditions>) -> Use {
    let Some(conditions) = conditions else { return Use::Always };
    if conditions.ready != Some(false) {
        return Use::Always;
    }
    let drains = conditions.serving != Some(false) && conditions.terminating == Some(true);
    if drains { Use::WithoutReady } else { Use::Never }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_protocol_of_a_port_is_known_or_an_error_that_lists_what_is_supported() {
        for (named, expected) in [
            (None, Some((false, false))),
            (Some(""), Some((false, false))),
            (Some("http"), Some((false, false))),
            (Some("HTTPS"), Some((false, true))),
            (Some("grpc"), Some((true, false))),
            (Some("grpcs"), Some((true, true))),
            (Some("kubernetes.io/h2c"), Some((true, false))),
            (Some("kubernetes.io/ws"), Some((false, false))),
            (Some("kubernetes.io/wss"), Some((false, true))),
            (Some("kubernetes.io/WSS"), None),
            (Some("mysql"), None),
            (Some("example.com/http"), None),
            (Some("h2c"), None),
        ] {
            let port = serde_json::json!({"port": 80, "appProtocol": named});
            let service: Service = serde_json::from_value(serde_json::json!({"spec": {"ports": [port]}})).unwrap();
            let found = protocol(&service, 80);
            assert_eq!(found.clone().ok().map(|protocol| (protocol.http2, protocol.tls)), expected, "{named:?}");
            assert!(found.err().is_none_or(|why| why.contains("kubernetes.io/h2c")), "{named:?}");
        }
    }

    #[test]
    fn an_endpoint_gets_requests_when_it_is_ready_or_drains_and_none_is_ready() {
        let (no, yes) = (Some(false), Some(true));
        for (ready, serving, terminating, expected) in [
            (None, None, None, Use::Always),
            (yes, None, None, Use::Always),
            (yes, yes, no, Use::Always),
            // Of a Service with publishNotReadyAddresses.
            (yes, no, yes, Use::Always),
            (None, no, yes, Use::Always),
            (no, yes, yes, Use::WithoutReady),
            (no, None, yes, Use::WithoutReady),
            (no, no, yes, Use::Never),
            (no, yes, no, Use::Never),
            (no, yes, None, Use::Never),
            (no, no, no, Use::Never),
            (no, None, None, Use::Never),
        ] {
            let conditions = EndpointConditions { ready, serving, terminating };
            assert_eq!(use_of(Some(&conditions)), expected, "{conditions:?}");
        }
        assert_eq!(use_of(None), Use::Always);
    }
}
