//! Authorizer as a watched kind. `translate` has its translation.

use serde_json::Value;
use sluice_crds::Authorizer;
use sluice_crds::authorizer::{AuthorizerType, JwksSourceType};
use sluice_crds::condition::reason;

use crate::objects::key::ObjectKey;
use crate::objects::service::authorities;
use crate::objects::table::Kind;
use crate::objects::watched::{Target, Watched, same_own};

impl Watched for Authorizer {
    fn same(&self, other: &Self) -> bool {
        self.spec == other.spec && same_own(&self.metadata, &other.metadata)
    }

    /// Authorizers of type Iam are looked up by namespace, for the Principals that they accept.
    fn group(&self) -> Option<ObjectKey> {
        (self.spec.type_ == AuthorizerType::Iam).then(|| iam_authorizers_of(&ObjectKey::of(self).namespace))
    }

    fn names(&self) -> Vec<(Kind, ObjectKey)> {
        let key = ObjectKey::of(self);
        let issuers = self.spec.jwt.iter().flat_map(|jwt| &jwt.issuers);
        let sources = issuers.filter_map(|issuer| issuer.jwks.as_ref());
        let named = sources.filter_map(|source| match source.type_ {
            JwksSourceType::ConfigMap => {
                source.config_map.as_ref().map(|named| (Kind::ConfigMap, key.target(&named.object)))
            }
            JwksSourceType::Secret => source.secret.as_ref().map(|named| (Kind::Secret, key.target(&named.object))),
        });
        let client = self.spec.introspection.as_ref().map(|spec| &spec.client.secret.object);
        let function = self.spec.lambda.as_ref().map(|spec| &spec.function);
        let invoke = function.and_then(|function| function.invoke.as_ref());
        let caller = invoke.and_then(|invoke| invoke.credentials.as_ref());
        let service = function.and_then(|function| function.service.as_ref()).map(|named| &named.service);
        let services = service.into_iter().chain(invoke.and_then(|invoke| invoke.service.as_ref()));
        let secrets = client.into_iter().chain(caller).map(|named| (Kind::Secret, key.target(named)));
        named.chain(secrets).chain(services.filter_map(|service| authorities(&key, service))).collect()
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

impl Target for Authorizer {
    const NOT_FOUND: &'static str = reason::AUTHORIZER_NOT_FOUND;
}

/// The group of the Authorizers of type Iam in a namespace. No object has this key.
#[must_use]
pub fn iam_authorizers_of(namespace: &str) -> ObjectKey {
    ObjectKey::new(namespace, "")
}
