//! What Services and TLS Secrets configure: addresses of endpoints, and certificates with their private keys.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::ObjectRef;

/// One port of one Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpstreamPart {
    /// The Service.
    pub object: ObjectRef,
    /// Where it is.
    pub endpoints: Endpoints,
    /// Whether the port's protocol is HTTP/2: without TLS with prior knowledge (`appProtocol: kubernetes.io/h2c`), with TLS
    /// as the only protocol that is offered.
    #[serde(default)]
    pub h2c: bool,
    /// TLS; none: the Service is called without. With TLS and without `h2c` the server chooses the version of HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<UpstreamTls>,
}

/// TLS to a Service. Its certificate is always verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpstreamTls {
    /// The DNS name or address that the certificate must be for; it is also sent as server name (SNI).
    pub server_name: String,
    /// The only certificate authorities that are trusted, as base64 of their DER; none: those of the proxy's system. A proxy
    /// that does not know this field trusts those as well, and does not call a server with another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roots: Option<Vec<String>>,
}

/// Where a Service is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Endpoints {
    /// Ready addresses, sorted. None: 503.
    Addresses(Vec<SocketAddr>),
    /// An ExternalName Service.
    Name {
        /// A DNS name.
        host: String,
        /// Its port.
        port: u16,
    },
}

/// A certificate chain and its key.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct CertificatePart {
    /// The Secret.
    pub object: ObjectRef,
    /// The chain, leaf first, as PEM.
    pub chain_pem: String,
    /// The private key as PEM.
    pub key_pem: String,
    /// When the first certificate of the chain expires, as Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<i64>,
}

impl fmt::Debug for CertificatePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificatePart({})", self.object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_without_tls_is_written_and_read_as_before_there_was_tls() {
        let text = r#"{"object":{"kind":"Service","namespace":"shop","name":"orders"},"endpoints":{"Addresses":["10.0.0.1:80"]},"h2c":true}"#;
        let part: UpstreamPart = serde_json::from_str(text).unwrap();
        assert!(part.h2c && part.tls.is_none());
        assert_eq!(serde_json::to_string(&part).unwrap(), text);
    }
}
