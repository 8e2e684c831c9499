//! Explains single requests: each is sent over a connection in memory to the same code that serves clients, which stops before it
//! calls the integration.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::TlsConnector;

use crate::explain::{Explanation, Trace};
use crate::listen::tls::TlsServer;
use crate::listen::{self, ListenContext};
use crate::pipeline::Worker;

/// The longest time for one explanation: that of the slowest authorizer, and more than the proxy waits for a request.
const LONGEST: Duration = Duration::from_secs(45);
/// Bytes that wait in a connection.
const BUFFER: usize = 64 * 1024;

/// A request to be explained.
#[derive(Clone, Debug)]
pub struct RequestToExplain {
    /// The method.
    pub method: String,
    /// Path and query, as they are sent.
    pub target: String,
    /// The headers, as they are sent, in their order. `Host` and `Content-Length` are among them.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// The address of the client.
    pub source: IpAddr,
    /// The port that the client connects to.
    pub port: u16,
    /// None: plain HTTP.
    pub tls: Option<TlsClient>,
}

/// A client that uses TLS.
#[derive(Clone)]
pub struct TlsClient {
    /// The host that it names in the handshake.
    pub host: String,
    /// Its certificate chain and private key, as PEM.
    pub identity_pem: Option<String>,
}

impl std::fmt::Debug for TlsClient {
    // It may hold a private key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TlsClient({})", self.host)
    }
}

/// Why a request cannot be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// A part of its head has a line end.
    #[error("the method, the target or a header of the request has a line end")]
    LineEnd,
    /// The host is none of TLS.
    #[error("the host cannot be used with TLS")]
    Host(#[from] InvalidDnsNameError),
    /// The PEM text of the client certificate is not valid.
    #[error("the client certificate cannot be read: a PEM file with certificates and their private key is needed")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// TLS cannot be set up.
    #[error("cannot configure TLS")]
    Tls(#[from] rustls::Error),
    /// No thread, or no timer in it.
    #[error("cannot start a thread")]
    Thread(#[from] io::Error),
    /// The thread has panicked.
    #[error("the explanation has failed")]
    Failed,
}

/// Explains requests.
pub(super) struct Explainer {
    pub(super) shared: Arc<ListenContext>,
    pub(super) worker: Arc<Worker>,
    pub(super) tls: Arc<TlsServer>,
}

impl Explainer {
    /// Explains a request with the current configuration. Blocks.
    pub(super) fn explain(&self, request: &RequestToExplain) -> Result<Explanation, ExplainError> {
        let head = head(request)?;
        let client = request.tls.as_ref().map(connector).transpose()?;
        // A thread of its own, as requests of clients have: deadlines belong to threads.
        let explained = std::thread::scope(|scope| {
            let run = || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                let explanation = runtime.block_on(self.run(request, &head, client));
                runtime.shutdown_background();
                Ok(explanation)
            };
            scope.spawn(run).join()
        });
        explained.map_err(|_| ExplainError::Failed)?.map_err(ExplainError::Thread)
    }

    async fn run(
        &self,
        request: &RequestToExplain,
        head: &[u8],
        client: Option<(TlsConnector, ServerName<'static>)>,
    ) -> Explanation {
        drop(tokio::spawn(crate::deadline::watch()));
        let (near, far) = tokio::io::duplex(BUFFER);
        let trace = Arc::new(Trace::new());
        let from = (request.source, request.port);
        let tls = client.as_ref().map(|_| self.tls.clone());
        let serving =
            tokio::spawn(listen::explain(self.shared.clone(), far, tls, from, trace.clone(), self.worker.clone()));
        let sending = async {
            // What goes wrong here is in the explanation of the other end.
            if let Err(error) = send(near, client, head, &request.body).await {
                tracing::debug!(%error, "the connection of an explained request ended");
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = trace.finished() => {}
            _ = serving => {}
            () = sending => {}
            () = tokio::time::sleep(LONGEST) => {}
        }
        trace.explanation()
    }
}

/// The head as HTTP/1.1 text. What is not valid in it is rejected by the proxy, as that of a client is.
fn head(request: &RequestToExplain) -> Result<Vec<u8>, ExplainError> {
    let RequestToExplain { method, target, headers, .. } = request;
    let mut head = format!("{method} {target} HTTP/1.1\r\n");
    let lines = 1 + headers.len();
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if head.matches(['\r', '\n']).count() != 2 * lines {
        return Err(ExplainError::LineEnd);
    }
    head.push_str("\r\n");
    Ok(head.into_bytes())
}

async fn send(
    stream: DuplexStream,
    client: Option<(TlsConnector, ServerName<'static>)>,
    head: &[u8],
    body: &[u8],
) -> io::Result<()> {
    match client {
        None => exchange(stream, head, body).await,
        Some((connector, name)) => exchange(connector.connect(name, stream).await?, head, body).await,
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite, head: &[u8], body: &[u8]) -> io::Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        writer.write_all(head).await?;
        writer.write_all(body).await?;
        writer.flush().await
    };
    let read = async {
        let mut buffer = [0; 4096];
        while reader.read(&mut buffer).await? > 0 {}
        Ok(())
    };
    tokio::try_join!(write, read).map(drop)
}

fn connector(client: &TlsClient) -> Result<(TlsConnector, ServerName<'static>), ExplainError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let name = ServerName::try_from(client.host.clone())?;
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions()?;
    let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(OwnServer(provider)));
    let config = match &client.identity_pem {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?;
            builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(pem.as_bytes())?)?
        }
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}

/// Accepts every certificate: the server is in the same process, and which certificate it shows is not the question.
#[derive(Debug)]
struct OwnServer(Arc<CryptoProvider>);

impl ServerCertVerifier for OwnServer {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_has_no_line_that_its_parts_bring() {
        let request = |target: &str, value: &str| RequestToExplain {
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: vec![("host".to_owned(), value.to_owned())],
            body: Bytes::new(),
            source: IpAddr::from([127, 0, 0, 1]),
            port: 80,
            tls: None,
        };
        assert_eq!(head(&request("/a", "b")).unwrap(), b"GET /a HTTP/1.1\r\nhost: b\r\n\r\n");
        for (target, value) in [("/a\r\nx: y", "b"), ("/a", "b\nx: y"), ("/a", "b\r")] {
            assert!(matches!(head(&request(target, value)), Err(ExplainError::LineEnd)));
        }
    }
}
