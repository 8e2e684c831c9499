//! Warnings about Principals.

use sluice_crds::Principal;
use sluice_crds::warning::{PRINCIPAL_WITHOUT_AUTHORIZER, PRINCIPAL_WITHOUT_POLICY};

use crate::objects::ObjectKey;
use crate::translate::iam_authorizers::iam_authorizers;
use crate::translate::view::View;
use crate::warning::Warnings;

/// Warnings about a Principal.
pub(crate) fn of_principal(view: &View<'_>, key: &ObjectKey, principal: &Principal, warnings: &mut Warnings) {
    if iam_authorizers(view, &key.namespace).parts.is_empty() {
        let why = format!(
            "the namespace {} has no valid Authorizer of type Iam, so no proxy accepts the Principal's signatures. Create one, or \
             move the Principal to the namespace of the Authorizer",
            key.namespace
        );
        warnings.add(PRINCIPAL_WITHOUT_AUTHORIZER, "metadata.namespace", why);
    }
    if principal.spec.policies.is_empty() {
        let why = "the Principal has no policy, so its requests get 403 unless the policy of the Stage allows them. List a policy";
        warnings.add(PRINCIPAL_WITHOUT_POLICY, "spec.policies", why);
    }
}
