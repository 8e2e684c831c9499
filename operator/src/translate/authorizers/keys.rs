//! The keys of an issuer: fetched by proxies, or a set in the cluster.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sluice_crds::authorizer::{JwksSource, JwksSourceType, JwtIssuer};
use sluice_crds::condition::reason;
use sluice_crds::reference::KeyReference;
use sluice_wire::{KeySetError, KeySource, PublicKey};

use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;

/// Keys of an unusable set that its condition explains.
const MAX_REASONS: usize = 4;

/// Where the keys of an issuer are.
pub(super) fn keys(
    view: &View<'_>,
    key: &ObjectKey,
    field: &str,
    issuer: &JwtIssuer,
    problems: &mut Problems,
) -> KeySource {
    match (&issuer.jwks_uri, &issuer.jwks) {
        (Some(_), Some(_)) => {
            problems.invalid(field, "set either jwksUri or jwks, not both");
            KeySource::Discovery
        }
        (Some(uri), None) => {
            if let Err(why) = fields::http_url(uri) {
                problems.invalid(&format!("{field}.jwksUri"), why);
            }
            KeySource::Uri(uri.clone())
        }
        (None, Some(source)) => KeySource::Inline(inline(view, key, &format!("{field}.jwks"), source, problems)),
        (None, None) => {
            if fields::http_url(issuer.issuer.trim_end_matches('/')).is_err() {
                let why = "an issuer that is not an http or https URL has no discovery document: add jwksUri or jwks";
                problems.invalid(&format!("{field}.issuer"), why);
            }
            KeySource::Discovery
        }
    }
}

/// The public keys of a key set in the cluster; empty, with a problem, when there are none.
fn inline(view: &View<'_>, key: &ObjectKey, field: &str, source: &JwksSource, problems: &mut Problems) -> String {
    let (member, named, read): (_, _, Read<'_>) = match source.type_ {
        JwksSourceType::ConfigMap => ("configMap", &source.config_map, in_config_map),
        JwksSourceType::Secret => ("secret", &source.secret, in_secret),
    };
    let Some(named) = named else {
        problems.invalid(field, format_args!("type {:?} requires the field {member}", source.type_));
        return String::new();
    };
    match read(view, key, named) {
        Ok(text) => text,
        Err(unresolved) => {
            unresolved.report(&format!("{field}.{member}"), problems);
            String::new()
        }
    }
}

type Read<'a> = fn(&View<'a>, &ObjectKey, &KeyReference) -> Result<String, Unresolved>;

fn in_secret(view: &View<'_>, key: &ObjectKey, named: &KeyReference) -> Result<String, Unresolved> {
    let holder = key.target(&named.object);
    let secret = resolve::<Secret>(view, Referrer::new(Kind::Authorizer, key), &holder)?;
    let bytes = secret.data.as_ref().and_then(|data| data.get(&named.key)).map(|ByteString(bytes)| bytes.as_slice());
    public_keys(bytes, &holder, Kind::Secret, &named.key, reason::SECRET_INVALID)
}

fn in_config_map(view: &View<'_>, key: &ObjectKey, named: &KeyReference) -> Result<String, Unresolved> {
    let holder = key.target(&named.object);
    let map = resolve::<ConfigMap>(view, Referrer::new(Kind::Authorizer, key), &holder)?;
    let text = map.data.as_ref().and_then(|data| data.get(&named.key)).map(String::as_bytes);
    let binary = || map.binary_data.as_ref().and_then(|data| data.get(&named.key)).map(|bytes| bytes.0.as_slice());
    public_keys(text.or_else(binary), &holder, Kind::ConfigMap, &named.key, reason::CONFIG_MAP_INVALID)
}

fn public_keys(
    bytes: Option<&[u8]>,
    holder: &ObjectKey,
    kind: Kind,
    name: &str,
    reason: &'static str,
) -> Result<String, Unresolved> {
    let Some(bytes) = bytes else {
        return Err(Unresolved {
            reason,
            why: format!("{kind} {holder} has no data key {name:?}; add it or correct the name"),
        });
    };
    let unusable = |why: String| Unresolved { reason, why: format!("the key {name:?} of {kind} {holder} {why}") };
    let set = PublicKey::read_set(bytes).map_err(|why| unusable(why.to_string()))?;
    if set.keys.is_empty() {
        let reasons: Vec<String> = set.skipped.iter().take(MAX_REASONS).map(ToString::to_string).collect();
        return Err(unusable(format!("{}: {}", KeySetError::NoUsableKey, reasons.join("; "))));
    }
    let keys: Vec<PublicKey> = set.keys.into_iter().map(|(_, key)| key).collect();
    Ok(PublicKey::write_set(&keys))
}
