//! Signs the request (AWS Signature Version 4) with the access key of a Principal.

use std::time::SystemTime;

use anyhow::Context as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sluice_crds::Authorizer;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::ObjectKey;
use sluice_proxy::run::RequestToExplain;
use sluice_sigv4::{BodyHash, RequestParts, Signer};

use super::keys::object;
use crate::dev::local::access_key_text;

/// What a signature is for.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scope {
    region: String,
    service: String,
}

impl Scope {
    /// The first region of an Authorizer; none: it does not accept signatures.
    fn of(authorizer: &Authorizer) -> Option<Self> {
        let iam = authorizer.spec.iam.as_ref()?;
        Some(Self { region: iam.regions.first()?.clone(), service: iam.service.clone() })
    }
}

/// An access key, and what the Authorizers of the manifests accept.
pub(super) struct Signing {
    id: String,
    secret: String,
    /// Of the first Authorizer.
    scope: Scope,
    /// Whether other Authorizers accept something else.
    differ: bool,
}

impl Signing {
    pub(super) fn of(principal: &str, cluster: &ClusterState) -> anyhow::Result<Self> {
        let access_key = access_key_text(cluster, &object(principal)?);
        let (id, secret) =
            access_key.with_context(|| format!("the access key of Principal {principal} is not known"))?;
        let mut scopes = cluster.authorizers.values().filter_map(|authorizer| Scope::of(authorizer));
        let scope = scopes.next().context("the manifests have no Authorizer of type Iam")?;
        let differ = scopes.any(|other| other != scope);
        Ok(Self { id, secret, scope, differ })
    }

    /// Whether the Authorizer of the rule determines the signature.
    pub(super) fn depends_on_rule(&self) -> bool {
        self.differ
    }

    /// Adds the signature, for the first region of this Authorizer (`namespace/name`) if it accepts signatures. If it does not, or if
    /// there is none, nothing reads the signature.
    pub(super) fn sign(
        &self,
        request: &mut RequestToExplain,
        cluster: &ClusterState,
        authorizer: Option<&str>,
    ) -> anyhow::Result<()> {
        let key =
            authorizer.and_then(|name| name.split_once('/')).map(|(namespace, name)| ObjectKey::new(namespace, name));
        let of_rule = key.and_then(|key| Scope::of(cluster.authorizers.get(&key)?));
        let Scope { region, service } = of_rule.as_ref().unwrap_or(&self.scope);
        let mut map = HeaderMap::new();
        for (name, value) in &request.headers {
            let name =
                HeaderName::from_bytes(name.as_bytes()).with_context(|| format!("{name:?} is not a header name"))?;
            map.append(name, HeaderValue::from_str(value).context("the value of a header is not valid")?);
        }
        let target = request.target.as_str();
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let method: Method = request.method.parse().context("the method is not valid")?;
        let parts = RequestParts { method: &method, path, query, headers: &map, host: None };
        let signer = Signer::new(&self.id, &self.secret, region, service, SystemTime::now());
        let added = signer.sign(&parts, &BodyHash::of(&request.body)).context("cannot sign the request")?;
        for (name, value) in &added {
            let value = value.to_str().context("cannot sign the request")?;
            request.headers.push((name.to_string(), value.to_owned()));
        }
        Ok(())
    }
}
