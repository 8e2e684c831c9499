//! Certificates for tests, and TLS settings of clients and servers that use them.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// A self-signed certificate with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate as PEM.
    pub chain_pem: String,
    /// The private key as PEM.
    pub key_pem: String,
    /// The certificate.
    pub der: CertificateDer<'static>,
}

/// A certificate for a name; each call makes another key.
///
/// # Panics
///
/// When `name` is no host name.
#[must_use]
pub fn issue(name: &str) -> Issued {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    Issued { chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
}

/// A certificate for several names.
///
/// # Panics
///
/// When one of them is no host name.
#[must_use]
pub fn issue_for(names: &[&str]) -> Issued {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    Issued { chain_pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem(), der: made.cert.der().clone() }
}

/// A certificate with an RSA key.
///
/// # Panics
///
/// When `name` is no host name.
#[must_use]
pub fn issue_rsa(name: &str) -> Issued {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let cert = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    Issued { chain_pem: cert.pem(), key_pem: key.serialize_pem(), der: cert.der().clone() }
}

/// Settings of a client that trusts these certificates and offers these protocols (`h2`, `http/1.1`).
///
/// # Panics
///
/// When a certificate is malformed.
#[must_use]
pub fn client_config(trusted: &[&Issued], protocols: &[&str]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for issued in trusted {
        roots.add(issued.der.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}

/// Settings of a server with this certificate that accepts these protocols.
///
/// # Panics
///
/// When the key is malformed.
#[must_use]
pub fn server_config(issued: &Issued, protocols: &[&str]) -> ServerConfig {
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(vec![issued.der.clone()], key).unwrap();
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config
}
