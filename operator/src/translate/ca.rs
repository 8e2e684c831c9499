//! Certificates of authorities in ConfigMaps and Secrets, which proxies verify backends and clients with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sluice_crds::condition::reason;

use crate::objects::Kind;
use crate::translate::node::CaId;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;

/// More bytes of certificates are rejected: each upstream part has a copy.
pub(crate) const MAX_BYTES: usize = 512 << 10;

/// Whether rules of `from` may use the certificates, and can.
pub(crate) fn permitted(view: &View<'_>, from: Referrer<'_>, ca: &CaId) -> Result<(), Unresolved> {
    found(view, from, ca)?;
    certificates(view, ca).map(drop)
}

/// Whether objects of `from` may use the ConfigMap or Secret, and it exists.
pub(crate) fn found(view: &View<'_>, from: Referrer<'_>, ca: &CaId) -> Result<(), Unresolved> {
    match ca.kind {
        Kind::Secret => resolve::<Secret>(view, from, &ca.object).map(drop),
        _ => resolve::<ConfigMap>(view, from, &ca.object).map(drop),
    }
}

/// The certificates as base64 of their DER. Nothing else of the object leaves the operator.
pub(crate) fn certificates(view: &View<'_>, ca: &CaId) -> Result<Vec<String>, Unresolved> {
    parse(&bytes(view, ca)?).map_err(|why| invalid(ca, why))
}

/// What the key holds.
pub(crate) fn bytes(view: &View<'_>, ca: &CaId) -> Result<Vec<u8>, Unresolved> {
    let CaId { kind, object, key } = ca;
    let bytes = match kind {
        Kind::Secret => view.get::<Secret>(object).and_then(|secret| Some(secret.data.as_ref()?.get(key)?.0.clone())),
        _ => view.get::<ConfigMap>(object).and_then(|map| {
            let text = map.data.as_ref().and_then(|data| data.get(key)).map(|text| text.clone().into_bytes());
            text.or_else(|| Some(map.binary_data.as_ref()?.get(key)?.0.clone()))
        }),
    };
    let why = || format!("{kind} {object} has no data key {key:?}; add it or correct the name");
    bytes.ok_or_else(|| Unresolved { reason: invalid_reason(*kind), why: why() })
}

/// The key holds something else.
pub(crate) fn invalid(ca: &CaId, why: &str) -> Unresolved {
    let CaId { kind, object, key } = ca;
    Unresolved { reason: invalid_reason(*kind), why: format!("the key {key:?} of {kind} {object} {why}") }
}

fn invalid_reason(kind: Kind) -> &'static str {
    if kind == Kind::Secret { reason::SECRET_INVALID } else { reason::CONFIG_MAP_INVALID }
}

fn parse(bytes: &[u8]) -> Result<Vec<String>, &'static str> {
    if bytes.len() > MAX_BYTES {
        return Err("has more than 512 KiB");
    }
    let (mut roots, mut all) = (RootCertStore::empty(), Vec::new());
    for certificate in CertificateDer::pem_slice_iter(bytes) {
        let certificate = certificate.map_err(|_| "is not PEM text")?;
        all.push(STANDARD.encode(&certificate));
        roots.add(certificate).map_err(|_| "has a certificate that cannot be parsed")?;
    }
    if all.is_empty() { Err("has no certificate in PEM") } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_are_read() {
        let made = rcgen::generate_simple_self_signed(["ca.example".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        for (text, expected) in [
            (certificate.clone(), Ok(1)),
            (format!("# two\n{certificate}\n{certificate}"), Ok(2)),
            // A private key beside it stays where it is.
            (format!("{key}{certificate}"), Ok(1)),
            (key, Err("has no certificate in PEM")),
            (String::new(), Err("has no certificate in PEM")),
            ("hello".to_owned(), Err("has no certificate in PEM")),
            (certificate.replace("MII", "AAA"), Err("has a certificate that cannot be parsed")),
            (" ".repeat(MAX_BYTES + 1), Err("has more than 512 KiB")),
        ] {
            assert_eq!(parse(text.as_bytes()).map(|all| all.len()), expected, "{text}");
        }
    }
}
