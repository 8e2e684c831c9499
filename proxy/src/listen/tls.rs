//! Which certificate is shown for a name. Certificates change without a new listener.
//! What is served behind them is the host table's business.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use sluice_wire::{CertificatePart, Diagnostic, PartName, StagePart};

#[derive(Default, Debug)]
struct Table {
    exact: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Arc<CertifiedKey>>,
    /// Of a stage without names.
    any: Option<Arc<CertifiedKey>>,
}

/// The certificates in force.
#[derive(Default, Debug)]
pub(crate) struct Certificates {
    table: ArcSwap<Table>,
}

impl Certificates {
    /// Takes the certificates of all stages. A certificate that cannot be used is named and not shown: its hosts then
    /// have no TLS, never another's certificate.
    pub(crate) fn update<'a>(
        &self,
        stages: impl Iterator<Item = &'a StagePart>,
        parts: &BTreeMap<PartName, CertificatePart>,
    ) -> Vec<Diagnostic> {
        let mut table = Table::default();
        let mut diagnostics = Vec::new();
        let mut parsed: HashMap<&PartName, Option<Arc<CertifiedKey>>> = HashMap::new();
        for stage in stages {
            let Some(name) = &stage.certificate else { continue };
            let key = parsed.entry(name).or_insert_with(|| {
                let part = parts.get(name)?;
                match certified(part) {
                    Ok(key) => Some(key),
                    Err(error) => {
                        tracing::warn!(part = %name, %error, "invalid certificate");
                        None
                    }
                }
            });
            let Some(key) = key else {
                let message = format!(
                    "The certificate {} cannot be used: it needs a PEM certificate chain and the private key that belongs to it. \
                     The Stage is not served over TLS.",
                    name.id()
                );
                diagnostics.push(Diagnostic { object: stage.object.clone(), message });
                continue;
            };
            for host in &stage.hostnames {
                let map = if host.is_wildcard() { &mut table.wildcard } else { &mut table.exact };
                map.entry(host.name().into()).or_insert_with(|| key.clone());
            }
            if stage.hostnames.is_empty() {
                table.any.get_or_insert_with(|| key.clone());
            }
        }
        self.table.store(Arc::new(table));
        diagnostics
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
enum CertificateError {
    #[error("cannot parse the PEM text")]
    Pem(#[from] rustls::pki_types::pem::Error),
    #[error("cannot use the certificate")]
    Tls(#[from] rustls::Error),
    #[error("no certificate found")]
    Empty,
}

fn certified(part: &CertificatePart) -> Result<Arc<CertifiedKey>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(part.chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    if chain.is_empty() {
        return Err(CertificateError::Empty);
    }
    let key = PrivateKeyDer::from_pem_slice(part.key_pem.as_bytes())?;
    let key = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?;
    Ok(Arc::new(key))
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let Some(name) = hello.server_name() else { return table.any.clone() };
        let name = name.to_ascii_lowercase();
        if let Some(key) = table.exact.get(name.as_str()) {
            return Some(key.clone());
        }
        let mut rest = name.as_str();
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(key) = table.wildcard.get(parent) {
                return Some(key.clone());
            }
            rest = parent;
        }
        table.any.clone()
    }
}

/// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
pub(crate) fn server_config(certificates: Arc<Certificates>) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
