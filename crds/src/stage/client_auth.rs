//! Certificates of clients (mutual TLS): which authorities are trusted, and what integrations get.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    field::DATA_KEY,
    reference::{CaSource, CaSourceType, Reference},
};

/// Certificates of clients (mutual TLS).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientAuth {
    /// Whether a client needs a certificate. `Require`: a request without a certificate gets 403. `Optional`: it is served, and
    /// variables such as `context.identity.clientCert.subjectDN` have no value. A certificate that is not valid is rejected in
    /// the handshake with both. Unset: `Require`. Example: `Optional`.
    #[serde(default)]
    pub mode: ClientAuthMode,
    /// The certificate authorities that may have issued the certificates of clients; no others are trusted. If one of the objects
    /// is missing or invalid, all requests of the stage are rejected. From 1 to 8, with at most 1 MiB together with `revocation`.
    /// Example: `[{type: ConfigMap, configMap: {name: partners-ca}}]`.
    #[schemars(length(min = 1, max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub ca: Vec<CaSource>,
    /// Lists of revoked certificates (CRL). With any, each certificate of a chain below its authority needs a list of its issuer
    /// that has not expired; otherwise the client is rejected. A change takes effect for open connections too. At most 8. Empty:
    /// revocation is not checked. Example: `[{type: ConfigMap, configMap: {name: partners-ca}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub revocation: Vec<RevocationSource>,
    /// What integrations get of the certificate. `ClientCert`: the certificate in the header `Client-Cert` (RFC 9440). `None`:
    /// nothing. The header of a client with this name is always removed. Unset: `ClientCert`. Example: `None`.
    #[serde(default)]
    pub forward: ClientCertForwarding,
}

/// Whether a client needs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum ClientAuthMode {
    /// Requests without one are rejected.
    #[default]
    Require,
    /// Requests without one are served.
    Optional,
}

/// What integrations get of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum ClientCertForwarding {
    /// The header `Client-Cert`.
    #[default]
    ClientCert,
    /// Nothing.
    None,
}

/// Lists of revoked certificates, as PEM, in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.configMap) == (self.type == 'ConfigMap')",
    "message": "type ConfigMap requires the field configMap, which is not allowed with other types"
}, {
    "rule": "has(self.secret) == (self.type == 'Secret')",
    "message": "type Secret requires the field secret, which is not allowed with other types"
}]))]
pub struct RevocationSource {
    /// The kind of the object with the lists. Example: `ConfigMap`.
    #[serde(rename = "type")]
    pub type_: CaSourceType,
    /// The ConfigMap and its data key. Required with type `ConfigMap`. Example: `{name: partners-ca}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<RevocationReference>,
    /// The Secret and its data key. Required with type `Secret`. Example: `{name: partners-ca}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<RevocationReference>,
}

/// A reference to one key of a ConfigMap or Secret that holds lists of revoked certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RevocationReference {
    /// The ConfigMap or Secret.
    #[serde(flatten)]
    pub object: Reference,
    /// The key in its `data` that holds the lists. Unset: `ca.crl`. At most 253 characters. Example: `crl.pem`.
    #[serde(default = "default_revocation_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

fn default_revocation_key() -> String {
    "ca.crl".to_owned()
}
