//! The decision of an authorizer about a request.

use std::sync::Arc;
use std::time::Duration;

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

/// How a decision came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was remembered.
    Remembered,
    Allowed,
    Rejected,
    /// The authorizer cannot decide.
    Failed,
}

impl Outcome {
    /// Label values of `sluice_authorizer_decisions_total`, in the order of the variants.
    pub(crate) const TEXTS: [&'static str; 4] = ["remembered", "allowed", "rejected", "failed"];
}

/// A decision, and what metrics show of it.
#[derive(Debug)]
pub(crate) struct Authorization {
    pub(crate) decision: Decision,
    pub(crate) outcome: Outcome,
    /// How long a credential was verified; none: none was.
    pub(crate) took: Option<Duration>,
}

impl Authorization {
    /// A decision that was made now.
    pub(crate) fn made(decision: Decision, took: Option<Duration>) -> Self {
        let outcome = match &decision {
            Decision::Allow(_) => Outcome::Allowed,
            Decision::Reject {
                reject: Reject::AuthorizerUnavailable | Reject::AuthorizerMisconfigured | Reject::InvalidConfig,
                ..
            } => Outcome::Failed,
            Decision::Reject { .. } => Outcome::Rejected,
        };
        Self { decision, outcome, took }
    }

    /// A decision that is remembered.
    pub(super) fn remembered(decision: Decision) -> Self {
        Self { decision, outcome: Outcome::Remembered, took: None }
    }
}
