//! Warnings about certificates that clients will reject.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use sluice_crds::Stage;
use sluice_crds::warning::{
    CERTIFICATE_CHAIN, CERTIFICATE_EXPIRED, CERTIFICATE_EXPIRES_SOON, CERTIFICATE_NAME, CERTIFICATE_NOT_YET_VALID,
    CERTIFICATE_USAGE, CERTIFICATE_WEAK,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;

use crate::objects::{Kind, ObjectKey};
use crate::translate::references::{Referrer, resolve};
use crate::translate::view::View;
use crate::translate::warnings::shared::{of_client_throttle, of_throttle};
use crate::warning::Warnings;

/// A certificate expires soon in the last part of its lifetime, at most this many seconds before.
const SOON: i64 = 14 * 86_400;
/// One part of so many is the last part.
const LAST_PART: i64 = 3;
/// Shorter RSA keys are rejected by browsers and by Go.
const MIN_RSA_BITS: usize = 2048;
/// Signature algorithms with MD5 and SHA-1, and what people call them.
const BROKEN_SIGNATURES: [(&str, &str); 4] = [
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
];

/// The certificates of a chain in PEM; none if it cannot be parsed.
fn chain(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap_or_default()
}

/// When the first certificate of a chain expires, as Unix time.
pub(crate) fn expiry(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let parsed = chain.iter().filter_map(|der| X509Certificate::from_der(der).ok());
    parsed.map(|(_, certificate)| certificate.validity().not_after.timestamp()).min()
}

/// Warnings about a Stage.
pub(crate) fn of_stage(view: &View<'_>, key: &ObjectKey, stage: &Stage, warnings: &mut Warnings) {
    of_throttle("spec.throttle", stage.spec.throttle, warnings);
    of_client_throttle("spec.clientThrottle", stage.spec.client_throttle, warnings);
    let mut leaves: Vec<CertificateDer<'static>> = Vec::new();
    for (at, reference) in stage.spec.tls.iter().flat_map(|tls| &tls.certificates).enumerate() {
        let holder = key.target(reference);
        let Ok(secret) = resolve::<Secret>(view, Referrer::new(Kind::Stage, key), &holder) else { continue };
        let pem = secret.data.as_ref().and_then(|data| data.get("tls.crt"));
        let chain = pem.map(|pem| chain(&pem.0)).unwrap_or_default();
        of_chain(&format!("spec.tls.certificates[{at}]"), &holder, &chain, warnings);
        leaves.extend(chain.into_iter().next());
    }
    if leaves.is_empty() {
        return;
    }
    for (at, host) in stage.spec.hostnames.iter().enumerate() {
        // A wildcard is covered by a certificate that is valid for a name below it.
        let example = host.strip_prefix("*.").map_or_else(|| host.clone(), |parent| format!("any-name.{parent}"));
        let Ok(name) = ServerName::try_from(example) else { continue };
        let valid = |der: &CertificateDer<'_>| {
            ParsedCertificate::try_from(der).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
        };
        if !leaves.iter().any(valid) {
            let why = format!(
                "no certificate of the Stage is valid for {host}, so clients reject the connection. Add a certificate with \
                 this name in its subject alternative names, or remove the host name"
            );
            warnings.add(CERTIFICATE_NAME, &format!("spec.hostnames[{at}]"), why);
        }
    }
}

/// Warnings about one chain.
fn of_chain(field: &str, secret: &ObjectKey, chain: &[CertificateDer<'_>], warnings: &mut Warnings) {
    let parsed: Vec<X509Certificate<'_>> =
        chain.iter().filter_map(|der| X509Certificate::from_der(der).ok().map(|(_, parsed)| parsed)).collect();
    for (number, certificate) in parsed.iter().enumerate() {
        let what = match number {
            0 => format!("the certificate in Secret {secret}"),
            _ => format!("certificate {} of the chain in Secret {secret}", number + 1),
        };
        of_validity(field, &what, certificate, warnings);
        of_strength(field, &what, certificate, warnings);
    }
    if let Some(leaf) = parsed.first()
        && let Ok(Some(usage)) = leaf.extended_key_usage()
        && !(usage.value.server_auth || usage.value.any)
    {
        let why = format!(
            "the certificate in Secret {secret} is not for servers: its extended key usage does not contain serverAuth, so \
             clients reject it. Issue it with serverAuth"
        );
        warnings.add(CERTIFICATE_USAGE, field, why);
    }
    for (number, pair) in parsed.windows(2).enumerate() {
        if let [one, next] = pair
            && one.issuer().as_raw() != next.subject().as_raw()
        {
            let why = format!(
                "certificate {} of the chain in Secret {secret} did not issue the one before it: some clients reject such a \
                 chain. Put the server's certificate first, then each issuer after the certificate that it issued",
                number + 2
            );
            warnings.add(CERTIFICATE_CHAIN, field, why);
            break;
        }
    }
}

fn of_validity(field: &str, what: &str, certificate: &X509Certificate<'_>, warnings: &mut Warnings) {
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    let soon = soon(begin, end);
    let why = format!("{what} is not valid before {}, so clients reject it until then. Check its date", date(begin));
    warnings.add_between(CERTIFICATE_NOT_YET_VALID, field, why, None, Some(begin));
    let why = format!("{what} expires at {}; clients reject it after that. Renew it", date(end));
    warnings.add_between(CERTIFICATE_EXPIRES_SOON, field, why, Some(soon), Some(end));
    let why = format!("{what} expired at {}, so clients reject it. Renew it", date(end));
    warnings.add_between(CERTIFICATE_EXPIRED, field, why, Some(end), None);
}

fn of_strength(field: &str, what: &str, certificate: &X509Certificate<'_>, warnings: &mut Warnings) {
    if let Ok(PublicKey::RSA(key)) = certificate.public_key().parsed()
        && key.key_size() < MIN_RSA_BITS
    {
        let why = format!(
            "{what} has an RSA key of {} bits, which clients reject. Use at least {MIN_RSA_BITS} bits, or ECDSA",
            key.key_size()
        );
        warnings.add(CERTIFICATE_WEAK, field, why);
    }
    // The signature of a root is not verified: clients trust the root itself.
    let is_root = certificate.issuer().as_raw() == certificate.subject().as_raw();
    let algorithm = certificate.signature_algorithm.algorithm.to_id_string();
    if let Some((_, hash)) = BROKEN_SIGNATURES.iter().find(|(id, _)| *id == algorithm && !is_root) {
        let why = format!("{what} is signed with {hash}, which clients reject. Have it issued with SHA-256");
        warnings.add(CERTIFICATE_WEAK, field, why);
    }
}

/// When what is valid between these times expires soon.
pub(crate) fn soon(begin: i64, end: i64) -> i64 {
    end - ((end - begin) / LAST_PART).clamp(0, SOON)
}

/// `2026-12-01T00:00:00Z`.
pub(crate) fn date(unix: i64) -> String {
    Timestamp::from_second(unix).map_or_else(|_| unix.to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, Issuer, KeyPair, date_time_ymd};
    use serde_json::json;

    use super::*;
    use crate::cluster_state::ClusterState;
    use crate::objects::Object;
    use crate::translate::translate;

    /// 2026-06-01.
    const NOW: i64 = 1_780_272_000;

    fn params(names: &[&str]) -> CertificateParams {
        let names: Vec<String> = names.iter().copied().map(str::to_owned).collect();
        let mut params = CertificateParams::new(names).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(2026, 1, 1), date_time_ymd(2027, 1, 1));
        params
    }

    fn self_signed(params: &CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    /// The codes of the warnings about a Stage with these hosts and certificates that hold at a time.
    fn codes(hosts: &[&str], chains: &[(String, String)], now: i64) -> Vec<&'static str> {
        let secret = |at: usize| format!("tls-{at}");
        let references: Vec<_> = (0..chains.len()).map(|at| json!({"name": secret(at)})).collect();
        let stage = json!({
            "metadata": {"name": "prod", "namespace": "shop"},
            "spec": {"hostnames": hosts, "tls": {"certificates": references}},
        });
        let mut objects = vec![Object::parse(Kind::Stage, stage).unwrap()];
        for (at, (chain, key)) in chains.iter().enumerate() {
            let metadata = json!({"name": secret(at), "namespace": "shop"});
            let mut holder: Secret = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            let data = [("tls.crt", chain), ("tls.key", key)];
            let bytes = |text: &String| k8s_openapi::ByteString(text.clone().into_bytes());
            holder.data = Some(data.into_iter().map(|(name, text)| (name.to_owned(), bytes(text))).collect());
            objects.push(holder.into());
        }
        let translation = translate(&ClusterState::from_objects(objects));
        let status = &translation.statuses[&Kind::Stage.object(&ObjectKey::new("shop", "prod"))];
        assert!(status.problems.is_empty(), "{:?}", status.conditions);
        status.warnings.iter().filter(|warning| warning.holds(now)).map(|warning| warning.code.name).collect()
    }

    #[test]
    fn a_certificate_is_reported_before_during_and_after_its_last_part() {
        let (begin, end) = (1_767_225_600, 1_798_761_600);
        let certificate = [self_signed(&params(&["api.example"]))];
        for (now, expected) in [
            (begin - 1, &["CertificateNotYetValid"][..]),
            (begin, &[]),
            (NOW, &[]),
            (end - SOON - 1, &[]),
            (end - SOON, &["CertificateExpiresSoon"]),
            (end - 1, &["CertificateExpiresSoon"]),
            (end, &["CertificateExpired"]),
        ] {
            assert_eq!(codes(&["api.example"], &certificate, now), expected, "{now}");
        }
        // A certificate that lives for three days expires soon on the last.
        let mut short = params(&["api.example"]);
        (short.not_before, short.not_after) = (date_time_ymd(2026, 5, 30), date_time_ymd(2026, 6, 2));
        let short = [self_signed(&short)];
        assert_eq!(codes(&["api.example"], &short, NOW - 1), [""; 0]);
        assert_eq!(codes(&["api.example"], &short, NOW), ["CertificateExpiresSoon"]);
    }

    #[test]
    fn each_host_needs_a_certificate_with_its_name() {
        let wildcard = self_signed(&params(&["*.example.com"]));
        let exact = self_signed(&params(&["example.com", "v1.api.example.com"]));
        let without = self_signed(&params(&[]));
        for (hosts, chains, expected) in [
            (&["api.example.com"][..], vec![wildcard.clone()], 0),
            (&["*.example.com"], vec![wildcard.clone()], 0),
            (&["example.com"], vec![wildcard.clone()], 1),
            (&["v1.api.example.com", "*.api.example.com"], vec![wildcard.clone()], 2),
            (&["example.com", "api.example.com", "v1.api.example.com"], vec![wildcard, exact.clone()], 0),
            (&["other.example"], vec![exact.clone()], 1),
            (&["example.com"], vec![without.clone()], 1),
            (&["example.com"], vec![without, exact.clone()], 0),
            (&[], vec![exact], 0),
        ] {
            assert_eq!(codes(hosts, &chains, NOW), vec!["CertificateName"; expected], "{hosts:?}");
        }
    }

    #[test]
    fn a_chain_is_checked_in_its_order_and_in_each_certificate() {
        let (root_key, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut root = params(&[]);
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::CommonName, "root");
        let root_pem = root.self_signed(&root_key).unwrap().pem();
        let mut leaf = params(&["api.example"]);
        leaf.distinguished_name.push(rcgen::DnType::CommonName, "leaf");
        let issuer = Issuer::new(root.clone(), &root_key);
        let leaf_pem = leaf.signed_by(&leaf_key, &issuer).unwrap().pem();
        let key = leaf_key.serialize_pem();
        let chain = |parts: &[&str]| [(parts.concat(), key.clone())];
        assert_eq!(codes(&["api.example"], &chain(&[&leaf_pem, &root_pem]), NOW), [""; 0]);
        let stranger = self_signed(&params(&["other.example"])).0;
        assert_eq!(codes(&["api.example"], &chain(&[&leaf_pem, &stranger]), NOW), ["CertificateChain"]);
        root.not_after = date_time_ymd(2026, 5, 1);
        let expired = root.self_signed(&root_key).unwrap().pem();
        assert_eq!(codes(&["api.example"], &chain(&[&leaf_pem, &expired]), NOW), ["CertificateExpired"]);
        assert_eq!(expiry(&super::chain(format!("{leaf_pem}{expired}").as_bytes())), Some(1_777_593_600));
    }

    #[test]
    fn a_certificate_for_clients_and_a_short_key_are_reported() {
        let mut client = params(&["api.example"]);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        assert_eq!(codes(&["api.example"], &[self_signed(&client)], NOW), ["CertificateUsage"]);
        client.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        assert_eq!(codes(&["api.example"], &[self_signed(&client)], NOW), [""; 0]);
        let weak = |warnings: &mut Warnings, file: &str| {
            let chain = super::chain(file.as_bytes());
            of_chain("spec.tls.certificates[0]", &ObjectKey::new("shop", "tls"), &chain, warnings);
        };
        // Made with `openssl req -x509 -newkey rsa:1024 -sha1`: no library here makes such certificates.
        let mut warnings = Warnings::default();
        weak(&mut warnings, include_str!("rsa-1024-sha1.pem"));
        let found: Vec<String> = warnings.into_vec().into_iter().map(|warning| warning.message).collect();
        assert!(found.iter().any(|message| message.contains("an RSA key of 1024 bits")), "{found:?}");
        assert!(found.iter().any(|message| message.contains("is signed with SHA-1")), "{found:?}");
    }
}
