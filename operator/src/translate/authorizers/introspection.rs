//! Translates the introspection of tokens. The client secret is in the part, which proxies treat as they treat private keys.

use sluice_crds::authorizer::{self, IntrospectionAuthorizer};
use sluice_crds::reference::SecretKeyReference;
use sluice_wire::{ClientAuthentication, Introspection};

use super::token::token_sources;
use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::references::Referrer;
use crate::translate::secret_values::{Form, SecretValues};
use crate::translate::view::View;

const MAX_RESULT_TTL_MS: u64 = 3_600_000;
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=29_000;
/// RFC 6749, appendix A.2.
const CLIENT_SECRET: Form =
    Form { length: 1..=1024, characters: "printable ASCII characters", is_valid: |byte| matches!(byte, b' '..=b'~') };

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
    let SecretKeyReference { object, key: data_key } = &spec.client.secret;
    let values = SecretValues::of(view, Referrer::new(Kind::Authorizer, key), key.target(object));
    let client_secret = match values.and_then(|values| values.required(data_key, &CLIENT_SECRET)) {
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
