//! Warnings about Principals.

use sluice_crds::warning::PRINCIPAL_WITHOUT_AUTHORIZER;

use crate::objects::ObjectKey;
use crate::translate::iam_authorizers::iam_authorizers;
use crate::translate::view::View;
use crate::warning::Warnings;

/// Warnings about a Principal.
pub(crate) fn of_principal(view: &View<'_>, key: &ObjectKey, warnings: &mut Warnings) {
    if iam_authorizers(view, &key.namespace).parts.is_empty() {
        let why = format!(
            "the namespace {} has no valid Authorizer of type Iam, so no proxy accepts the Principal's signatures. Create one, or \
             move the Principal to the namespace of the Authorizer",
            key.namespace
        );
        warnings.add(PRINCIPAL_WITHOUT_AUTHORIZER, "metadata.namespace", why);
    }
}
