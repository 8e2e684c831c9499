//! Where requests go and which certificates are shown: addresses of Services, TLS key pairs.

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
    /// Whether its port's `appProtocol` is `kubernetes.io/h2c`.
    #[serde(default)]
    pub h2c: bool,
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
}

impl fmt::Debug for CertificatePart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CertificatePart({})", self.object)
    }
}
