//! Lowers references to ports of Services, of routes and of Authorizers.

use rustls::pki_types::ServerName;
use sluice_crds::reference::{BackendTls, CaSourceType, ServiceReference};

use crate::lower::route::{Authorities, Reference, ServicePort, ServiceTls};
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;

/// The port of a Service that the object `key` names in a field.
pub(crate) fn service_port(
    key: &ObjectKey,
    field: &str,
    named: &ServiceReference,
    problems: &mut Problems,
) -> Option<ServicePort> {
    let service = Reference { key: key.target(&named.object), field: format!("{field}.name") };
    let tls = match &named.tls {
        Some(tls) => Some(service_tls(key, &format!("{field}.tls"), tls, problems)?),
        None => None,
    };
    Some(ServicePort { service, port: named.port, port_field: format!("{field}.port"), tls })
}

fn service_tls(of: &ObjectKey, field: &str, tls: &BackendTls, problems: &mut Problems) -> Option<ServiceTls> {
    if let Some(name) = tls.hostname.as_ref().filter(|name| ServerName::try_from(name.as_str()).is_err()) {
        let why = format!("{name:?} is not a DNS name or IP address that a certificate can have");
        problems.invalid(&format!("{field}.hostname"), why);
    }
    let Some(source) = &tls.ca else { return Some(ServiceTls { hostname: tls.hostname.clone(), ca: None }) };
    let (kind, member, named) = match source.type_ {
        CaSourceType::ConfigMap => (Kind::ConfigMap, "configMap", &source.config_map),
        CaSourceType::Secret => (Kind::Secret, "secret", &source.secret),
    };
    let Some(named) = named else {
        problems.invalid(&format!("{field}.ca"), format_args!("type {kind} requires the field {member}"));
        return None;
    };
    let object = Reference { key: of.target(&named.object), field: format!("{field}.ca.{member}") };
    let ca = Some(Authorities { kind, object, key: named.key.clone() });
    Some(ServiceTls { hostname: tls.hostname.clone(), ca })
}
