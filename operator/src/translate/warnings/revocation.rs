//! Warnings about revocation lists that have expired: all clients are rejected then.

use sluice_crds::Stage;
use sluice_crds::warning::{REVOCATION_LIST_EXPIRED, REVOCATION_LIST_EXPIRES_SOON};
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;

use crate::objects::ObjectKey;
use crate::translate::client_auth::readable_lists;
use crate::translate::view::View;
use crate::translate::warnings::certificates::{date, soon};
use crate::warning::Warnings;

/// Warnings about the lists of a Stage.
pub(crate) fn of_stage(view: &View<'_>, key: &ObjectKey, stage: &Stage, warnings: &mut Warnings) {
    let Some(settings) = stage.spec.tls.as_ref().and_then(|tls| tls.client_auth.as_ref()) else { return };
    for (field, id, lists) in readable_lists(view, key, settings) {
        for list in &lists {
            let Ok((_, parsed)) = CertificateRevocationList::from_der(list) else { continue };
            let Some(end) = parsed.next_update().map(|time| time.timestamp()) else { continue };
            let what = format!("a revocation list in {} {}", id.kind, id.object);
            let soon = soon(parsed.last_update().timestamp(), end);
            let why =
                format!("{what} expires at {}; clients of its authority are rejected after that. Renew it", date(end));
            warnings.add_between(REVOCATION_LIST_EXPIRES_SOON, &field, why, Some(soon), Some(end));
            let why = format!("{what} expired at {}, so clients of its authority are rejected. Renew it", date(end));
            warnings.add_between(REVOCATION_LIST_EXPIRED, &field, why, Some(end), None);
        }
    }
}
