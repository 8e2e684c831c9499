//! Translates ports of Services to addresses, by their EndpointSlices. Proxies choose among the addresses.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use sluice_wire::{Endpoints, PartBody, PartName, UpstreamPart};

use crate::objects::{Kind, ObjectKey};
use crate::translate::view::View;

/// More addresses of one Service port are left out: a part has a bounded size.
const MAX_ADDRESSES: usize = 10_000;

/// The name of the part for a port of a Service.
pub(crate) fn part_name(service: &ObjectKey, port: u16) -> PartName {
    PartName::of_upstream(&service.namespace, &service.name, port)
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

/// The part for a port of a Service; none when the Service or the port is gone.
pub(crate) fn translate(view: &View<'_>, key: &ObjectKey, port: u16) -> Option<PartBody> {
    let service = view.get::<Service>(key)?;
    let object = Kind::Service.object(key);
    if let Some(host) = external_name(service) {
        let endpoints = Endpoints::Name { host: host.trim_end_matches('.').to_ascii_lowercase(), port };
        let listed = port_of(service, port);
        return Some(PartBody::Upstream(UpstreamPart {
            object,
            endpoints,
            h2c: listed.is_some_and(is_h2c),
            tls: None,
        }));
    }
    let listed = port_of(service, port)?;
    let addresses = addresses(view, key, service, listed);
    Some(PartBody::Upstream(UpstreamPart {
        object,
        endpoints: Endpoints::Addresses(addresses),
        h2c: is_h2c(listed),
        tls: None,
    }))
}

/// HTTP/2 with prior knowledge. `grpc` is not a standard name, and common among Services of gRPC servers.
fn is_h2c(port: &ServicePort) -> bool {
    matches!(port.app_protocol.as_deref(), Some("kubernetes.io/h2c" | "grpc"))
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
