//! Warnings about Authorizers.

use sluice_crds::Authorizer;
use sluice_crds::warning::{INTROSPECTION_WITHOUT_TLS, KEY_SET_WITHOUT_TLS};

use crate::translate::warnings::shared::plain_and_external;
use crate::warning::Warnings;

/// Warnings about an Authorizer.
pub(crate) fn of_authorizer(authorizer: &Authorizer, warnings: &mut Warnings) {
    if let Some(url) = authorizer.spec.introspection.as_ref().map(|spec| &spec.url)
        && plain_and_external(url)
    {
        let why = format!(
            "tokens and the client secret are sent to {url} without TLS: who can read them can use them, and who can change the \
             response can make every token active. Use an https URL"
        );
        warnings.add(INTROSPECTION_WITHOUT_TLS, "spec.introspection.url", why);
    }
    let issuers = authorizer.spec.jwt.iter().flat_map(|jwt| &jwt.issuers).enumerate();
    for (at, issuer) in issuers.filter(|(_, issuer)| issuer.jwks.is_none()) {
        let (url, field) = match &issuer.jwks_uri {
            Some(url) => (url, "jwksUri"),
            None => (&issuer.issuer, "issuer"),
        };
        if plain_and_external(url) {
            let why = format!(
                "the keys that verify tokens are fetched from {url} without TLS: who can change the response can issue tokens. \
                 Use an https URL, or a key set in jwks"
            );
            warnings.add(KEY_SET_WITHOUT_TLS, &format!("spec.jwt.issuers[{at}].{field}"), why);
        }
    }
}
