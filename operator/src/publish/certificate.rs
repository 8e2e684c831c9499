//! The certificate of a server of the operator: read from files, and again when they change.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use tokio::time::Interval;
use tokio_rustls::TlsAcceptor;

/// How often the files are read again.
const RELOAD_EVERY: Duration = Duration::from_secs(30);

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain as PEM.
    pub chain: PathBuf,
    /// The key as PEM.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file has the wrong content.
    #[error("cannot use the certificate in {path}: a certificate chain and its private key are required, as PEM")]
    Content {
        /// The file.
        path: PathBuf,
    },
    /// The chain and the key do not match.
    #[error("cannot use the certificate: chain and key do not match")]
    Tls(#[from] rustls::Error),
}

/// A certificate in its current form, for one protocol above TLS.
#[derive(Debug)]
pub struct Certificate {
    files: CertificateFiles,
    protocol: &'static [u8],
    config: watch::Sender<Arc<ServerConfig>>,
}

/// The interval for [`Certificate::reload`].
pub(crate) fn reload_interval() -> Interval {
    let mut interval = tokio::time::interval(RELOAD_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    interval
}

impl Certificate {
    /// Reads the files; `protocol` is that of ALPN.
    ///
    /// # Errors
    /// See [`CertificateError`].
    pub async fn load(files: CertificateFiles, protocol: &'static [u8]) -> Result<Self, CertificateError> {
        let config = watch::Sender::new(Arc::new(read(&files, protocol).await?));
        Ok(Self { files, protocol, config })
    }

    /// Accepts TLS connections with the current certificate.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.borrow().clone())
    }

    /// Reads the files again. If they are not valid, the current certificate stays.
    pub(crate) async fn reload(&self) {
        match read(&self.files, self.protocol).await {
            Ok(config) => drop(self.config.send_replace(Arc::new(config))),
            Err(error) => tracing::warn!(%error, "cannot reload a certificate; keeping the current one"),
        }
    }
}

async fn read(files: &CertificateFiles, protocol: &[u8]) -> Result<ServerConfig, CertificateError> {
    let read = async |path: &PathBuf| {
        tokio::fs::read(path).await.map_err(|source| CertificateError::Read { path: path.clone(), source })
    };
    let (chain_pem, key_pem) = (read(&files.chain).await?, read(&files.key).await?);
    let chain = CertificateDer::pem_slice_iter(&chain_pem).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty());
    let chain = chain.ok_or_else(|| CertificateError::Content { path: files.chain.clone() })?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem);
    let key = key.map_err(|_| CertificateError::Content { path: files.key.clone() })?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    Ok(config)
}
