//! The decision of an authorizer about a request.

use std::sync::Arc;

use super::identity::Identity;
use crate::reject::Reject;

/// The result for a request.
#[derive(Debug)]
pub(crate) enum Decision {
    Allow(Arc<Identity>),
    Reject {
        reject: Reject,
        /// More specific than the reason of the rejection, for the access log: one of a fixed set of values.
        reason: &'static str,
    },
}
