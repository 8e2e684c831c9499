//! Selects the certificate for the host that a client names, and the certificates that it asks the client for. Both change without
//! a new listener.
//! The host table decides what is served for a host.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{Acceptor, ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme, crypto::aws_lc_rs};
use sluice_wire::{CertificatePart, Diagnostic, Hash, HostPattern, PartName, StagePart};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::client::Certified;
use crate::client_certificate::{self, AnyTrust, Certificate, Presented, Trust};

#[derive(Default, Debug)]
struct Table {
    exact: HashMap<Box<str>, Candidates>,
    /// By what follows `*.`.
    wildcard: HashMap<Box<str>, Candidates>,
    /// Of Stages without hosts.
    any: Candidates,
}

/// The certificates of the Stages that serve a host, in order of preference.
#[derive(Default, Debug)]
struct Candidates {
    keys: Vec<Arc<CertifiedKey>>,
    /// Some certificates of the Stages cannot be used: a host for which none of the others is valid gets none of them.
    incomplete: bool,
    /// The namespace of the Stages: a host belongs to one.
    namespace: Arc<str>,
    /// What the Stages trust that have client certificates.
    trusts: Vec<Arc<Trust>>,
    /// Made of them; none: no Stage of the host has client certificates.
    client_auth: Option<Arc<ClientAuth>>,
}

/// Handshakes in which clients are asked for a certificate.
#[derive(Debug)]
struct ClientAuth {
    asked: Box<[Hash]>,
    config: ServerConfig,
}

impl ClientAuth {
    fn new(trusts: Vec<Arc<Trust>>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let asked = trusts.iter().map(|trust| trust.id()).collect();
        let verifier = Arc::new(AnyTrust::new(trusts, &provider));
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(Arc::new(Chosen(None)));
        config.alpn_protocols = protocols();
        // Nothing of a session is remembered: a resumed one would have a certificate that nothing verified again.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self { asked, config })
    }
}

impl Candidates {
    fn add(&mut self, keys: &[Arc<CertifiedKey>], incomplete: bool, namespace: &Arc<str>, trust: Option<&Arc<Trust>>) {
        trust.into_iter().for_each(|trust| self.ask_for(trust));
        for key in keys {
            if !self.keys.iter().any(|earlier| Arc::ptr_eq(earlier, key)) {
                self.keys.push(key.clone());
            }
        }
        self.incomplete |= incomplete;
        self.namespace = namespace.clone();
    }

    fn ask_for(&mut self, trust: &Arc<Trust>) {
        if self.trusts.iter().all(|other| other.id() != trust.id()) {
            self.trusts.push(trust.clone());
        }
    }

    /// The first certificate that is valid for the name and has a key of a type that the client supports. Without such a
    /// one the client's support matters more than the name: the client reports which name is wrong.
    fn select(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        if self.keys.len() < 2 && !self.incomplete {
            return self.keys.first().cloned();
        }
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let supported = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(schemes).is_some();
        let valid = |key: &&Arc<CertifiedKey>| name.as_ref().is_some_and(|name| is_valid_for(key, name));
        if let Some(first) = self.keys.iter().filter(supported).find(valid) {
            return Some(first.clone());
        }
        if self.incomplete {
            return None;
        }
        self.keys.iter().find(supported).or(self.keys.first()).cloned()
    }
}

fn is_valid_for(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    let certificate = key.cert.first().and_then(|der| ParsedCertificate::try_from(der).ok());
    certificate.is_some_and(|certificate| verify_server_name(&certificate, name).is_ok())
}

/// The certificates in force.
#[derive(Default, Debug)]
pub(crate) struct Certificates {
    table: ArcSwap<Table>,
}

impl Certificates {
    /// Takes the certificates of all stages. A certificate that cannot be used is reported and not used: its hosts then
    /// have no TLS, never another's certificate.
    pub(crate) fn update<'a>(
        &self,
        stages: impl Iterator<Item = (&'a PartName, &'a StagePart)>,
        parts: &BTreeMap<PartName, CertificatePart>,
        trusts: &BTreeMap<PartName, Arc<Trust>>,
    ) -> Vec<Diagnostic> {
        let mut table = Table::default();
        let mut diagnostics = Vec::new();
        let mut without: Vec<&StagePart> = Vec::new();
        let mut keyless: Vec<(&StagePart, &Arc<Trust>)> = Vec::new();
        let mut parsed: HashMap<&PartName, Option<Arc<CertifiedKey>>> = HashMap::new();
        for (stage_name, stage) in stages {
            let mut keys = Vec::new();
            let mut incomplete = stage.tls.is_some_and(|tls| tls.incomplete);
            for name in &stage.certificates {
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
                match key {
                    Some(key) => keys.push(key.clone()),
                    None => {
                        incomplete = true;
                        let message = format!(
                            "The certificate {} cannot be used: it needs a PEM certificate chain and the private key that \
                             belongs to it. The Stage is served over TLS with its other certificates only, if it has any.",
                            name.id()
                        );
                        diagnostics.push(Diagnostic { object: stage.object.clone(), message });
                    }
                }
            }
            let trust = trusts.get(stage_name);
            if keys.is_empty() {
                without.push(stage);
                keyless.extend(trust.map(|trust| (stage, trust)));
                continue;
            }
            let namespace = &stage.object.namespace;
            for host in &stage.hostnames {
                let map = if host.is_wildcard() { &mut table.wildcard } else { &mut table.exact };
                map.entry(host.name().into()).or_default().add(&keys, incomplete, namespace, trust);
            }
            if stage.hostnames.is_empty() {
                table.any.add(&keys, incomplete, namespace, trust);
            }
        }
        table.close(&without);
        for (stage, trust) in keyless {
            table.ask_for(&stage.hostnames, trust);
        }
        table.ask();
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

impl Certificates {
    /// The certificate for a client, and what to ask it for.
    fn find(
        &self,
        hello: &ClientHello<'_>,
        name: Option<&str>,
    ) -> (Option<Arc<CertifiedKey>>, Option<Arc<ClientAuth>>) {
        let table = self.table.load();
        let candidates = name.map_or(&table.any, |name| table.of(name));
        (candidates.select(name, hello.signature_schemes()), candidates.client_auth.clone())
    }

    /// Whether a certificate is one of those for a host.
    fn are_for(&self, host: &str, shown: &CertifiedKey) -> bool {
        self.table.load().of(host).keys.iter().any(|key| key.cert == shown.cert)
    }
}

impl Table {
    /// Hosts of Stages without usable certificates get none of another namespace: neither that of a wildcard above them, nor
    /// that of a Stage without hosts. Hosts of Stages that name certificates get none of their own namespace either.
    fn close(&mut self, without: &[&StagePart]) {
        let hosts = |stage: &&StagePart| {
            let (namespace, closed) =
                (stage.object.namespace.clone(), stage.tls.is_some() || !stage.certificates.is_empty());
            stage.hostnames.iter().map(|host| (host.clone(), namespace.clone(), closed)).collect::<Vec<_>>()
        };
        let mut hosts: Vec<(HostPattern, Arc<str>, bool)> = without.iter().flat_map(hosts).collect();
        // Wildcards first, the shortest first: they decide what the names below them would get.
        hosts.sort_by_key(|(host, _, closed)| (!host.is_wildcard(), host.name().len(), !closed));
        for (host, namespace, closed) in hosts {
            let own = if host.is_wildcard() { &self.wildcard } else { &self.exact };
            if own.contains_key(host.name()) {
                continue;
            }
            let above = if host.is_wildcard() { self.below_wildcards(host.name()) } else { self.of(host.name()) };
            if (closed || above.namespace != namespace) && !above.keys.is_empty() {
                let none = Candidates { namespace, ..Candidates::default() };
                let own = if host.is_wildcard() { &mut self.wildcard } else { &mut self.exact };
                own.insert(host.name().into(), none);
            }
        }
    }

    /// Asks for certificates of a Stage without usable ones of its own, where its hosts are served with those of others.
    fn ask_for(&mut self, hosts: &[HostPattern], trust: &Arc<Trust>) {
        for host in hosts {
            let map = if host.is_wildcard() { &mut self.wildcard } else { &mut self.exact };
            if let Some(candidates) = map.get_mut(host.name()) {
                candidates.ask_for(trust);
            }
        }
        if hosts.is_empty() {
            self.any.ask_for(trust);
        }
    }

    /// Prepares the handshakes of hosts with client certificates. Stages of several hosts share one.
    fn ask(&mut self) {
        let mut made: HashMap<Vec<Hash>, Option<Arc<ClientAuth>>> = HashMap::new();
        let hosts = self.exact.values_mut().chain(self.wildcard.values_mut()).chain(std::iter::once(&mut self.any));
        for candidates in hosts.filter(|candidates| !candidates.trusts.is_empty()) {
            candidates.trusts.sort_by_key(|trust| trust.id());
            let ids = candidates.trusts.iter().map(|trust| trust.id()).collect();
            let make = || match ClientAuth::new(candidates.trusts.clone()) {
                Ok(made) => Some(Arc::new(made)),
                Err(error) => {
                    tracing::error!(%error, "cannot ask clients for certificates");
                    None
                }
            };
            candidates.client_auth = made.entry(ids).or_insert_with(make).clone();
        }
    }

    fn of(&self, name: &str) -> &Candidates {
        if let Some(keys) = self.exact.get(name) {
            return keys;
        }
        self.below_wildcards(name)
    }

    /// The certificates of the longest wildcard above a name.
    fn below_wildcards(&self, name: &str) -> &Candidates {
        let mut rest = name;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(keys) = self.wildcard.get(parent) {
                return keys;
            }
            rest = parent;
        }
        &self.any
    }
}

/// TLS 1.2 and 1.3 with HTTP/2 and HTTP/1.1.
pub(crate) struct TlsServer {
    config: ServerConfig,
    certificates: Arc<Certificates>,
}

/// A handshake that failed.
pub(super) struct HandshakeError {
    pub(super) error: io::Error,
    /// The host that the client named; empty: none.
    pub(super) host: Box<str>,
    /// What is wrong with the certificate of the client; none: the handshake failed otherwise.
    pub(super) rejected: Option<&'static str>,
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        Self { error, host: Box::default(), rejected: None }
    }
}

/// HTTP/2 and HTTP/1.1.
fn protocols() -> Vec<Vec<u8>> {
    vec![b"h2".to_vec(), b"http/1.1".to_vec()]
}

/// What a client has presented in its handshake. None: its certificate cannot be read.
fn presented<S>(stream: &TlsStream<S>, client_auth: Option<&ClientAuth>) -> Option<Presented> {
    let Some(client_auth) = client_auth else { return Some(Presented::default()) };
    let certificate = match stream.get_ref().1.peer_certificates() {
        Some(chain) => Some(Box::new(Certificate::read(chain)?)),
        None => None,
    };
    Some(Presented::new(client_auth.asked.clone(), certificate))
}

impl TlsServer {
    pub(crate) fn new(certificates: Arc<Certificates>) -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Chosen(None)));
        config.alpn_protocols = protocols();
        Ok(Self { config, certificates })
    }

    /// Makes the handshake with the certificate for the host that the client names.
    pub(super) async fn accept<S>(&self, stream: S) -> Result<(TlsStream<S>, Arc<Shown>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await;
        let start = start.map_err(HandshakeError::from)?;
        let hello = start.client_hello();
        let host: Option<Box<str>> = hello.server_name().map(|name| name.to_ascii_lowercase().into());
        let (key, client_auth) = self.certificates.find(&hello, host.as_deref());
        let mut config = client_auth.as_ref().map_or(&self.config, |client_auth| &client_auth.config).clone();
        // Without a certificate the client gets an alert.
        config.cert_resolver = Arc::new(Chosen(key.clone()));
        let stream = start.into_stream(Arc::new(config)).await;
        match (stream, key) {
            (Ok(stream), Some(key)) => {
                let Some(presented) = presented(&stream, client_auth.as_deref()) else {
                    let error = io::Error::other("the certificate of the client cannot be read");
                    let rejected = Some(client_certificate::UNREADABLE);
                    return Err(HandshakeError { error, host: host.unwrap_or_default(), rejected });
                };
                let certificates = self.certificates.clone();
                let shown = Shown { key, host, certificates, last: Mutex::default(), presented };
                Ok((stream, Arc::new(shown)))
            }
            (stream, _) => {
                let error = stream.err().unwrap_or_else(|| io::Error::other("no certificate"));
                let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
                let rejected = cause.and_then(client_certificate::problem);
                Err(HandshakeError { error, host: host.unwrap_or_default(), rejected })
            }
        }
    }
}

/// The certificate that was chosen for a handshake.
#[derive(Debug)]
struct Chosen(Option<Arc<CertifiedKey>>);

impl ResolvesServerCert for Chosen {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }
}

/// The certificate that a client was shown, and its own.
pub(super) struct Shown {
    key: Arc<CertifiedKey>,
    /// The host that the client named.
    host: Option<Box<str>>,
    certificates: Arc<Certificates>,
    /// The last other host that was found to be covered.
    last: Mutex<Box<str>>,
    presented: Presented,
}

impl Certified for Shown {
    /// The host that the client named, and hosts that have the same certificate and for which it is valid. A client that named
    /// none, because it uses an address, gets what has the same certificate.
    fn covers(&self, host: &str) -> bool {
        if self.host.as_deref() == Some(host) {
            return true;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if !host.is_empty() && **last == *host {
            return true;
        }
        let valid = || ServerName::try_from(host).is_ok_and(|name| is_valid_for(&self.key, &name));
        let covered = self.certificates.are_for(host, &self.key) && (self.host.is_none() || valid());
        if covered {
            *last = host.into();
        }
        covered
    }

    fn is_named(&self, host: &str) -> bool {
        self.host.as_deref().is_none_or(|named| named == host)
    }

    fn presented(&self) -> &Presented {
        &self.presented
    }
}
