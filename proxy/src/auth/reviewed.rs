//! Decisions about ServiceAccounts that also need the API server's: it must allow the call of the ApiRoute.

use std::time::Instant;

use http::Method;
use sluice_wire::PartName;

use super::decision::{Authorization, Decision};
use super::identity::Identity;
use crate::access_review::{AccessReviews, Question, Undecided};
use crate::reject::Reject;

/// The methods that a role can allow.
const REVIEWED: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];

/// The decision about a caller that may need a review. Waits at most once, and for a bounded time.
pub(super) async fn review(
    reviews: &AccessReviews,
    authorization: Authorization,
    method: &Method,
    route: Option<&PartName>,
) -> Authorization {
    let Decision::Allow(identity) = &authorization.decision else { return authorization };
    let began = Instant::now();
    let outcome = match &question(identity, method, route) {
        // A client could ask about any number of methods.
        _ if !REVIEWED.contains(method) => Ok(false),
        None => Err(Undecided),
        Some(question) => match reviews.remembered(question) {
            Some(true) => return authorization,
            Some(false) => Ok(false),
            // Boxed, so that the future of a request that does not wait stays small.
            None => Box::pin(reviews.ask(question)).await,
        },
    };
    let decision = match outcome {
        Ok(true) => authorization.decision,
        Ok(false) => Decision::Reject { reject: Reject::AccessReviewDenied, reason: "access_review_denied" },
        Err(Undecided) => {
            Decision::Reject { reject: Reject::AuthorizerUnavailable, reason: "access_review_unavailable" }
        }
    };
    Authorization::made(decision, Some(authorization.took.unwrap_or_default() + began.elapsed()))
}

fn question(identity: &Identity, method: &Method, route: Option<&PartName>) -> Option<Question> {
    let route = route?.object();
    Some(Question {
        user: identity.id.as_deref()?.into(),
        verb: method.as_str().to_ascii_lowercase().into(),
        namespace: route.namespace.as_ref().into(),
        route: route.name.as_ref().into(),
    })
}
