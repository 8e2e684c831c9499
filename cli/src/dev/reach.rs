//! What `sluice dev` knows that it cannot serve: rules that reject every request, and servers that it cannot reach. The
//! output names each of them, and promises no status that a call does not get.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sluice_crds::api_route::{IntegrationType, Rule};
use sluice_crds::authorizer::UserPool;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::ObjectKey;
use sluice_wire::{Endpoints, ObjectRef, Part, PartBody, PartKind, PartName, Parts};

use super::local::Local;

/// What is not served, and what is not reachable.
#[derive(Default)]
pub(crate) struct Reach {
    /// Ports of Services that requests cannot reach, with the status that requests get and the reason.
    services: BTreeMap<PartName, Unreachable>,
    /// The rules that are served, with the part of their Stage.
    served: BTreeSet<(ObjectRef, String, PartName)>,
    /// Problems that no status of an object has, one line each.
    pub(crate) problems: Vec<String>,
}

/// Why requests do not reach a server.
#[derive(Clone)]
pub(crate) struct Unreachable {
    /// The status of the response.
    pub(crate) status: u16,
    /// A short reason, for a comment behind a call.
    pub(crate) why: String,
}

impl Reach {
    /// What of a translated folder is served and reachable.
    pub(crate) fn of(cluster: &ClusterState, parts: &Parts<Arc<Part>>, local: &Local) -> Self {
        let (mut reach, mut closed) = (Self::default(), BTreeSet::new());
        for (name, part) in parts.iter() {
            match (name.kind, part.decode()) {
                (PartKind::Upstream, Ok(PartBody::Upstream(upstream))) => reach.upstream(name, &upstream.endpoints),
                (PartKind::Route, Ok(PartBody::Route(route))) => {
                    let valid = route.rules.iter().filter(|rule| rule.action.policy().is_some());
                    for (rule, stage) in valid.flat_map(|rule| route.stages.iter().map(move |stage| (rule, stage))) {
                        reach.served.insert((route.object.clone(), rule.name.clone(), stage.clone()));
                    }
                }
                (PartKind::Stage, Ok(PartBody::Stage(stage))) if stage.is_invalid() => {
                    closed.insert(name.clone());
                }
                _ => {}
            }
        }
        reach.served.retain(|(.., stage)| !closed.contains(stage));
        reach.problems.extend(local.unused_mappings(cluster));
        reach.urls(cluster);
        reach
    }

    fn upstream(&mut self, name: &PartName, endpoints: &Endpoints) {
        let id = name.id();
        let (service, port) = id.rsplit_once(':').unwrap_or((id, ""));
        let flag = format!("--service {service}:{port}=ADDR, for example --service {service}:{port}=127.0.0.1:3000");
        let (unreachable, line) = match endpoints {
            Endpoints::Addresses(addresses) if addresses.is_empty() => {
                let why = format!("Service {service} has no address");
                let line = format!(
                    "Service {service} has no address for port {port}, so its requests get 503. Start the command with {flag}"
                );
                (Unreachable { status: 503, why }, line)
            }
            Endpoints::Name { host, .. } if needs_cluster(host) => {
                let why = format!("Service {service} needs the DNS of a cluster");
                let line = format!(
                    "Service {service} has the external name {host}, which only a cluster resolves, so its requests get 502. \
                     Start the command with {flag}"
                );
                (Unreachable { status: 502, why }, line)
            }
            Endpoints::Addresses(_) | Endpoints::Name { .. } => return,
        };
        self.services.insert(name.clone(), unreachable);
        self.problems.push(line);
    }

    /// URLs with names that only a cluster resolves.
    fn urls(&mut self, cluster: &ClusterState) {
        for (key, route) in &cluster.api_routes {
            for rule in &route.spec.rules {
                if let Some(url) = url(rule).filter(|url| needs_cluster(host(url))) {
                    self.problems.push(format!(
                        "The rule {} of ApiRoute {key} forwards to {url}, a name that only a cluster resolves, so its requests \
                         get 502. Use a Service and --service here",
                        rule.name
                    ));
                }
            }
        }
        for (key, authorizer) in &cluster.authorizers {
            let function = authorizer.spec.lambda.as_ref().map(|lambda| &lambda.function);
            let invoked = function.and_then(|function| function.invoke.as_ref()?.endpoint.as_ref());
            if let Some(url) =
                function.and_then(|function| function.url.as_ref()).or(invoked).filter(|url| needs_cluster(host(url)))
            {
                self.problems.push(format!(
                    "Authorizer {key} calls {url}, a name that only a cluster resolves, so its requests are rejected with 503. \
                     Start the command with --service for this Service"
                ));
            }
            let endpoint = authorizer.spec.introspection.as_ref().map(|introspection| &introspection.url);
            if let Some(url) = endpoint.filter(|url| needs_cluster(host(url))) {
                self.problems.push(format!(
                    "Authorizer {key} calls {url}, a name that only a cluster resolves, so its tokens are rejected with 503. \
                     Start the command with --service for this Service"
                ));
            }
            let pools = authorizer.spec.cognito.iter().flat_map(|cognito| &cognito.user_pools).map(UserPool::as_issuer);
            for issuer in authorizer.spec.jwt.iter().flat_map(|jwt| jwt.issuers.iter().cloned()).chain(pools) {
                let fetched = issuer.jwks_uri.as_deref().unwrap_or(&issuer.issuer);
                if issuer.jwks.is_none() && needs_cluster(host(fetched)) {
                    self.problems.push(format!(
                        "Authorizer {key} fetches keys from {fetched}, a name that only a cluster resolves, so its tokens are \
                         rejected with 401. Start the command with --service for this Service, or use a key set in jwks"
                    ));
                }
            }
        }
    }

    /// Whether a Stage serves a rule.
    pub(crate) fn is_served(&self, route: &ObjectRef, rule: &str, stage: &ObjectKey) -> bool {
        let stage = PartName::of_object(PartKind::Stage, &stage.namespace, &stage.name);
        self.served.contains(&(route.clone(), rule.to_owned(), stage))
    }

    /// Why the requests of a rule do not reach its integration; none: they do, as far as is known.
    pub(crate) fn of_rule(&self, route: &ObjectKey, rule: &Rule) -> Option<Unreachable> {
        if let Some(url) = url(rule).filter(|url| needs_cluster(host(url))) {
            return Some(Unreachable { status: 502, why: format!("{} needs the DNS of a cluster", host(url)) });
        }
        let named = rule.integration.service.as_ref()?;
        let service = route.target(&named.object);
        self.services.get(&PartName::of_upstream(&service.namespace, &service.name, named.port)).cloned()
    }
}

fn url(rule: &Rule) -> Option<&str> {
    let http = rule.integration.http.as_ref().filter(|_| rule.integration.type_ == IntegrationType::Http);
    http.map(|http| http.url.as_str())
}

fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split('/').next().unwrap_or_default();
    authority.split(':').next().unwrap_or_default()
}

/// Whether only the DNS of a cluster resolves a name.
fn needs_cluster(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    [".svc", ".cluster.local"].iter().any(|zone| host.ends_with(zone))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_cluster_are_recognized() {
        for (url, expected) in [
            ("http://orders.shop.svc:80/x", true),
            ("https://orders.shop.svc.cluster.local", true),
            ("http://ORDERS.shop.SVC.cluster.local./", true),
            ("https://svc.example/", false),
            ("http://127.0.0.1:9000/store", false),
            ("http://localhost", false),
        ] {
            assert_eq!(needs_cluster(host(url)), expected, "{url}");
        }
    }
}
