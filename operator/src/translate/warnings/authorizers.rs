//! Warnings about Authorizers.

use sluice_crds::authorizer::{AuthorizerType, UnsignedPayload};
use sluice_crds::warning::{
    AUTHORIZER_WITHOUT_PRINCIPAL, INTROSPECTION_WITHOUT_TLS, KEY_SET_WITHOUT_TLS, LAMBDA_WITHOUT_TLS, UNSIGNED_PAYLOAD,
};
use sluice_crds::{Authorizer, Principal};

use crate::objects::{ObjectKey, principals_of};
use crate::translate::view::View;
use crate::translate::warnings::shared::plain_and_external;
use crate::warning::Warnings;

/// Warnings about an Authorizer.
pub(crate) fn of_authorizer(view: &View<'_>, key: &ObjectKey, authorizer: &Authorizer, warnings: &mut Warnings) {
    if authorizer.spec.type_ == AuthorizerType::Iam
        && view.group::<Principal>(&principals_of(&key.namespace)).next().is_none()
    {
        let why = format!(
            "the namespace {} has no Principal, so the Authorizer accepts no signature. Create a Principal in it, or move the Authorizer to \
             the namespace of the Principals",
            key.namespace
        );
        warnings.add(AUTHORIZER_WITHOUT_PRINCIPAL, "metadata.namespace", why);
    }
    if let Some(url) = authorizer.spec.introspection.as_ref().map(|spec| &spec.url)
        && plain_and_external(url)
    {
        let why = format!(
            "tokens and the client secret are sent to {url} without TLS: who can read them can use them, and who can change the \
             response can make every token active. Use an https URL"
        );
        warnings.add(INTROSPECTION_WITHOUT_TLS, "spec.introspection.url", why);
    }
    if authorizer.spec.iam.as_ref().is_some_and(|iam| iam.unsigned_payload == UnsignedPayload::Allow) {
        let why = "bodies of requests with UNSIGNED-PAYLOAD are not covered by the signature: who can change a request on its way \
                   can change its body. Set Reject unless a client cannot sign bodies";
        warnings.add(UNSIGNED_PAYLOAD, "spec.iam.unsignedPayload", why);
    }
    if let Some(function) = authorizer.spec.lambda.as_ref().map(|spec| &spec.function) {
        let endpoint = function.invoke.as_ref().and_then(|invoke| invoke.endpoint.as_ref());
        let urls = [(function.url.as_ref(), "url"), (endpoint, "invoke.endpoint")];
        for (url, field) in urls.into_iter().filter_map(|(url, field)| Some((url?, field))) {
            if plain_and_external(url) {
                let why = format!(
                    "the credentials of requests are sent to {url} without TLS: who can read them can use them, and who can \
                     change the response can permit every request. Use an https URL"
                );
                warnings.add(LAMBDA_WITHOUT_TLS, &format!("spec.lambda.function.{field}"), why);
            }
        }
    }
    for (at, pool) in authorizer.spec.cognito.iter().flat_map(|cognito| &cognito.user_pools).enumerate() {
        let field = if pool.jwks_uri.is_some() { "jwksUri" } else { "issuer" };
        of_key_set(&pool.jwks_uri(), &format!("spec.cognito.userPools[{at}].{field}"), "", warnings);
    }
    let issuers = authorizer.spec.jwt.iter().flat_map(|jwt| &jwt.issuers).enumerate();
    for (at, issuer) in issuers.filter(|(_, issuer)| issuer.jwks.is_none()) {
        let (url, field) = match &issuer.jwks_uri {
            Some(url) => (url, "jwksUri"),
            None => (&issuer.issuer, "issuer"),
        };
        of_key_set(url, &format!("spec.jwt.issuers[{at}].{field}"), ", or a key set in jwks", warnings);
    }
}

fn of_key_set(url: &str, field: &str, alternative: &str, warnings: &mut Warnings) {
    if plain_and_external(url) {
        let why = format!(
            "the keys that verify tokens are fetched from {url} without TLS: who can change the response can issue tokens. Use \
             an https URL{alternative}"
        );
        warnings.add(KEY_SET_WITHOUT_TLS, field, why);
    }
}
