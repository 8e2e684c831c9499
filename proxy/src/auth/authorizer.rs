//! One authorizer: its decision about a request. What all kinds share is here: remembered decisions, the time that a request
//! waits, and the form of the result.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};
use sluice_wire::{AuthorizerKind, AuthorizerPart, Behavior, Variable};
use tracing::Instrument as _;

use super::decision::Decision;
use super::jwt::{self, Jwt, KeySets, KeyWait};
use super::remembered::{Grant, Remembered};
use crate::headers;
use crate::reject::Reject;
use crate::template::Variables;

/// How long a request waits for what its decision needs: two calls in a row, each with its own deadline.
const MAX_WAIT: Duration = Duration::from_secs(11);

/// What an authorizer sees of a request: its headers as they came, and everything else (method, path, query, path parameters,
/// address) as variables, so that it is computed only for the kinds that need it.
pub(crate) struct AuthRequest<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) behavior: Behavior,
    pub(crate) variables: &'a (dyn Variables + Sync),
}

/// The kinds of authorizer. Each gives these, and nothing else is specific to a kind:
/// the credential of a request, the state of its sources of trust, the verification of a credential that is not remembered.
enum Kind {
    Jwt(Jwt),
}

/// What a kind waits for.
enum PendingCheck {
    Keys(KeyWait),
}

/// What verifying a credential results in.
enum Verdict {
    Grant(Grant),
    Reject(Decision),
    Wait(PendingCheck),
}

enum Evaluation {
    Done(Decision),
    Wait(PendingCheck),
}

/// One Authorizer, compiled.
pub(crate) struct Authorizer {
    /// `namespace/name`, for traces.
    name: String,
    /// Or why it cannot be used, in a sentence.
    kind: Result<Kind, String>,
    /// One of the places of its credentials has a name with other characters than letters, digits and hyphens.
    unusual_places: bool,
    remembered: Remembered,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authorizer({})", self.name)
    }
}

impl Authorizer {
    /// Prepares an Authorizer. One that cannot be used, or is of a kind that this version does not know, rejects every request.
    pub(crate) fn compile(part: &AuthorizerPart, sets: &KeySets) -> Arc<Self> {
        let kind = match &part.kind {
            AuthorizerKind::Jwt(part) => Jwt::compile(part, sets).map(Kind::Jwt),
            AuthorizerKind::Invalid { why } => Err(why.clone()),
            AuthorizerKind::Unknown(unknown) => Err(format!(
                "This proxy does not know authorizers of the kind {:?}. What depends on it is rejected with 500 until the \
                 proxies are updated.",
                unknown.name
            )),
        };
        let places = kind.iter().flat_map(|Kind::Jwt(jwt)| jwt.places());
        let unusual_places = places.into_iter().any(|place| !headers::is_usual(place.as_str()));
        Arc::new(Self { name: part.object.id(), kind, unusual_places, remembered: Remembered::new() })
    }

    /// Why it cannot be used, in a sentence.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.kind.as_ref().err().map(String::as_str)
    }

    /// Decides about a request. Waits at most once, and for a bounded time.
    pub(crate) async fn authorize(&self, request: &AuthRequest<'_>) -> Decision {
        let span = tracing::debug_span!(
            "authorize",
            authorizer.name = self.name,
            request.id = request.variables.get(&Variable::RequestId).as_ref().map(|id| id.text()).as_deref(),
        );
        match span.in_scope(|| self.evaluate(request, SystemTime::now())) {
            Evaluation::Done(decision) => decision,
            // Boxed, so that the future of a request that does not wait stays small.
            Evaluation::Wait(wait) => Box::pin(self.wait(wait, request)).instrument(span).await,
        }
    }

    /// The header in which the credential of a request is.
    pub(crate) fn credential_header(&self, headers: &HeaderMap) -> Option<&HeaderName> {
        match self.kind.as_ref().ok()? {
            Kind::Jwt(jwt) => jwt.credential(headers).ok().map(|(_, header)| header),
        }
    }

    /// The headers in which a request may have a credential.
    pub(crate) fn places(&self) -> impl Iterator<Item = &HeaderName> {
        self.kind.as_ref().ok().into_iter().flat_map(|Kind::Jwt(jwt)| jwt.places())
    }

    /// Whether one of their names has other characters than letters, digits and hyphens.
    pub(crate) fn has_unusual_places(&self) -> bool {
        self.unusual_places
    }

    fn evaluate(&self, request: &AuthRequest<'_>, now: SystemTime) -> Evaluation {
        let kind = match &self.kind {
            Ok(kind) => kind,
            Err(_) => {
                let (reject, reason) = (Reject::InvalidConfig, "invalid_config");
                return Evaluation::Done(Decision::Reject { reject, reason });
            }
        };
        let credential = match kind.credential(request) {
            Ok(credential) => credential,
            Err(decision) => return Evaluation::Done(decision),
        };
        if let Some(grant) = self.remembered.get(credential, now, |source| kind.generation(source)) {
            return Evaluation::Done(granted(grant, request.behavior));
        }
        match kind.verify(credential, now) {
            Verdict::Grant(grant) => {
                self.remembered.insert(credential, grant.clone());
                Evaluation::Done(granted(grant, request.behavior))
            }
            Verdict::Reject(decision) => Evaluation::Done(decision),
            Verdict::Wait(wait) => Evaluation::Wait(wait),
        }
    }

    async fn wait(&self, wait: PendingCheck, request: &AuthRequest<'_>) -> Decision {
        match wait {
            PendingCheck::Keys(wait) => wait.ready(MAX_WAIT).await,
        }
        match self.evaluate(request, SystemTime::now()) {
            Evaluation::Done(decision) => decision,
            // Something else is missing by now: this request has waited.
            Evaluation::Wait(PendingCheck::Keys(wait)) => wait.given_up().into(),
        }
    }
}

/// AWS HTTP APIs reject tokens that do not name their key; all stages share the verified tokens of an authorizer.
fn granted(grant: Grant, behavior: Behavior) -> Decision {
    if behavior == Behavior::AwsHttp && !grant.names_key {
        return jwt::TokenError::NoKeyId.into();
    }
    Decision::Allow(grant.identity)
}

impl Kind {
    /// The credential of a request: decisions are remembered by it.
    fn credential<'a>(&self, request: &AuthRequest<'a>) -> Result<&'a str, Decision> {
        match self {
            Self::Jwt(jwt) => Ok(jwt.credential(request.headers)?.0),
        }
    }

    /// The state of a source of trust; none: it cannot be used at the moment.
    fn generation(&self, source: usize) -> Option<u64> {
        match self {
            Self::Jwt(jwt) => jwt.generation(source),
        }
    }

    fn verify(&self, credential: &str, now: SystemTime) -> Verdict {
        match self {
            Self::Jwt(jwt) => match jwt.verify(credential, now) {
                Ok(jwt::Verified::Grant(grant)) => Verdict::Grant(grant),
                Ok(jwt::Verified::Wait(wait)) => Verdict::Wait(PendingCheck::Keys(wait)),
                Err(error) => Verdict::Reject(error.into()),
            },
        }
    }
}
