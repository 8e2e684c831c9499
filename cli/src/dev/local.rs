//! Adds the objects that a cluster would add to a folder of manifests: EndpointSlices, generated API keys, example
//! servers. The translation runs on the completed objects.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context as _;
use serde_json::json;
use sluice_crds::{Authorizer, principal};
use sluice_operator::cluster_issuer::ClusterIssuer;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{
    Kind, Object, ObjectKey, access_key_secrets, generated_access_key, secret_of, session_secret,
};
use sluice_operator::random::{access_key, session_key};
use sluice_operator::sts::TokenError;

use crate::args::{Mapping, ServicePort};
use crate::example::{Server, backend::Backend, idp::Idp};

/// The annotation of a Service that requests an example server.
const DEV_SERVER: &str = "sluice.dev/dev-server";
/// The default audience of the local identity provider's tokens.
const AUDIENCE: &str = "shop";

/// Local replacements for the cluster.
#[derive(Default)]
pub(crate) struct Local {
    /// Addresses of Service ports, from flags or example servers.
    addresses: BTreeMap<ServicePort, SocketAddr>,
    /// Ports from `--service`: these Services exist even if the folder does not contain them.
    flagged: BTreeSet<ServicePort>,
    /// Example servers are not started: another program runs them.
    starts_none: bool,
    /// Generated keys of ApiKeys without a Secret, by Secret. They are valid until the program stops.
    api_keys: BTreeMap<ObjectKey, String>,
    /// Generated access keys of Principals without a Secret, id and secret, by Secret.
    access_keys: BTreeMap<ObjectKey, (String, String)>,
    /// Generated session keys of roles, by Secret.
    session_keys: BTreeMap<ObjectKey, String>,
    /// Running example servers.
    servers: BTreeMap<ServicePort, Server>,
    /// Issuers of local identity providers, with their addresses.
    issuers: BTreeMap<String, SocketAddr>,
    /// The same as issuers of tokens for ServiceAccounts, which a cluster has: the first is used.
    cluster_issuers: BTreeMap<SocketAddr, Arc<ClusterIssuer>>,
    providers: Providers,
}

/// The running identity providers. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Providers(Arc<RwLock<BTreeMap<SocketAddr, Arc<Idp>>>>);

impl Providers {
    /// The ServiceAccount whose token it is, for this audience.
    pub(crate) fn account(&self, token: &str, audience: &str) -> Result<ObjectKey, TokenError> {
        let providers = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let accounts = providers.values().map(|provider| provider.account(token, audience));
        // A token of another provider is not valid; each other error is about the right one.
        accounts
            .reduce(|one, other| if one == Err(TokenError::Invalid) { other } else { one })
            .unwrap_or(Err(TokenError::Invalid))
    }
}

impl Local {
    /// Creates the replacements with the mappings of the command line.
    pub(crate) fn new(mappings: &[Mapping]) -> Self {
        let addresses: BTreeMap<_, _> = mappings.iter().map(|m| (m.service.clone(), m.address)).collect();
        Self { flagged: addresses.keys().cloned().collect(), addresses, ..Self::default() }
    }

    /// The running identity providers.
    pub(crate) fn providers(&self) -> Providers {
        self.providers.clone()
    }

    /// The same without example servers: those that Services request are expected at their ports on this machine.
    pub(crate) fn without_servers(mappings: &[Mapping]) -> Self {
        Self { starts_none: true, ..Self::new(mappings) }
    }

    /// The token endpoint of a local issuer.
    pub(crate) fn token_endpoint(&self, issuer: &str) -> Option<String> {
        self.issuers.get(issuer).map(|address| format!("http://{address}/token"))
    }

    /// The token endpoint of the issuer of tokens for ServiceAccounts.
    pub(crate) fn cluster_token_endpoint(&self) -> Option<String> {
        self.cluster_issuers.first_key_value().map(|(address, _)| format!("http://{address}/token"))
    }

    /// The issuer of tokens for ServiceAccounts: a local identity provider.
    fn cluster_issuer(&self) -> Result<Arc<ClusterIssuer>, String> {
        if self.starts_none {
            return Ok(Arc::new(ClusterIssuer::of_any_cluster()));
        }
        let first = self.cluster_issuers.first_key_value().map(|(_, issuer)| issuer.clone());
        first.ok_or_else(|| {
            format!("there is no API server; add a Service with the annotation {DEV_SERVER}: identity-provider")
        })
    }

    /// The running example servers with their addresses.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (&ServicePort, SocketAddr)> {
        self.servers.iter().map(|(port, server)| (port, server.address()))
    }

    /// Starts the example servers that Services request; returns the problems.
    pub(crate) async fn start_servers(&mut self, cluster: &ClusterState) -> Vec<String> {
        let mut problems = Vec::new();
        let mut requested = BTreeSet::new();
        for (key, service) in &cluster.services {
            let program = service.metadata.annotations.as_ref().and_then(|all| all.get(DEV_SERVER));
            let Some(program) = program else { continue };
            let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            for port in ports.filter_map(|port| u16::try_from(port.port).ok()) {
                let port = ServicePort { namespace: key.namespace.clone(), name: key.name.clone(), port };
                requested.insert(port.clone());
                if self.starts_none {
                    self.expect(program, port);
                    continue;
                }
                if self.addresses.contains_key(&port) {
                    continue;
                }
                if let Err(error) = self.start(program, port).await {
                    problems.push(format!("Service {key}: {error:#}"));
                }
            }
        }
        self.stop_all_but(&requested);
        problems
    }

    /// Expects an example server where `sluice dev` would start it.
    fn expect(&mut self, program: &str, port: ServicePort) {
        let issuer = issuer(&port);
        let address = *self.addresses.entry(port.clone()).or_insert(loopback(port.port));
        if program == "identity-provider" {
            self.issuers.insert(issuer, address);
        }
    }

    /// Stops the servers that no Service requests.
    fn stop_all_but(&mut self, requested: &BTreeSet<ServicePort>) {
        let unwanted: Vec<ServicePort> =
            self.servers.keys().filter(|port| !requested.contains(*port)).cloned().collect();
        for port in unwanted {
            if let Some(server) = self.servers.remove(&port) {
                self.issuers.retain(|_, address| *address != server.address());
                self.cluster_issuers.remove(&server.address());
                self.providers.0.write().unwrap_or_else(PoisonError::into_inner).remove(&server.address());
            }
            self.addresses.remove(&port);
        }
    }

    async fn start(&mut self, program: &str, port: ServicePort) -> anyhow::Result<()> {
        let server = match program {
            "example-backend" => {
                let name = format!("{}/{}", port.namespace, port.name);
                Server::start(loopback(0), Backend::new(name)).await.context("cannot start the example backend")?
            }
            "identity-provider" => {
                let issuer = issuer(&port);
                let idp = Arc::new(Idp::new(&issuer, AUDIENCE)?);
                // The Service's own port if it is free, so that the address is stable.
                let server = match Server::start(loopback(port.port), idp.clone()).await {
                    Ok(server) => server,
                    Err(_) => {
                        Server::start(loopback(0), idp.clone()).await.context("cannot start the identity provider")?
                    }
                };
                self.cluster_issuers.insert(server.address(), Arc::new(idp.cluster_issuer()?));
                self.providers.0.write().unwrap_or_else(PoisonError::into_inner).insert(server.address(), idp.clone());
                self.issuers.insert(issuer, server.address());
                server
            }
            other => anyhow::bail!(
                "the annotation {DEV_SERVER} has the unknown value {other:?}; use example-backend or identity-provider, \
                 or remove the annotation and set the address with --service"
            ),
        };
        self.addresses.insert(port.clone(), server.address());
        self.servers.insert(port, server);
        Ok(())
    }

    /// The additional objects, and the replacements for objects of the folder.
    pub(crate) fn complete(&mut self, cluster: &ClusterState) -> anyhow::Result<Vec<Object>> {
        let mut objects = self.endpoints(cluster)?;
        objects.extend(self.secrets(cluster)?);
        objects.extend(cluster.authorizers.values().filter_map(|authorizer| self.with_reachable_urls(authorizer)));
        Ok(objects)
    }

    /// An EndpointSlice for each mapped port, and Services for mappings without a Service in the folder.
    fn endpoints(&self, cluster: &ClusterState) -> anyhow::Result<Vec<Object>> {
        let mut objects = Vec::new();
        let mut missing: BTreeMap<ObjectKey, Vec<u16>> = BTreeMap::new();
        for (port, address) in &self.addresses {
            let key = ObjectKey::new(&port.namespace, &port.name);
            let name = match cluster.services.get(&key) {
                Some(service) => {
                    let ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
                    let listed = ports.into_iter().find(|listed| listed.port == i32::from(port.port));
                    let Some(listed) = listed else { continue };
                    listed.name.clone().unwrap_or_default()
                }
                None if self.flagged.contains(port) => {
                    missing.entry(key).or_default().push(port.port);
                    format!("p{}", port.port)
                }
                None => continue,
            };
            let slice = json!({
                "metadata": {
                    "name": format!("{}-{}-sluice-dev", port.name, port.port),
                    "namespace": port.namespace,
                    "labels": {"kubernetes.io/service-name": port.name},
                },
                "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
                "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
                "ports": [{"name": name, "port": address.port(), "protocol": "TCP"}],
            });
            objects.push(Object::EndpointSlice(Arc::new(serde_json::from_value(slice)?)));
        }
        for (key, ports) in missing {
            let ports: Vec<_> = ports.iter().map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
            let service = json!({
                "metadata": {"name": key.name, "namespace": key.namespace},
                "spec": {"ports": ports},
            });
            objects.push(Object::Service(Arc::new(serde_json::from_value(service)?)));
        }
        Ok(objects)
    }

    /// Mappings of the command line that no request can use: the Service in the folder has no such port.
    pub(crate) fn unused_mappings(&self, cluster: &ClusterState) -> Vec<String> {
        let unused = self.flagged.iter().filter_map(|port| {
            let service = cluster.services.get(&ObjectKey::new(&port.namespace, &port.name))?;
            let listed = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
            let ports: Vec<String> = listed.map(|listed| listed.port.to_string()).collect();
            (!ports.contains(&port.port.to_string())).then(|| {
                format!(
                    "--service {}/{}:{} has no effect: the Service has no such port; its ports are: {}",
                    port.namespace,
                    port.name,
                    port.port,
                    if ports.is_empty() { "none".to_owned() } else { ports.join(", ") }
                )
            })
        });
        unused.collect()
    }

    /// The EndpointSlices of the folder that a mapping overrides.
    pub(crate) fn overridden(&self, cluster: &ClusterState) -> Vec<ObjectKey> {
        let services: BTreeSet<_> =
            self.addresses.keys().map(|port| ObjectKey::new(&port.namespace, &port.name)).collect();
        services.iter().flat_map(|service| cluster.endpoint_slices.group(service)).map(|(key, _)| key.clone()).collect()
    }

    /// Secrets for ApiKeys and Principals without one, as the operator creates them in a cluster.
    fn secrets(&mut self, cluster: &ClusterState) -> anyhow::Result<Vec<Object>> {
        let mut objects = Vec::new();
        for api_key in cluster.api_keys.values() {
            let secret = secret_of(api_key);
            if api_key.spec.secret.is_some() || cluster.secrets.contains_key(&secret) {
                continue;
            }
            let text = match self.api_keys.get(&secret) {
                Some(text) => text.clone(),
                None => {
                    let text = new_api_key()?;
                    self.api_keys.insert(secret.clone(), text.clone());
                    text
                }
            };
            let value = json!({
                "metadata": {"name": secret.name, "namespace": secret.namespace},
                "type": "Opaque",
                "data": {sluice_crds::api_key::SECRET_DATA_KEY: base64(text.as_bytes())},
            });
            objects.push(Object::Secret(Arc::new(serde_json::from_value(value)?)));
        }
        let mut without_keys = Vec::new();
        for (key, found) in &cluster.principals {
            match session_secret(found) {
                Some(secret) if !cluster.secrets.contains_key(&secret) => {
                    let text = match self.session_keys.get(&secret) {
                        Some(generated) => generated.clone(),
                        None => session_key()?,
                    };
                    let value = json!({
                        "metadata": {"name": secret.name, "namespace": secret.namespace},
                        "type": "Opaque",
                        "data": {principal::SESSION_DATA_KEY: base64(text.as_bytes())},
                    });
                    self.session_keys.insert(secret, text);
                    objects.push(Object::Secret(Arc::new(serde_json::from_value(value)?)));
                }
                None if found.spec.access_keys.is_empty() => without_keys.push(key),
                _ => {}
            }
        }
        for key in without_keys {
            let secret = generated_access_key(key);
            if cluster.secrets.contains_key(&secret) {
                continue;
            }
            let (id, text) = match self.access_keys.get(&secret) {
                Some(generated) => generated.clone(),
                None => {
                    let generated = access_key()?;
                    self.access_keys.insert(secret.clone(), generated.clone());
                    generated
                }
            };
            let value = json!({
                "metadata": {"name": secret.name, "namespace": secret.namespace},
                "type": "Opaque",
                "data": {principal::ID_DATA_KEY: base64(id.as_bytes()), principal::SECRET_DATA_KEY: base64(text.as_bytes())},
            });
            objects.push(Object::Secret(Arc::new(serde_json::from_value(value)?)));
        }
        Ok(objects)
    }

    /// The Authorizer with the URLs of mapped Services replaced by local addresses, because there is no cluster DNS.
    /// None: nothing is replaced.
    fn with_reachable_urls(&self, authorizer: &Authorizer) -> Option<Object> {
        let mut changed = authorizer.clone();
        let mut any = false;
        for issuer in changed.spec.jwt.iter_mut().flat_map(|jwt| &mut jwt.issuers) {
            if let Some(uri) = issuer.jwks_uri.as_deref().and_then(|uri| self.reachable(uri)) {
                issuer.jwks_uri = Some(uri);
                any = true;
            } else if issuer.jwks_uri.is_none() && issuer.jwks.is_none() && self.issuers.contains_key(&issuer.issuer) {
                issuer.jwks_uri = self.issuers.get(&issuer.issuer).map(|address| format!("http://{address}/jwks"));
                any = true;
            }
        }
        for pool in changed.spec.cognito.iter_mut().flat_map(|cognito| &mut cognito.user_pools) {
            if let Some(uri) = self.reachable(&pool.jwks_uri()) {
                pool.jwks_uri = Some(uri);
                any = true;
            }
        }
        if let Some(introspection) = &mut changed.spec.introspection
            && let Some(url) = self.reachable(&introspection.url)
        {
            introspection.url = url;
            any = true;
        }
        if let Some(function) = changed.spec.lambda.as_mut().map(|lambda| &mut lambda.function) {
            let endpoint = function.invoke.as_mut().and_then(|invoke| invoke.endpoint.as_mut());
            for url in function.url.as_mut().into_iter().chain(endpoint) {
                if let Some(there) = self.reachable(url) {
                    *url = there;
                    any = true;
                }
            }
        }
        any.then(|| Object::Authorizer(Arc::new(changed)))
    }

    fn reachable(&self, url: &str) -> Option<String> {
        let rest = url.strip_prefix("http://")?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (host, port) = authority.split_once(':').unwrap_or((authority, "80"));
        let host = host.strip_suffix(".cluster.local").unwrap_or(host);
        let (name, namespace) = host.strip_suffix(".svc").unwrap_or(host).split_once('.')?;
        let service = ServicePort { namespace: namespace.to_owned(), name: name.to_owned(), port: port.parse().ok()? };
        self.addresses.get(&service).map(|address| format!("http://{address}{path}"))
    }
}

/// The id and the secret of the first access key of a Principal that is known.
pub(crate) fn access_key_text(cluster: &ClusterState, key: &ObjectKey) -> Option<(String, String)> {
    let secrets = access_key_secrets(cluster.principals.get(key)?);
    secrets.iter().find_map(|(_, secret)| {
        let data = cluster.secrets.get(secret)?.data.as_ref()?;
        let text = |name: &str| Some(std::str::from_utf8(&data.get(name)?.0).ok()?.trim_end().to_owned());
        Some((text(principal::ID_DATA_KEY)?, text(principal::SECRET_DATA_KEY)?))
    })
}

/// The text of an ApiKey's key, if it is known.
pub(crate) fn key_text(cluster: &ClusterState, key: &ObjectKey) -> Option<String> {
    let api_key = cluster.api_keys.get(key)?;
    let secret = cluster.secrets.get(&secret_of(api_key))?;
    if let Some(text) = secret.string_data.as_ref().and_then(|data| data.get(sluice_crds::api_key::SECRET_DATA_KEY)) {
        return Some(text.clone());
    }
    let bytes = &secret.data.as_ref()?.get(sluice_crds::api_key::SECRET_DATA_KEY)?.0;
    String::from_utf8(bytes.clone()).ok()
}

/// The cluster state of the folder, completed.
pub(crate) async fn complete(local: &mut Local, folder: &ClusterState) -> anyhow::Result<(ClusterState, Vec<String>)> {
    let mut cluster = folder.clone();
    let problems = local.start_servers(folder).await;
    for key in local.overridden(folder) {
        cluster.remove(Kind::EndpointSlice, &key);
    }
    for object in local.complete(folder)? {
        cluster.apply(object);
    }
    cluster.issuer = local.cluster_issuer();
    Ok((cluster, problems))
}

fn new_api_key() -> anyhow::Result<String> {
    let mut bytes = [0; 24];
    aws_lc_rs::rand::fill(&mut bytes).context("cannot generate an API key")?;
    let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("sk_{hexadecimal}"))
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The issuer of the identity provider of a Service port.
fn issuer(port: &ServicePort) -> String {
    format!("http://{}.{}.svc.cluster.local:{}", port.name, port.namespace, port.port)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((IpAddr::V4(Ipv4Addr::LOCALHOST), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_of_mapped_services_become_addresses() {
        let local = Local::new(&["shop/identity:9400=127.0.0.1:7000".parse().unwrap()]);
        for name in ["identity.shop", "identity.shop.svc", "identity.shop.svc.cluster.local"] {
            let url = format!("http://{name}:9400/jwks");
            assert_eq!(local.reachable(&url).as_deref(), Some("http://127.0.0.1:7000/jwks"), "{url}");
        }
        for other in
            ["http://identity.shop:9401/", "https://identity.shop:9400/", "http://idp.example/jwks", "http://x/"]
        {
            assert_eq!(local.reachable(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn a_dev_server_runs_while_a_service_requests_it_and_a_flag_overrides_it() {
        let service = |annotations: serde_json::Value| -> ClusterState {
            let value = json!({
                "metadata": {"name": "identity", "namespace": "shop", "annotations": annotations},
                "spec": {"ports": [{"port": 9400}]},
            });
            ClusterState::from_objects([Object::Service(Arc::new(serde_json::from_value(value).unwrap()))])
        };
        let asking = service(json!({DEV_SERVER: "identity-provider"}));
        let mut local = Local::default();
        assert!(local.start_servers(&asking).await.is_empty());
        let issuer = "http://identity.shop.svc.cluster.local:9400";
        assert!(local.token_endpoint(issuer).is_some() && local.servers().count() == 1);
        assert!(local.start_servers(&service(json!({}))).await.is_empty());
        assert!(local.token_endpoint(issuer).is_none() && local.servers().count() == 0 && local.addresses.is_empty());

        let problems = local.start_servers(&service(json!({DEV_SERVER: "teapot"}))).await;
        assert!(
            problems.iter().any(|problem| problem.contains("shop/identity") && problem.contains("example-backend"))
        );

        let mut flagged = Local::new(&["shop/identity:9400=127.0.0.1:7000".parse().unwrap()]);
        assert!(flagged.start_servers(&asking).await.is_empty());
        assert!(flagged.servers().count() == 0 && flagged.addresses.len() == 1);
    }

    #[tokio::test]
    async fn a_mapping_without_a_service_creates_one_with_endpoints() {
        let mut local = Local::new(&["shop/orders:80=127.0.0.1:3000".parse().unwrap()]);
        let (cluster, problems) = complete(&mut local, &ClusterState::default()).await.unwrap();
        let key = ObjectKey::new("shop", "orders");
        assert!(problems.is_empty() && cluster.services.contains_key(&key));
        assert_eq!(cluster.endpoint_slices.group(&key).count(), 1);
    }
}
