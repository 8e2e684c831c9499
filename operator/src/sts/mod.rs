//! The token service: the two calls of AWS Security Token Service (STS) that give temporary credentials to ServiceAccounts.
//!
//! `AssumeRoleWithWebIdentity` exchanges a token of a ServiceAccount for credentials of a role: a Principal with `trust`. What it
//! returns is stored nowhere: the session token contains the session, sealed for the proxies (`sluice_session`).
//! `GetCallerIdentity` names the caller of a signed request. Clients of AWS find the service by `AWS_ENDPOINT_URL_STS`.

mod assume;
mod callers;
mod fault;
mod identity;
mod parameters;
mod server;
mod service;
mod verifier;
mod xml;

pub use server::{StsServer, StsServerError};
pub use service::TokenService;
pub use verifier::{TokenError, Verifier};
