//! Authorizers that decide about a request as it is: by a token in it, or by a call with its facts. What they share is here: remembered
//! decisions, the time that a request waits, and the form of the result.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use sluice_wire::{Behavior, Hash, Variable};
use tracing::Instrument as _;

use super::calls::{CallResult, Calls};
use super::credential::{self, Source};
use super::decision::{Authorization, Decision};
use super::introspection::Introspection;
use super::jwt::{self, Jwt, KeyWait};
use super::lambda::Lambda;
use super::remembered::{Grant, RememberKey, Remembered};
use super::request::AuthRequest;
use super::reviewed::review;
use super::services::Services;
use super::token_error::TokenError;
use crate::access_review::AccessReviews;
use crate::reject::Reject;

/// How long a request waits for the keys that its token needs: two calls in a row, each with its own deadline.
const MAX_WAIT: Duration = Duration::from_secs(11);

/// What decides.
pub(super) enum Decider {
    /// The signature of a token, with the keys of its issuer.
    Jwt(Jwt),
    /// The same; the issuer is a user pool.
    UserPool(Jwt),
    /// An endpoint, about a token.
    Introspection(Introspection),
    /// A function, about the request.
    Lambda(Lambda),
}

/// What a request waits for.
enum Pending<'a> {
    /// Keys: then its token is verified again.
    Keys(&'a Jwt, KeyWait),
    /// A call, whose result is the decision.
    Call { digest: Hash, within: Duration, max_age: Duration, call: BoxFuture<'static, CallResult> },
}

enum Evaluation<'a> {
    Done(Authorization),
    Wait(Pending<'a>, Instant),
}

/// What verifying the token of a request results in.
enum Verified {
    Done(Authorization),
    Wait(KeyWait, Instant),
}

/// One authorizer.
pub(crate) struct RequestAuthorizer {
    /// `namespace/name`, for traces.
    name: String,
    decider: Decider,
    remembered: Arc<Remembered>,
    calls: Arc<Calls>,
    /// Set if the API server must allow each call.
    reviews: Option<AccessReviews>,
}

impl RequestAuthorizer {
    /// `reviewed`: the API server must allow each call.
    pub(super) fn new(name: String, decider: Decider, reviewed: bool, services: &Services) -> Self {
        let remembered = Arc::new(Remembered::new());
        let calls = Calls::new(services.runtime.clone(), remembered.clone());
        let reviews = reviewed.then(|| services.access_reviews.clone());
        Self { name, decider, remembered, calls, reviews }
    }

    /// How many decisions are remembered.
    pub(super) fn remembered(&self) -> usize {
        self.remembered.len()
    }

    /// Whether a function decides.
    pub(super) fn is_function(&self) -> bool {
        matches!(self.decider, Decider::Lambda(_))
    }

    /// The places in which a request may have a credential.
    pub(super) fn sources(&self) -> &[Source] {
        match &self.decider {
            Decider::Jwt(jwt) | Decider::UserPool(jwt) => jwt.sources(),
            Decider::Introspection(introspection) => introspection.sources(),
            Decider::Lambda(lambda) => lambda.places(),
        }
    }

    /// Decides about a request. Waits at most once, and for a bounded time.
    pub(crate) async fn authorize(&self, request: &AuthRequest<'_>) -> Authorization {
        let span = tracing::debug_span!(
            "authorize",
            authorizer.name = self.name,
            request.id = request.variables.get(&Variable::RequestId).as_ref().map(|id| id.text()).as_deref(),
        );
        let authorization = match span.in_scope(|| self.evaluate(request, SystemTime::now())) {
            Evaluation::Done(decision) => decision,
            // Boxed, so that the future of a request that does not wait stays small.
            Evaluation::Wait(wait, began) => Box::pin(self.wait(wait, began, request)).instrument(span.clone()).await,
        };
        match &self.reviews {
            None => authorization,
            Some(reviews) => review(reviews, authorization, request.method, request.route).instrument(span).await,
        }
    }

    fn evaluate(&self, request: &AuthRequest<'_>, now: SystemTime) -> Evaluation<'_> {
        match &self.decider {
            Decider::Jwt(jwt) | Decider::UserPool(jwt) => match self.verify(jwt, request, now) {
                Verified::Done(authorization) => Evaluation::Done(authorization),
                Verified::Wait(wait, began) => Evaluation::Wait(Pending::Keys(jwt, wait), began),
            },
            Decider::Introspection(introspection) => self.introspect(introspection, request, now),
            Decider::Lambda(lambda) => self.call_function(lambda, request, now),
        }
    }

    fn verify(&self, jwt: &Jwt, request: &AuthRequest<'_>, now: SystemTime) -> Verified {
        let token = match credential::find(jwt.sources(), request.headers, request.variables) {
            Ok((token, _)) => token,
            Err(error) => return Verified::Done(rejected(error)),
        };
        // The token itself: it is verified without a secret.
        let key = RememberKey::Text(&token);
        if let Some(grant) = self.remembered.get(&key, now, |source| jwt.generation(source)) {
            return Verified::Done(Authorization::remembered(self.granted(grant, request)));
        }
        let began = Instant::now();
        let decision = match jwt.verify(&token, now) {
            Ok(jwt::Verified::Grant(grant)) => {
                self.remembered.insert(&key, grant.clone());
                self.granted(grant, request)
            }
            Ok(jwt::Verified::Wait(wait)) => return Verified::Wait(wait, began),
            Err(error) if self.is_user_pool() => error.as_of_user_pool(),
            Err(error) => error.into(),
        };
        Verified::Done(Authorization::made(decision, Some(began.elapsed())))
    }

    fn introspect(
        &self,
        introspection: &Introspection,
        request: &AuthRequest<'_>,
        now: SystemTime,
    ) -> Evaluation<'static> {
        let token = match credential::find(introspection.sources(), request.headers, request.variables) {
            Ok((token, _)) => token,
            Err(error) => return Evaluation::Done(rejected(error)),
        };
        let digest = Hash::of(token.as_bytes());
        if let Some(grant) = self.decided(digest, now) {
            return Evaluation::Done(Authorization::remembered(Decision::Allow(grant.identity)));
        }
        let (within, max_age) = (introspection.timeout(), introspection.max_call_age());
        let call = Box::pin(introspection.call(&token, digest));
        Evaluation::Wait(Pending::Call { digest, within, max_age, call }, Instant::now())
    }

    fn call_function(&self, lambda: &Lambda, request: &AuthRequest<'_>, now: SystemTime) -> Evaluation<'static> {
        let caller = match lambda.identify(request) {
            Ok(caller) => caller,
            Err(error) => return Evaluation::Done(rejected(error)),
        };
        if let Some(grant) = self.decided(caller.digest, now) {
            return Evaluation::Done(Authorization::remembered(Decision::Allow(grant.identity)));
        }
        let Some(call) = lambda.call(request, &caller) else {
            let (reject, reason) = (Reject::UriTooLong, "UriTooLong");
            return Evaluation::Done(Authorization::made(Decision::Reject { reject, reason }, None));
        };
        let (digest, within, max_age) = (caller.digest, lambda.timeout(), lambda.max_call_age());
        Evaluation::Wait(Pending::Call { digest, within, max_age, call: Box::pin(call) }, Instant::now())
    }

    /// What a server has decided, which alone can change it.
    fn decided(&self, digest: Hash, now: SystemTime) -> Option<Grant> {
        self.remembered.get(&RememberKey::Digest(digest), now, |_| Some(0))
    }

    fn is_user_pool(&self) -> bool {
        matches!(self.decider, Decider::UserPool(_))
    }

    /// What depends on Stage and rule: all of them share the verified tokens of an authorizer. AWS HTTP APIs reject tokens that do
    /// not name their key. Tokens of user pools are for rules with scopes or for those without.
    fn granted(&self, grant: Grant, request: &AuthRequest<'_>) -> Decision {
        if request.behavior == Behavior::AwsHttp && !grant.names_key {
            return TokenError::NoKeyId.into();
        }
        if self.is_user_pool() && !jwt::is_for_use(&grant.identity, request.with_scopes) {
            return TokenError::WrongUse.into();
        }
        Decision::Allow(grant.identity)
    }

    async fn wait(&self, pending: Pending<'_>, began: Instant, request: &AuthRequest<'_>) -> Authorization {
        let decision = match pending {
            Pending::Keys(jwt, wait) => {
                wait.ready(MAX_WAIT).await;
                match self.verify(jwt, request, SystemTime::now()) {
                    Verified::Done(Authorization { decision, .. }) => decision,
                    // Something else is missing by now: this request has waited.
                    Verified::Wait(wait, _) => wait.given_up().into(),
                }
            }
            Pending::Call { digest, within, max_age, call } => {
                match self.calls.join(digest, within, max_age, call).await {
                    Ok(grant) => Decision::Allow(grant.identity),
                    Err(error) => error.into(),
                }
            }
        };
        Authorization::made(decision, Some(began.elapsed()))
    }
}

/// The decision about a request without a usable credential.
fn rejected(error: TokenError) -> Authorization {
    Authorization::made(error.into(), None)
}
