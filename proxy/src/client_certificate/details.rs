//! What a client's certificate states. It is read once for each connection, after the certificate has been verified.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest;
use sluice_wire::CertificateField;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

use super::name;

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// The fields of a certificate as variables have them.
pub(crate) struct Details {
    subject: Box<str>,
    issuer: Box<str>,
    serial: Box<str>,
    fingerprint: Box<str>,
    dns: Option<Box<str>>,
    uri: Option<Box<str>>,
    not_before: Box<str>,
    not_after: Box<str>,
    expires: SystemTime,
}

impl Details {
    /// None: it cannot be read.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let names = match certificate.subject_alternative_name().ok()? {
            Some(extension) => extension.value.general_names.as_slice(),
            None => &[],
        };
        let validity = certificate.validity();
        let expires = u64::try_from(validity.not_after.timestamp()).unwrap_or_default();
        Some(Self {
            subject: name::text(certificate.subject()).into(),
            issuer: name::text(certificate.issuer()).into(),
            serial: serial(certificate.raw_serial()).into(),
            fingerprint: hex(digest::digest(&digest::SHA256, der).as_ref(), "").into(),
            dns: names.iter().find_map(|name| match name {
                GeneralName::DNSName(name) => printable(name),
                _ => None,
            }),
            uri: names.iter().find_map(|name| match name {
                GeneralName::URI(name) => printable(name),
                _ => None,
            }),
            not_before: time(&validity.not_before)?.into(),
            not_after: time(&validity.not_after)?.into(),
            expires: UNIX_EPOCH.checked_add(Duration::from_secs(expires))?,
        })
    }

    /// SHA-256 of the certificate, in hexadecimal digits.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// When it expires.
    pub(crate) fn expires(&self) -> SystemTime {
        self.expires
    }

    /// None: the certificate does not have the field.
    pub(crate) fn field(&self, field: CertificateField) -> Option<&str> {
        Some(match field {
            CertificateField::Subject => &self.subject,
            CertificateField::Issuer => &self.issuer,
            CertificateField::Serial => &self.serial,
            CertificateField::Fingerprint => &self.fingerprint,
            CertificateField::Dns => self.dns.as_deref()?,
            CertificateField::Uri => self.uri.as_deref()?,
            CertificateField::NotBefore => &self.not_before,
            CertificateField::NotAfter => &self.not_after,
        })
    }
}

/// A name without characters that it cannot have, such as spaces and NUL: recipients could read another one.
fn printable(name: &str) -> Option<Box<str>> {
    let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
    valid.then(|| name.into())
}

/// As AWS writes it: `0a:1b`. A byte in front that only makes the number positive is left out.
fn serial(bytes: &[u8]) -> String {
    match bytes {
        [0, rest @ ..] if !rest.is_empty() => hex(rest, ":"),
        all => hex(all, ":"),
    }
}

fn hex(bytes: &[u8], between: &str) -> String {
    let mut out = String::with_capacity(bytes.len() * (2 + between.len()));
    for (at, byte) in bytes.iter().enumerate() {
        if at > 0 {
            out.push_str(between);
        }
        // Writing into a String cannot fail.
        write!(out, "{byte:02x}").unwrap_or_default();
    }
    out
}

/// As AWS and OpenSSL write it: `Aug  5 09:36:04 2021 GMT`.
fn time(time: &ASN1Time) -> Option<String> {
    let time = time.to_datetime();
    let month = MONTHS.get(usize::from(u8::from(time.month())) - 1)?;
    let (hour, minute, second) = time.to_hms();
    Some(format!("{month} {:>2} {hour:02}:{minute:02}:{second:02} {:04} GMT", time.day(), time.year()))
}

#[cfg(test)]
mod tests {
    use rcgen::string::Ia5String;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber, date_time_ymd};

    use super::*;

    fn made(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "orders");
        params.not_before = date_time_ymd(2019, 5, 8);
        params.not_after = date_time_ymd(2051, 12, 31);
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_fields_of_a_certificate_are_read() {
        let der = made(|params| {
            params.serial_number = Some(SerialNumber::from(vec![0x8a, 0x01]));
            params.subject_alt_names = vec![
                SanType::DnsName(Ia5String::try_from("a.example").unwrap()),
                SanType::URI(Ia5String::try_from("spiffe://shop/orders").unwrap()),
                SanType::DnsName(Ia5String::try_from("b.example").unwrap()),
            ];
        });
        let details = Details::read(&der).unwrap();
        let fingerprint = hex(digest::digest(&digest::SHA256, &der).as_ref(), "");
        for (field, expected) in [
            (CertificateField::Subject, "CN=orders"),
            (CertificateField::Issuer, "CN=orders"),
            (CertificateField::Serial, "8a:01"),
            (CertificateField::Fingerprint, fingerprint.as_str()),
            (CertificateField::Dns, "a.example"),
            (CertificateField::Uri, "spiffe://shop/orders"),
            (CertificateField::NotBefore, "May  8 00:00:00 2019 GMT"),
            (CertificateField::NotAfter, "Dec 31 00:00:00 2051 GMT"),
        ] {
            assert_eq!(details.field(field), Some(expected), "{field:?}");
        }
        assert_eq!(details.expires().duration_since(UNIX_EPOCH).unwrap().as_secs(), 2_587_593_600);
    }

    #[test]
    fn names_with_characters_that_a_name_cannot_have_are_left_out() {
        let uris = ["spiffe://a b", "spiffe://a\0b", "", "spiffe://a"];
        let der = made(|params| {
            let uri = |text: &&str| SanType::URI(Ia5String::try_from(*text).unwrap());
            params.subject_alt_names = uris.iter().map(uri).collect();
        });
        assert_eq!(Details::read(&der).unwrap().field(CertificateField::Uri), Some("spiffe://a"));
        assert_eq!(Details::read(&der).unwrap().field(CertificateField::Dns), None);
    }

    #[test]
    fn what_is_no_certificate_is_not_read() {
        let der = made(|_| {});
        assert!(Details::read(b"").is_none() && Details::read(&der[..der.len() - 1]).is_none());
        assert!(Details::read(&[&der[..], &[0]].concat()).is_none());
    }
}
