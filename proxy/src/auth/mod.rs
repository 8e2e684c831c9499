//! Authorizers: who a caller is, by JSON Web Tokens (RFC 7519), and why a token is not believed.
//! Which routes need one is the gateway's; how a refusal looks is `reject`'s.

mod authorizer;
mod caller;
mod fetch;
mod keys;
mod refusal;
mod sets;
mod token;

pub(crate) use authorizer::{Authorizer, Verdict};
pub(crate) use caller::Caller;
pub(crate) use fetch::{Fetch, FetchError, Fetcher};
pub(crate) use refusal::Refusal;
pub(crate) use sets::KeySets;

#[cfg(test)]
mod tests;
