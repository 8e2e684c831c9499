//! Resolves references to ports of Services, of routes and of Authorizers. `upstreams` translates the ports.

use k8s_openapi::api::core::v1::Service;
use sluice_crds::condition::reason;

use crate::lower::{Authorities, ServicePort, ServiceTls};
use crate::problem::Problems;
use crate::translate::node::{CaId, UpstreamId, UpstreamTlsId};
use crate::translate::references::{self, Referrer};
use crate::translate::view::View;
use crate::translate::{ca, upstreams};

/// The port that an object names; none: it cannot be called.
pub(crate) fn resolve(
    view: &View<'_>,
    from: Referrer<'_>,
    ServicePort { service, port, port_field, tls }: &ServicePort,
    problems: &mut Problems,
) -> Option<UpstreamId> {
    let key = &service.key;
    let found = match references::resolve::<Service>(view, from, key) {
        Ok(found) => found,
        Err(unresolved) => {
            unresolved.report(&service.field, problems);
            return None;
        }
    };
    if !upstreams::has_port(found, *port) {
        let why = format!("Service {key} has no TCP port {port}; its ports are: {}", upstreams::ports(found));
        problems.unresolved(reason::PORT_NOT_FOUND, port_field, why);
        return None;
    }
    if let Err(why) = upstreams::protocol(found, *port) {
        problems.unresolved(reason::UNSUPPORTED_PROTOCOL, port_field, format_args!("Service {key}: {why}"));
        return None;
    }
    let tls = match tls {
        Some(tls) => Some(service_tls(view, from, tls, problems)?),
        None => None,
    };
    Some(UpstreamId { service: key.clone(), port: *port, tls })
}

fn service_tls(
    view: &View<'_>,
    from: Referrer<'_>,
    ServiceTls { hostname, ca }: &ServiceTls,
    problems: &mut Problems,
) -> Option<UpstreamTlsId> {
    let ca = match ca {
        None => None,
        Some(Authorities { kind, object, key }) => {
            let id = CaId { kind: *kind, object: object.key.clone(), key: key.clone() };
            if let Err(unresolved) = ca::permitted(view, from, &id) {
                unresolved.report(&object.field, problems);
                return None;
            }
            Some(id)
        }
    };
    Some(UpstreamTlsId { namespace: from.namespace().to_owned(), hostname: hostname.clone(), ca })
}
