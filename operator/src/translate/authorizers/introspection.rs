//! Translates the introspection of tokens. The client secret is in the part, which proxies treat as they treat private keys.

use k8s_openapi::api::core::v1::Secret;
use sluice_crds::authorizer::{self, IntrospectionAuthorizer};
use sluice_crds::condition::reason;
use sluice_crds::reference::SecretKeyReference;
use sluice_wire::{ClientAuthentication, Introspection};

use super::token::token_sources;
use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;

const MAX_RESULT_TTL_MS: u64 = 3_600_000;
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=29_000;
const MAX_SECRET_BYTES: usize = 1024;

/// None: there is no client secret.
pub(super) fn introspection(
    view: &View<'_>,
    key: &ObjectKey,
    spec: &IntrospectionAuthorizer,
    problems: &mut Problems,
) -> Option<Introspection> {
    if let Err(why) = fields::http_url(&spec.url) {
        problems.invalid("spec.introspection.url", why);
    }
    let token_from = token_sources("spec.introspection.tokenFrom", &spec.token_from, problems);
    if spec.audiences.is_empty() != spec.any_audience {
        let why = "either audiences with at least one entry, or anyAudience: true, is required";
        problems.invalid("spec.introspection", why);
    }
    let milliseconds = |time: sluice_crds::field::Duration| u64::try_from(time.get().as_millis()).unwrap_or(u64::MAX);
    let (result_ttl_ms, timeout_ms) = (milliseconds(spec.result_ttl), milliseconds(spec.timeout));
    if result_ttl_ms > MAX_RESULT_TTL_MS {
        problems.invalid("spec.introspection.resultTtl", "must be at most 1h");
    }
    if !TIMEOUT_MS.contains(&timeout_ms) {
        problems.invalid("spec.introspection.timeout", "must be from 100ms to 29s");
    }
    let client_secret = match secret(view, key, &spec.client.secret) {
        Ok(text) => text.to_owned(),
        Err(unresolved) => {
            unresolved.report("spec.introspection.client.secret", problems);
            return None;
        }
    };
    Some(Introspection {
        url: spec.url.clone(),
        client_id: spec.client.id.clone(),
        client_secret,
        client_authentication: match spec.client.authentication {
            authorizer::ClientAuthentication::Basic => ClientAuthentication::Basic,
            authorizer::ClientAuthentication::Post => ClientAuthentication::Post,
        },
        token_from,
        issuer: spec.issuer.clone(),
        audiences: spec.audiences.clone(),
        any_audience: spec.any_audience,
        required_claims: spec.required_claims.clone(),
        result_ttl_ms,
        timeout_ms,
    })
}

/// A client secret has the characters of RFC 6749, appendix A.2. A line end after it is not part of it.
fn secret<'a>(view: &View<'a>, key: &ObjectKey, named: &SecretKeyReference) -> Result<&'a str, Unresolved> {
    let holder = key.target(&named.object);
    let secret = resolve::<Secret>(view, Referrer::new(Kind::Authorizer, key), &holder)?;
    let invalid = |why| Unresolved { reason: reason::SECRET_INVALID, why };
    let bytes = secret.data.as_ref().and_then(|data| data.get(&named.key)).ok_or_else(|| {
        invalid(format!("Secret {holder} has no data key {:?}; add it or correct the name", named.key))
    })?;
    let text = std::str::from_utf8(&bytes.0).ok().map(|text| text.trim_end_matches(['\r', '\n']));
    let good = |text: &&str| {
        (1..=MAX_SECRET_BYTES).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
    };
    text.filter(good).ok_or_else(|| {
        invalid(format!(
            "the key {:?} of Secret {holder} is not a client secret: it must have 1 to {MAX_SECRET_BYTES} printable ASCII \
             characters",
            named.key
        ))
    })
}
