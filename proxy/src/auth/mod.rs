//! Authorizers: who a caller is. An [`Authorizer`] decides about a request, remembers its decisions and waits where it has to;
//! each kind is a module of its own, with what only that kind does. `gateway` has the authorizer of each rule;
//! `reject` has the response to a rejected request.

mod authorizer;
mod decision;
mod fetch;
mod identity;
mod jwt;
mod remembered;

pub(crate) use authorizer::{AuthRequest, Authorizer};
pub(crate) use decision::Decision;
pub(crate) use fetch::{Fetch, FetchError, Fetcher};
pub(crate) use identity::Identity;
pub(crate) use jwt::KeySets;
