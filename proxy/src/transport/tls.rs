//! TLS to other servers: one set of root certificates for the whole process, and the protocols that are offered by ALPN.

use std::sync::{Arc, LazyLock};

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// The system's root certificates, read once: it takes milliseconds and a file of some hundred kilobytes.
static SYSTEM: LazyLock<RootCertStore> = LazyLock::new(|| {
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!(%error, "cannot load a root certificate of the system");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(native.certs);
    roots
});

/// TLS configurations over one set of roots, by what is offered by ALPN (RFC 7301).
#[derive(Debug)]
pub(crate) struct Tls {
    pub(super) http1: Arc<ClientConfig>,
    pub(super) http2: Arc<ClientConfig>,
    /// The server chooses.
    pub(super) any: Arc<ClientConfig>,
}

impl Tls {
    /// Trusts the system's roots and `extra` ones.
    ///
    /// # Errors
    /// The crypto library lacks what TLS needs, or an extra root is not a certificate.
    pub(crate) fn new(extra: Vec<CertificateDer<'static>>) -> Result<Arc<Self>, rustls::Error> {
        let mut roots = SYSTEM.clone();
        for root in extra {
            roots.add(root)?;
        }
        Self::trusting(roots)
    }

    /// Trusts exactly `roots`.
    ///
    /// # Errors
    /// The crypto library lacks what TLS needs.
    pub(crate) fn trusting(roots: RootCertStore) -> Result<Arc<Self>, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let config = builder.with_root_certificates(roots).with_no_client_auth();
        let offering = |protocols: &[&str]| {
            let alpn_protocols: Vec<Vec<u8>> = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
            let mut config = config.clone();
            config.alpn_protocols = alpn_protocols;
            Arc::new(config)
        };
        Ok(Arc::new(Self {
            http1: offering(&["http/1.1"]),
            http2: offering(&["h2"]),
            any: offering(&["h2", "http/1.1"]),
        }))
    }
}
