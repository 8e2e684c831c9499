//! One authorizer: its decision about a request. What all kinds share is here: remembered decisions, the time that a request
//! waits, and the form of the result.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName};
use sluice_wire::{AuthorizerKind, AuthorizerPart, Behavior, Hash, ObjectRef, PartKind, PartName, Variable};
use tracing::Instrument as _;

use super::calls::{CallResult, Calls};
use super::credential::{self, Place, Source};
use super::decision::{Authorization, Decision};
use super::iam::{self, Iam, SignatureError};
use super::introspection::Introspection;
use super::jwt::{self, Jwt, KeyWait};
use super::lambda::Lambda;
use super::remembered::{Grant, RememberKey, Remembered};
use super::request::AuthRequest;
use super::reviewed::review;
use super::services::Services;
use super::token_error::TokenError;
use crate::access_review::AccessReviews;
use crate::headers;
use crate::reject::Reject;
use crate::template::NoVariables;

/// How long a request waits for what its decision needs: two calls in a row, each with its own deadline.
const MAX_WAIT: Duration = Duration::from_secs(11);

/// The kinds of authorizer. Each gives these, and nothing else is specific to a kind:
/// the credential of a request, the state of its sources of trust, the verification of a credential that is not remembered.
enum Kind {
    Jwt(Jwt),
    Cognito(Jwt),
    Introspection(Introspection),
    ServiceAccount(Jwt),
    /// The pipeline calls it, because it needs the body of the request.
    Iam(Iam),
    Lambda(Lambda),
}

/// The names of the kinds, label values of metrics.
pub(crate) const KINDS: [&str; 6] = ["Jwt", "Introspection", "Cognito", "ServiceAccount", "Iam", "Lambda"];

/// What a kind waits for.
enum PendingCheck {
    /// Then the credential is verified again.
    Keys(KeyWait),
    /// A call, whose result is the decision.
    Call { digest: Hash, within: Duration, max_age: Duration, call: BoxFuture<'static, CallResult> },
}

/// What verifying a credential results in.
enum Verdict {
    Grant(Grant),
    Reject(Decision),
    Wait(PendingCheck),
}

enum Evaluation {
    Done(Authorization),
    Wait(PendingCheck, Instant),
}

/// One Authorizer, compiled.
pub(crate) struct Authorizer {
    /// `namespace/name`, for traces.
    name: String,
    /// Or why it cannot be used, in a sentence.
    kind: Result<Kind, String>,
    /// One of the headers of its credentials has a name with other characters than letters, digits and hyphens.
    unusual_places: bool,
    /// Nothing but other spellings of headers is removed from an authorized request.
    keeps_places: bool,
    remembered: Arc<Remembered>,
    calls: Arc<Calls>,
    /// Set if the API server must allow each call.
    reviews: Option<AccessReviews>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authorizer({})", self.name)
    }
}

impl Authorizer {
    /// Prepares an Authorizer. One that cannot be used, or is of a kind that this version does not know, rejects every request.
    pub(crate) fn compile(part: &AuthorizerPart, services: &Services) -> Arc<Self> {
        let name = part.object.id();
        let kind = match &part.kind {
            AuthorizerKind::Jwt(part) => Jwt::compile(part, &services.key_sets).map(Kind::Jwt),
            AuthorizerKind::Cognito(part) => Jwt::of_user_pools(part, &services.key_sets).map(Kind::Cognito),
            AuthorizerKind::Introspection(settings) => {
                let namespace = &part.object.namespace;
                Introspection::compile(settings, &name, namespace, services.fetcher.as_ref()).map(Kind::Introspection)
            }
            AuthorizerKind::ServiceAccount(part) => {
                Jwt::of_service_accounts(&part.tokens, &services.key_sets).map(Kind::ServiceAccount)
            }
            AuthorizerKind::Iam(settings) => {
                let ObjectRef { namespace, name, .. } = &part.object;
                let part = PartName::of_object(PartKind::Authorizer, namespace, name);
                Iam::compile(part, settings, &services.principals).map(Kind::Iam)
            }
            AuthorizerKind::Lambda(settings) => {
                let namespace = &part.object.namespace;
                Lambda::compile(settings, &name, namespace, services.fetcher.as_ref()).map(Kind::Lambda)
            }
            AuthorizerKind::Invalid { why } => Err(why.clone()),
            AuthorizerKind::Unknown(unknown) => Err(format!(
                "This proxy does not know authorizers of the kind {:?}. What depends on it is rejected with 500 until the \
                 proxies are updated.",
                unknown.name
            )),
        };
        let places: Vec<Place<'_>> = kind.iter().flat_map(Kind::places).collect();
        let unusual = |place: &Place<'_>| matches!(place, Place::Header(name) if !headers::is_usual(name.as_str()));
        let unusual_places = places.iter().any(unusual);
        // A function has decided about the request as a whole.
        let keeps_places = matches!(places.as_slice(), [Place::Header(_)]) || matches!(kind, Ok(Kind::Lambda(_)));
        let remembered = Arc::new(Remembered::new());
        let calls = Calls::new(services.runtime.clone(), remembered.clone());
        let reviewed = matches!(&part.kind, AuthorizerKind::ServiceAccount(part) if part.access_reviews);
        let reviews = reviewed.then(|| services.access_reviews.clone());
        Arc::new(Self { name, kind, unusual_places, keeps_places, remembered, calls, reviews })
    }

    /// `namespace/name`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Why it cannot be used, in a sentence.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.kind.as_ref().err().map(String::as_str)
    }

    /// The place of its kind in [`KINDS`]; none: it cannot be used.
    pub(crate) fn kind(&self) -> Option<usize> {
        match self.kind.as_ref().ok()? {
            Kind::Jwt(_) => Some(0),
            Kind::Introspection(_) => Some(1),
            Kind::Cognito(_) => Some(2),
            Kind::ServiceAccount(_) => Some(3),
            Kind::Iam(_) => Some(4),
            Kind::Lambda(_) => Some(5),
        }
    }

    /// How many decisions are remembered.
    pub(crate) fn remembered(&self) -> usize {
        self.remembered.len()
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

    /// The place of the credential of a request.
    pub(crate) fn credential_place(&self, request: &AuthRequest<'_>) -> Option<Place<'_>> {
        let found = credential::find(self.kind.as_ref().ok()?.sources(), request.headers, request.variables);
        found.ok().map(|(_, place)| place)
    }

    /// The header in which the verified credential of a request is; none: it is in another place.
    pub(crate) fn credential_header(&self, headers: &HeaderMap) -> Option<&HeaderName> {
        let sources = self.kind.as_ref().ok()?.sources();
        match credential::find(sources, headers, &NoVariables) {
            Ok((_, Place::Header(name))) => Some(name),
            _ => None,
        }
    }

    /// The places in which a request may have a credential.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.kind.iter().flat_map(Kind::places)
    }

    /// The authorizer of signed requests, if it is one. [`Self::authorize`] accepts none for it.
    pub(crate) fn iam(&self) -> Option<&Iam> {
        match &self.kind {
            Ok(Kind::Iam(iam)) => Some(iam),
            _ => None,
        }
    }

    /// Whether the credential stays in each of its places, so that only other spellings of them are removed: it can be in one
    /// header only, or a function has decided about the whole request.
    pub(crate) fn keeps_places(&self) -> bool {
        self.keeps_places
    }

    /// Whether the Stage's policy is checked for an explicit deny before the authorizer decides, as AWS does it.
    pub(crate) fn follows_policy(&self) -> bool {
        matches!(self.kind, Ok(Kind::Lambda(_)))
    }

    /// Whether the name of a header among them has other characters than letters, digits and hyphens.
    pub(crate) fn has_unusual_places(&self) -> bool {
        self.unusual_places
    }

    fn evaluate(&self, request: &AuthRequest<'_>, now: SystemTime) -> Evaluation {
        let kind = match &self.kind {
            Ok(kind) => kind,
            Err(_) => {
                let (reject, reason) = (Reject::InvalidConfig, "invalid_config");
                return Evaluation::Done(Authorization::made(Decision::Reject { reject, reason }, None));
            }
        };
        if let Kind::Lambda(lambda) = kind {
            return self.evaluate_by_function(lambda, request, now);
        }
        let credential = match credential::find(kind.sources(), request.headers, request.variables) {
            Ok((credential, _)) => credential,
            Err(error) => return Evaluation::Done(Authorization::made(error.into(), None)),
        };
        let key = kind.remembered_by(&credential);
        if let Some(grant) = self.remembered.get(&key, now, |source| kind.generation(source)) {
            return Evaluation::Done(Authorization::remembered(kind.granted(grant, request)));
        }
        let began = Instant::now();
        let decision = match kind.verify(&credential, now) {
            Verdict::Grant(grant) => {
                self.remembered.insert(&key, grant.clone());
                kind.granted(grant, request)
            }
            Verdict::Reject(decision) => decision,
            Verdict::Wait(wait) => return Evaluation::Wait(wait, began),
        };
        Evaluation::Done(Authorization::made(decision, Some(began.elapsed())))
    }

    fn evaluate_by_function(&self, lambda: &Lambda, request: &AuthRequest<'_>, now: SystemTime) -> Evaluation {
        let caller = match lambda.identify(request) {
            Ok(caller) => caller,
            Err(error) => return Evaluation::Done(Authorization::made(error.into(), None)),
        };
        if let Some(grant) = self.remembered.get(&RememberKey::Digest(caller.digest), now, |_| Some(0)) {
            return Evaluation::Done(Authorization::remembered(Decision::Allow(grant.identity)));
        }
        let Some(call) = lambda.call(request, &caller) else {
            let (reject, reason) = (Reject::UriTooLong, "UriTooLong");
            return Evaluation::Done(Authorization::made(Decision::Reject { reject, reason }, None));
        };
        let (digest, within, max_age) = (caller.digest, lambda.timeout(), lambda.max_call_age());
        Evaluation::Wait(PendingCheck::Call { digest, within, max_age, call: Box::pin(call) }, Instant::now())
    }

    fn granted(&self, grant: Grant, request: &AuthRequest<'_>) -> Decision {
        match &self.kind {
            Ok(kind) => kind.granted(grant, request),
            // It has granted nothing.
            Err(_) => Decision::Reject { reject: Reject::InvalidConfig, reason: "invalid_config" },
        }
    }

    async fn wait(&self, wait: PendingCheck, began: Instant, request: &AuthRequest<'_>) -> Authorization {
        let decision = match wait {
            PendingCheck::Keys(wait) => {
                wait.ready(MAX_WAIT).await;
                match self.evaluate(request, SystemTime::now()) {
                    Evaluation::Done(Authorization { decision, .. }) => decision,
                    // Something else is missing by now: this request has waited.
                    Evaluation::Wait(PendingCheck::Keys(wait), _) => wait.given_up().into(),
                    Evaluation::Wait(PendingCheck::Call { .. }, _) => TokenError::CallFailed.into(),
                }
            }
            PendingCheck::Call { digest, within, max_age, call } => {
                match self.calls.join(digest, within, max_age, call).await {
                    Ok(grant) => self.granted(grant, request),
                    Err(error) => error.into(),
                }
            }
        };
        Authorization::made(decision, Some(began.elapsed()))
    }
}

impl Kind {
    /// What depends on Stage and rule: all of them share the verified tokens of an authorizer. AWS HTTP APIs reject tokens that do
    /// not name their key. Tokens of user pools are for rules with scopes or for those without.
    fn granted(&self, grant: Grant, request: &AuthRequest<'_>) -> Decision {
        if request.behavior == Behavior::AwsHttp && !grant.names_key {
            return TokenError::NoKeyId.into();
        }
        if matches!(self, Self::Cognito(_)) && !jwt::is_for_use(&grant.identity, request.with_scopes) {
            return TokenError::WrongUse.into();
        }
        Decision::Allow(grant.identity)
    }

    /// The places in which a request may have a credential.
    fn sources(&self) -> &[Source] {
        match self {
            Self::Jwt(jwt) | Self::Cognito(jwt) | Self::ServiceAccount(jwt) => jwt.sources(),
            Self::Introspection(introspection) => introspection.sources(),
            Self::Iam(_) => &[],
            Self::Lambda(lambda) => lambda.places(),
        }
    }

    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let signed: &[Place<'_>] = if matches!(self, Self::Iam(_)) { &iam::PLACES } else { &[] };
        self.sources().iter().map(Source::place).chain(signed.iter().copied())
    }

    /// What decisions about a credential are remembered by.
    fn remembered_by<'a>(&self, credential: &'a str) -> RememberKey<'a> {
        match self {
            Self::Jwt(_) | Self::Cognito(_) | Self::ServiceAccount(_) => RememberKey::Text(credential),
            Self::Introspection(_) | Self::Iam(_) | Self::Lambda(_) => {
                RememberKey::Digest(Hash::of(credential.as_bytes()))
            }
        }
    }

    /// The state of a source of trust; none: it cannot be used at the moment.
    fn generation(&self, source: usize) -> Option<u64> {
        match self {
            Self::Jwt(jwt) | Self::Cognito(jwt) | Self::ServiceAccount(jwt) => jwt.generation(source),
            // The endpoint alone decides.
            Self::Introspection(_) | Self::Lambda(_) => Some(0),
            Self::Iam(_) => None,
        }
    }

    fn verify(&self, credential: &str, now: SystemTime) -> Verdict {
        match self {
            Self::Jwt(jwt) | Self::Cognito(jwt) | Self::ServiceAccount(jwt) => match jwt.verify(credential, now) {
                Ok(jwt::Verified::Grant(grant)) => Verdict::Grant(grant),
                Ok(jwt::Verified::Wait(wait)) => Verdict::Wait(PendingCheck::Keys(wait)),
                Err(error) if matches!(self, Self::Cognito(_)) => Verdict::Reject(error.as_of_user_pool()),
                Err(error) => Verdict::Reject(error.into()),
            },
            // It has no credential that could be verified without the whole request.
            Self::Iam(_) => Verdict::Reject(SignatureError::Missing.into()),
            Self::Introspection(introspection) => {
                let digest = Hash::of(credential.as_bytes());
                let call = Box::pin(introspection.call(credential, digest));
                let (within, max_age) = (introspection.timeout(), introspection.max_call_age());
                Verdict::Wait(PendingCheck::Call { digest, within, max_age, call })
            }
            // A function decides about requests and not about one credential of them.
            Self::Lambda(_) => Verdict::Reject(TokenError::CallFailed.into()),
        }
    }
}
