//! Signed requests: reads the body where the signature covers it, and lets the authorizer verify. Nothing of a body reaches an
//! integration before its hash was compared.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::request::Parts;
use sluice_sigv4::BodyHash;

use super::call::Call;
use super::exchange::Exchange;
use super::request_body;
use crate::auth::{Authorization, Decision, Iam, SignatureError, SignedRequest};
use crate::gateway::{Matched, Policy};
use crate::headers;
use crate::key_use::LastUse;
use crate::reject::Reject;

/// A request whose signature is valid.
pub(super) struct Signed {
    /// What the signature leaves to be checked: the hash that the body must have.
    pub(super) body: Option<BodyHash>,
    /// Where the use of the access key is noted; none: the credentials are temporary.
    pub(super) last_use: Option<Arc<LastUse>>,
}

/// Keeps a request as the client sent it, if it could be signed: steps that follow remove headers.
pub(super) fn keep(exchange: &mut Exchange, parts: &Parts) {
    if SignedRequest::is_likely(&parts.headers, &parts.uri) {
        exchange.signed = Some(Box::new(SignedRequest::of(parts)));
    }
}

/// The decision about a signed request. A body whose hash the request does not state is read for it. A stated hash is verified
/// first, so that nothing is read for an invalid signature, and the body is left.
pub(super) async fn authorize(
    iam: &Iam,
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    call: &mut Call,
) -> Result<(Authorization, Option<Signed>), Reject> {
    let began = Instant::now();
    let rejected =
        |error: SignatureError| Ok((Authorization::made(Decision::from(error), Some(began.elapsed())), None));
    // What was not kept is not signed, and its error says what it has instead.
    let request = exchange.signed.take().unwrap_or_else(|| Box::new(SignedRequest::of(&call.parts)));
    let unverified = match iam.find(&request, SystemTime::now()) {
        Ok(unverified) => unverified,
        Err(error) => return rejected(error),
    };
    // The method that is called was named in a header.
    if exchange.method != request.method && !unverified.is_signed(headers::METHOD_OVERRIDE.as_str()) {
        return rejected(SignatureError::UnsignedMethod);
    }
    let declared = unverified.declared().cloned();
    let hash = match &declared {
        Some(declared) => declared.clone(),
        None => BodyHash::of(&request_body::whole(exchange, matched, policy, call).await?),
    };
    match unverified.verify(&request, &hash) {
        Ok((identity, last_use)) => {
            let body = declared.filter(|declared| *declared != BodyHash::Unsigned);
            let authorization = Authorization::made(Decision::Allow(identity), Some(began.elapsed()));
            Ok((authorization, Some(Signed { body, last_use })))
        }
        Err(error) => rejected(error),
    }
}

/// Whether the body has the hash that was signed.
pub(super) async fn has_hash(
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    policy: &Policy,
    call: &mut Call,
    expected: &BodyHash,
) -> Result<bool, Reject> {
    Ok(BodyHash::of(&request_body::whole(exchange, matched, policy, call).await?) == *expected)
}
