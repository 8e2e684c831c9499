//! Certificates of clients: the authorities and revocation lists of a Stage. Proxies verify certificates with them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use sluice_crds::reference::{CaReference, CaSourceType};
use sluice_crds::stage::{self as api, ClientAuthMode, ClientCertForwarding, RevocationReference};
use sluice_wire::ClientAuth;

use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::ca;
use crate::translate::node::CaId;
use crate::translate::references::{Referrer, Unresolved};
use crate::translate::view::View;

const FIELD: &str = "spec.tls.clientAuth";
/// All certificates and lists of a Stage, as DER: proxies get a copy with each change of the Stage.
const MAX_BYTES: usize = 1 << 20;

/// None: something is wrong with it, and a Stage must not be served without it.
pub(crate) fn translate(
    view: &View<'_>,
    key: &ObjectKey,
    settings: &api::ClientAuth,
    problems: &mut Problems,
) -> Option<ClientAuth> {
    let from = Referrer::new(Kind::Stage, key);
    let mut complete = true;
    let mut report = |at: &str, unresolved: Unresolved, problems: &mut Problems| {
        unresolved.report(at, problems);
        complete = false;
    };
    let (mut roots, mut revocation): (Vec<String>, Vec<String>) = (Vec::new(), Vec::new());
    for (at, source) in settings.ca.iter().enumerate() {
        let (map, secret) = (source.config_map.as_ref(), source.secret.as_ref());
        let (id, field) = named(key, source.type_, map, secret, &format!("{FIELD}.ca[{at}]"), problems)?;
        match ca::permitted(view, from, &id).and_then(|()| ca::certificates(view, &id)) {
            Ok(found) => {
                for root in found {
                    if !roots.contains(&root) {
                        roots.push(root);
                    }
                }
            }
            Err(unresolved) => report(&field, unresolved, problems),
        }
    }
    if settings.ca.is_empty() {
        problems.invalid(&format!("{FIELD}.ca"), "at least one certificate authority is required");
        return None;
    }
    for (at, source) in settings.revocation.iter().enumerate() {
        let (map, secret) = (source.config_map.as_ref(), source.secret.as_ref());
        let (id, field) = named(key, source.type_, map, secret, &format!("{FIELD}.revocation[{at}]"), problems)?;
        match ca::found(view, from, &id).and_then(|()| lists(view, &id, &roots)) {
            Ok(found) => revocation.extend(found),
            Err(unresolved) => report(&field, unresolved, problems),
        }
    }
    // Base64 has four characters for three bytes.
    let bytes = roots.iter().chain(&revocation).map(String::len).sum::<usize>() / 4 * 3;
    if bytes > MAX_BYTES {
        problems.invalid(
            FIELD,
            format_args!("ca and revocation have {bytes} bytes together; at most {MAX_BYTES} are allowed"),
        );
        return None;
    }
    complete.then_some(ClientAuth {
        required: settings.mode == ClientAuthMode::Require,
        roots,
        revocation,
        forward: settings.forward == ClientCertForwarding::ClientCert,
    })
}

/// The revocation lists of a Stage that can be read, with their fields and objects.
pub(crate) fn readable_lists(
    view: &View<'_>,
    key: &ObjectKey,
    settings: &api::ClientAuth,
) -> Vec<(String, CaId, Vec<CertificateRevocationListDer<'static>>)> {
    let from = Referrer::new(Kind::Stage, key);
    let mut readable = Vec::new();
    for (at, source) in settings.revocation.iter().enumerate() {
        let (map, secret) = (source.config_map.as_ref(), source.secret.as_ref());
        let field = format!("{FIELD}.revocation[{at}]");
        let Some((id, field)) = named(key, source.type_, map, secret, &field, &mut Problems::default()) else {
            continue;
        };
        let bytes = ca::found(view, from, &id).and_then(|()| ca::bytes(view, &id)).unwrap_or_default();
        let all = CertificateRevocationListDer::pem_slice_iter(&bytes).filter_map(Result::ok).collect();
        readable.push((field, id, all));
    }
    readable
}

/// A reference to one key of an object.
trait Named {
    fn key(&self, from: &ObjectKey) -> (ObjectKey, String);
}

impl Named for CaReference {
    fn key(&self, from: &ObjectKey) -> (ObjectKey, String) {
        (from.target(&self.object), self.key.clone())
    }
}

impl Named for RevocationReference {
    fn key(&self, from: &ObjectKey) -> (ObjectKey, String) {
        (from.target(&self.object), self.key.clone())
    }
}

/// What a source names, and the path of its field.
fn named<N: Named>(
    from: &ObjectKey,
    type_: CaSourceType,
    config_map: Option<&N>,
    secret: Option<&N>,
    field: &str,
    problems: &mut Problems,
) -> Option<(CaId, String)> {
    let (kind, member, named) = match type_ {
        CaSourceType::ConfigMap => (Kind::ConfigMap, "configMap", config_map),
        CaSourceType::Secret => (Kind::Secret, "secret", secret),
    };
    let Some(named) = named else {
        problems.invalid(field, format_args!("type {kind} requires the field {member}"));
        return None;
    };
    let (object, key) = named.key(from);
    Some((CaId { kind, object, key }, format!("{field}.{member}")))
}

/// The lists as base64 of their DER.
fn lists(view: &View<'_>, id: &CaId, roots: &[String]) -> Result<Vec<String>, Unresolved> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().filter_map(|root| STANDARD.decode(root).ok()).map(Into::into));
    parse(&ca::bytes(view, id)?, Arc::new(store)).map_err(|why| ca::invalid(id, why))
}

/// `roots`: of the Stage. Without any, lists are not parsed completely.
fn parse(bytes: &[u8], roots: Arc<RootCertStore>) -> Result<Vec<String>, &'static str> {
    if bytes.len() > ca::MAX_BYTES {
        return Err("has more than 512 KiB");
    }
    let all = CertificateRevocationListDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
    let all = all.map_err(|_| "is not PEM text")?;
    if all.is_empty() {
        return Err("has no revocation list in PEM (X509 CRL)");
    }
    let encoded = all.iter().map(|list| STANDARD.encode(list)).collect();
    // As proxies parse them.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
    match builder.with_crls(all).build() {
        Err(VerifierBuilderError::InvalidCrl(_)) => Err("has a revocation list that cannot be parsed"),
        _ => Ok(encoded),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_kit::authority::Authority;

    use super::*;
    use crate::cluster_state::ClusterState;
    use crate::objects::Object;
    use crate::translate::translate;

    #[test]
    fn only_revocation_lists_are_read() {
        let authority = Authority::new("Partners");
        let list = authority.revocation_list(&[1], 2090);
        let broken = "-----BEGIN X509 CRL-----\nMAMCAQE=\n-----END X509 CRL-----\n";
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.clone()).unwrap();
        let roots = Arc::new(roots);
        for (text, expected) in [
            (list.clone(), Ok(1)),
            (format!("# two\n{list}{}{list}", authority.pem), Ok(2)),
            (authority.pem.clone(), Err("has no revocation list in PEM (X509 CRL)")),
            (String::new(), Err("has no revocation list in PEM (X509 CRL)")),
            (broken.to_owned(), Err("has a revocation list that cannot be parsed")),
            (format!("{list}{broken}"), Err("has a revocation list that cannot be parsed")),
            (list.replace("-----END", "-----"), Err("is not PEM text")),
            (" ".repeat(ca::MAX_BYTES + 1), Err("has more than 512 KiB")),
        ] {
            assert_eq!(parse(text.as_bytes(), roots.clone()).map(|all| all.len()), expected, "{text}");
        }
    }

    #[test]
    fn all_certificates_of_a_stage_have_a_limit() {
        // About 60 KiB each: the name is that of the issuer as well.
        let made: Vec<Authority> =
            (0..18).map(|number| Authority::new(&format!("{number}{}", "x".repeat(30_000)))).collect();
        for (maps, fits) in [(2, true), (3, false)] {
            let sources: Vec<_> =
                (0..maps).map(|at| json!({"type": "ConfigMap", "configMap": {"name": format!("ca-{at}")}})).collect();
            let metadata = |name: &str| json!({"name": name, "namespace": "shop"});
            let tls = json!({"certificates": [{"name": "tls"}], "clientAuth": {"ca": sources}});
            let stage = json!({"metadata": metadata("prod"), "spec": {"tls": tls}});
            let mut objects = vec![Object::parse(Kind::Stage, stage).unwrap()];
            for (at, authorities) in made.chunks(6).enumerate() {
                let text: String = authorities.iter().map(|authority| authority.pem.as_str()).collect();
                let map = json!({"metadata": metadata(&format!("ca-{at}")), "data": {"ca.crt": text}});
                objects.push(Object::parse(Kind::ConfigMap, map).unwrap());
            }
            let translation = translate(&ClusterState::from_objects(objects));
            let status = &translation.statuses[&Kind::Stage.object(&ObjectKey::new("shop", "prod"))];
            let found = status.conditions.iter().any(|condition| condition.message.contains("bytes together"));
            assert_eq!(found, !fits, "{:?}", status.conditions);
        }
    }
}
