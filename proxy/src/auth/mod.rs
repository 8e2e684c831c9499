//! Authorizers: who a caller is. An [`Authorizer`] decides by the request as it is (`by_request`, which remembers decisions and waits
//! where it has to) or by a signature (`iam`); each kind is a module of its own, with what only that kind does. `gateway` has the authorizer of each rule;
//! `reject` has the response to a rejected request.

mod authorizer;
mod by_request;
mod calls;
mod claims;
mod credential;
mod decision;
mod facts;
mod failure_log;
mod fetch;
mod iam;
mod identity;
mod introspection;
mod json;
mod jwt;
mod lambda;
mod principals;
mod remembered;
mod request;
mod reviewed;
mod role;
mod service_pools;
mod services;
mod token_error;

pub(crate) use authorizer::{Authorizer, KINDS, Means};
pub(crate) use credential::Place;
pub(crate) use decision::{Authorization, Decision, Outcome};
pub(crate) use facts::RequestFacts;
pub(crate) use fetch::{Fetch, FetchError, Fetcher};
pub(crate) use iam::{Iam, SignatureError, SignedRequest};
pub(crate) use identity::Identity;
pub(crate) use introspection::Rules as IntrospectionRules;
pub(crate) use jwt::KeySets;
pub(crate) use principals::PrincipalRing;
pub(crate) use request::AuthRequest;
pub(crate) use services::Services;
