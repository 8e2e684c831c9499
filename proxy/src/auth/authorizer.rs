//! One authorizer: its decision about a request. What all kinds share is here: remembered decisions, the time that a request
//! waits, and the form of the result.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use http::{HeaderMap, HeaderName, Method};
use sluice_wire::{AuthorizerKind, AuthorizerPart, Behavior, Hash, ObjectRef, PartKind, PartName, Variable};
use tracing::Instrument as _;

use super::calls::{CallResult, Calls};
use super::credential::{self, Place, Source};
use super::decision::{Authorization, Decision};
use super::iam::{self, Iam, SignatureError};
use super::introspection::Introspection;
use super::jwt::{self, Jwt, KeyWait};
use super::remembered::{Grant, RememberKey, Remembered};
use super::reviewed::review;
use super::services::Services;
use super::token_error::TokenError;
use crate::access_review::AccessReviews;
use crate::headers;
use crate::reject::Reject;
use crate::template::{NoVariables, Variables};

/// How long a request waits for what its decision needs: two calls in a row, each with its own deadline.
const MAX_WAIT: Duration = Duration::from_secs(11);

/// What an authorizer sees of a request: its method, its headers as they came, and everything else (path, query, path
/// parameters, address) as variables, so that it is computed only for the kinds that need it.
pub(crate) struct AuthRequest<'a> {
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// The ApiRoute that is called; none: it is not known.
    pub(crate) route: Option<&'a PartName>,
    pub(crate) behavior: Behavior,
    /// The rule names scopes.
    pub(crate) with_scopes: bool,
    pub(crate) variables: &'a (dyn Variables + Sync),
}

/// The kinds of authorizer. Each gives these, and nothing else is specific to a kind:
/// the credential of a request, the state of its sources of trust, the verification of a credential that is not remembered.
enum Kind {
    Jwt(Jwt),
    Cognito(Jwt),
    Introspection(Introspection),
    ServiceAccount(Jwt),
    /// The pipeline calls it, because it needs the body of the request.
    Iam(Iam),
}

/// The names of the kinds, label values of metrics.
pub(crate) const KINDS: [&str; 5] = ["Jwt", "Introspection", "Cognito", "ServiceAccount", "Iam"];

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
    /// A credential can be in one header only.
    one_header: bool,
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
        let one_header = matches!(places.as_slice(), [Place::Header(_)]);
        let remembered = Arc::new(Remembered::new());
        let calls = Calls::new(services.runtime.clone(), remembered.clone());
        let reviewed = matches!(&part.kind, AuthorizerKind::ServiceAccount(part) if part.access_reviews);
        let reviews = reviewed.then(|| services.access_reviews.clone());
        Arc::new(Self { name, kind, unusual_places, one_header, remembered, calls, reviews })
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

    /// Whether a request can have a credential in one header only.
    pub(crate) fn has_one_header(&self) -> bool {
        self.one_header
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
            Self::Introspection(_) | Self::Iam(_) => RememberKey::Digest(Hash::of(credential.as_bytes())),
        }
    }

    /// The state of a source of trust; none: it cannot be used at the moment.
    fn generation(&self, source: usize) -> Option<u64> {
        match self {
            Self::Jwt(jwt) | Self::Cognito(jwt) | Self::ServiceAccount(jwt) => jwt.generation(source),
            // The endpoint alone decides.
            Self::Introspection(_) => Some(0),
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
        }
    }
}
