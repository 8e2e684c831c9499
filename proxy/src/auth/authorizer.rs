//! One authorizer of any kind: how it decides, and where its credentials are in a request.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};
use sluice_wire::{AuthorizerKind, AuthorizerPart, ObjectRef, PartKind, PartName};

use super::by_request::{Decider, RequestAuthorizer};
use super::credential::{self, Place, Source};
use super::iam::{self, Iam};
use super::introspection::Introspection;
use super::jwt::Jwt;
use super::lambda::Lambda;
use super::request::AuthRequest;
use super::services::Services;
use crate::headers;
use crate::template::NoVariables;

/// The names of the kinds, label values of metrics.
pub(crate) const KINDS: [&str; 6] = ["Jwt", "Introspection", "Cognito", "ServiceAccount", "Iam", "Lambda"];

/// How an authorizer decides.
pub(crate) enum Means {
    /// By the request as it is, without its body.
    Request(RequestAuthorizer),
    /// By a signature, which can cover the body.
    Signature(Iam),
}

/// One Authorizer, compiled.
pub(crate) struct Authorizer {
    /// `namespace/name`.
    name: String,
    /// Its place in [`KINDS`].
    kind: usize,
    means: Means,
    /// One of the headers of its credentials has a name with other characters than letters, digits and hyphens.
    unusual_places: bool,
    /// Nothing but other spellings of headers is removed from an authorized request.
    keeps_places: bool,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authorizer({})", self.name)
    }
}

impl Authorizer {
    /// Prepares an Authorizer. The error is a sentence: it cannot be used, or is of a kind that this version does not know.
    pub(crate) fn compile(part: &AuthorizerPart, services: &Services) -> Result<Arc<Self>, String> {
        let ObjectRef { namespace, name: object, .. } = &part.object;
        let (name, fetcher) = (part.object.id(), services.fetcher.as_ref());
        let by_request = |decider| Means::Request(RequestAuthorizer::new(name.clone(), decider, false, services));
        let (kind, means) = match &part.kind {
            AuthorizerKind::Jwt(part) => (0, by_request(Decider::Jwt(Jwt::compile(part, &services.key_sets)?))),
            AuthorizerKind::Introspection(settings) => {
                let introspection = Introspection::compile(settings, &name, namespace, fetcher)?;
                (1, by_request(Decider::Introspection(introspection)))
            }
            AuthorizerKind::Cognito(part) => {
                (2, by_request(Decider::UserPool(Jwt::of_user_pools(part, &services.key_sets)?)))
            }
            AuthorizerKind::ServiceAccount(part) => {
                let decider = Decider::Jwt(Jwt::of_service_accounts(&part.tokens, &services.key_sets)?);
                let reviewed = part.access_reviews;
                (3, Means::Request(RequestAuthorizer::new(name.clone(), decider, reviewed, services)))
            }
            AuthorizerKind::Iam(settings) => {
                let part = PartName::of_object(PartKind::Authorizer, namespace, object);
                (4, Means::Signature(Iam::compile(part, settings, &services.principals)?))
            }
            AuthorizerKind::Lambda(settings) => {
                (5, by_request(Decider::Lambda(Lambda::compile(settings, &name, namespace, fetcher)?)))
            }
            AuthorizerKind::Invalid { why } => return Err(why.clone()),
            AuthorizerKind::Unknown(unknown) => {
                return Err(format!(
                    "This proxy does not know authorizers of the kind {:?}. What depends on it is rejected with 500 until \
                     the proxies are updated.",
                    unknown.name
                ));
            }
        };
        let places: Vec<Place<'_>> = means.places().collect();
        let unusual = |place: &Place<'_>| matches!(place, Place::Header(name) if !headers::is_usual(name.as_str()));
        let unusual_places = places.iter().any(unusual);
        // A function has decided about the request as a whole.
        let keeps_places = matches!(places.as_slice(), [Place::Header(_)]) || means.is_function();
        Ok(Arc::new(Self { name, kind, means, unusual_places, keeps_places }))
    }

    /// `namespace/name`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// How it decides.
    pub(crate) fn means(&self) -> &Means {
        &self.means
    }

    /// The place of its kind in [`KINDS`].
    pub(crate) fn kind(&self) -> usize {
        self.kind
    }

    /// How many decisions are remembered.
    pub(crate) fn remembered(&self) -> usize {
        match &self.means {
            Means::Request(by_request) => by_request.remembered(),
            // Each signature is of one request.
            Means::Signature(_) => 0,
        }
    }

    /// The place of the credential of a request.
    pub(crate) fn credential_place(&self, request: &AuthRequest<'_>) -> Option<Place<'_>> {
        let found = credential::find(self.means.sources(), request.headers, request.variables);
        found.ok().map(|(_, place)| place)
    }

    /// The header in which the verified credential of a request is; none: it is in another place.
    pub(crate) fn credential_header(&self, headers: &HeaderMap) -> Option<&HeaderName> {
        match credential::find(self.means.sources(), headers, &NoVariables) {
            Ok((_, Place::Header(name))) => Some(name),
            _ => None,
        }
    }

    /// The places in which a request may have a credential.
    pub(crate) fn places(&self) -> impl Iterator<Item = Place<'_>> {
        self.means.places()
    }

    /// Whether the credential stays in each of its places, so that only other spellings of them are removed: it can be in one
    /// header only, or a function has decided about the whole request.
    pub(crate) fn keeps_places(&self) -> bool {
        self.keeps_places
    }

    /// Whether the Stage's policy is checked for an explicit deny before the authorizer decides, as AWS does it.
    pub(crate) fn follows_policy(&self) -> bool {
        self.means.is_function()
    }

    /// Whether the name of a header among them has other characters than letters, digits and hyphens.
    pub(crate) fn has_unusual_places(&self) -> bool {
        self.unusual_places
    }
}

impl Means {
    fn is_function(&self) -> bool {
        matches!(self, Self::Request(by_request) if by_request.is_function())
    }

    /// The places of credentials other than signatures.
    fn sources(&self) -> &[Source] {
        match self {
            Self::Request(by_request) => by_request.sources(),
            Self::Signature(_) => &[],
        }
    }

    fn places(&self) -> impl Iterator<Item = Place<'_>> {
        let signed: &[Place<'_>] = if matches!(self, Self::Signature(_)) { &iam::PLACES } else { &[] };
        self.sources().iter().map(Source::place).chain(signed.iter().copied())
    }
}
