//! Which certificates of clients a Stage trusts, and the verifier of a handshake for a host with several Stages.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme,
    crypto::aws_lc_rs,
};
use sluice_wire::{ClientAuth, Hash};

/// Certificates below the authority that a client may send, with its own: a chain has six intermediate ones at most.
const MAX_CHAIN: usize = 7;
/// The longest certificate of a client in bytes: with more, the header with it would exceed what backends accept.
const MAX_CERTIFICATE: usize = 6 * 1024;
/// All certificates that a client may send, in bytes: they are kept with the connection.
const MAX_CHAIN_BYTES: usize = 32 * 1024;
/// With longer names of authorities a client gets none of them, and chooses its certificate by itself.
const MAX_HINTS: usize = 16 * 1024;

/// The authorities and revocation lists of a Stage.
#[derive(Debug)]
pub(crate) struct Trust {
    id: Hash,
    verifier: Arc<dyn ClientCertVerifier>,
}

/// Why the configuration of a Stage cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrustError {
    #[error("a certificate or revocation list is not valid base64")]
    Base64(#[from] base64::DecodeError),
    #[error("a certificate cannot be parsed")]
    Certificate(#[from] Error),
    #[error("no certificates, or a revocation list that cannot be parsed")]
    Verifier(#[from] VerifierBuilderError),
}

impl Trust {
    pub(crate) fn compile(part: &ClientAuth) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for root in &part.roots {
            roots.add(STANDARD.decode(root)?.into())?;
        }
        let lists = part.revocation.iter().map(|list| STANDARD.decode(list).map(CertificateRevocationListDer::from));
        let lists = lists.collect::<Result<Vec<_>, _>>()?;
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(aws_lc_rs::default_provider()))
                .with_crls(lists)
                // A list that is not renewed says nothing about certificates that were revoked since.
                .enforce_revocation_expiration()
                .build()?;
        Ok(Self { id: Self::id_of(part), verifier })
    }

    /// Of what is trusted: a change of other settings does not change it.
    pub(crate) fn id_of(part: &ClientAuth) -> Hash {
        let mut text = String::new();
        for item in part.roots.iter().chain(std::iter::once(&String::new())).chain(&part.revocation) {
            text.push_str(item);
            text.push('\n');
        }
        Hash::of(text.as_bytes())
    }

    pub(crate) fn id(&self) -> Hash {
        self.id
    }

    /// Verifies a chain, leaf first. Whether the client has the key was verified in the handshake.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        let (leaf, others) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
        self.verifier.verify_client_cert(leaf, others, now).map(drop)
    }
}

/// The verifier of handshakes for a host: a certificate must be trusted by one of its Stages. A client may have none: a
/// rejection over HTTP says more than an alert, and Stages of one host may differ.
#[derive(Debug)]
pub(crate) struct AnyTrust {
    trusts: Vec<Arc<Trust>>,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyTrust {
    pub(crate) fn new(trusts: Vec<Arc<Trust>>, provider: &CryptoProvider) -> Self {
        let mut hints: Vec<DistinguishedName> = Vec::new();
        for hint in trusts.iter().flat_map(|trust| trust.verifier.root_hint_subjects()) {
            if hints.iter().all(|other| other.as_ref() != hint.as_ref()) {
                hints.push(hint.clone());
            }
        }
        // With two bytes for the length of each.
        if hints.iter().map(|hint| hint.as_ref().len() + 2).sum::<usize>() > MAX_HINTS {
            hints.clear();
        }
        Self { trusts, hints, algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for AnyTrust {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let all = intermediates.iter().map(|certificate| certificate.len()).sum::<usize>() + end_entity.len();
        if end_entity.len() > MAX_CERTIFICATE || all > MAX_CHAIN_BYTES || intermediates.len() >= MAX_CHAIN {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let mut failure = Error::from(CertificateError::UnknownIssuer);
        for trust in &self.trusts {
            match trust.verifier.verify_client_cert(end_entity, intermediates, now) {
                Ok(verified) => return Ok(verified),
                // What is wrong with a certificate of a known issuer says more.
                Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {}
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The reason of a certificate that was verified and cannot be read, or is wrong in another way.
pub(crate) const UNREADABLE: &str = "certificate_invalid";

/// The reason of a rejected certificate, for the access log; none: the error is about something else.
pub(crate) fn problem(error: &Error) -> Option<&'static str> {
    let error = match error {
        Error::InvalidCertificate(error) => error,
        Error::InvalidCertRevocationList(_) => return Some("revocation_list_invalid"),
        _ => return None,
    };
    Some(match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate_not_yet_valid",
        CertificateError::Revoked => "certificate_revoked",
        CertificateError::UnknownIssuer => "certificate_untrusted",
        CertificateError::UnknownRevocationStatus => "revocation_unknown",
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "revocation_list_expired"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "certificate_wrong_purpose"
        }
        CertificateError::ApplicationVerificationFailure => "certificate_too_large",
        _ => UNREADABLE,
    })
}
