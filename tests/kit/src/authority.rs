//! Certificate authorities that issue certificates for clients, and revoke them.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// An authority.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate as PEM.
    pub pem: String,
    /// Its certificate.
    pub der: CertificateDer<'static>,
    /// The certificates that are sent with those that it issues.
    sent: Vec<CertificateDer<'static>>,
}

/// The certificate of a client with its key.
#[derive(Debug)]
pub struct ClientCertificate {
    /// The certificate, and intermediate ones.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// The private key as PEM.
    pub key_pem: String,
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl Authority {
    /// A root of that name.
    ///
    /// # Panics
    ///
    /// When the certificate cannot be made.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let made = params.self_signed(&key).unwrap();
        let (pem, der) = (made.pem(), made.der().clone());
        Self { issuer: Issuer::new(params, key), pem, der, sent: Vec::new() }
    }

    /// An authority of that name below this one.
    ///
    /// # Panics
    ///
    /// When the certificate cannot be made.
    #[must_use]
    pub fn intermediate(&self, name: &str) -> Self {
        let (params, key) = (authority_params(name), KeyPair::generate().unwrap());
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let (pem, der) = (made.pem(), made.der().clone());
        let sent = std::iter::once(der.clone()).chain(self.sent.iter().cloned()).collect();
        Self { issuer: Issuer::new(params, key), pem, der, sent }
    }

    /// A certificate for a client with that common name.
    #[must_use]
    pub fn issue(&self, name: &str) -> ClientCertificate {
        self.issue_with(name, |_| {})
    }

    /// The same with other parameters.
    ///
    /// # Panics
    ///
    /// When the certificate cannot be made.
    #[must_use]
    pub fn issue_with(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> ClientCertificate {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let made = params.signed_by(&key, &self.issuer).unwrap();
        let chain = std::iter::once(made.der().clone()).chain(self.sent.iter().cloned()).collect();
        let der = PrivatePkcs8KeyDer::from(key.serialize_der());
        ClientCertificate { chain, key: der.into(), key_pem: key.serialize_pem() }
    }

    /// Its list of revoked serial numbers as PEM, which is valid until the given year.
    ///
    /// # Panics
    ///
    /// When the list cannot be made.
    #[must_use]
    pub fn revocation_list(&self, serials: &[u64], until: i32) -> String {
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 6, 17),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2023, 6, 17),
            next_update: date_time_ymd(until, 6, 17),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}
