//! `GetCallerIdentity`: names the caller of a signed request.

use std::time::{Duration, SystemTime};

use k8s_openapi::jiff::Timestamp;
use sluice_session::{Sealed, Session, SessionKey, assumed_role};
use sluice_sigv4::{BodyHash, Options, Presented, RequestParts, signing_key};

use crate::objects::ObjectKey;
use crate::sts::callers::{Callers, NotReady};
use crate::sts::fault::Fault;
use crate::sts::xml::Element;

/// As for AWS.
const CLOCK_SKEW: Duration = Duration::from_secs(300);
const SERVICE: &str = "sts";

/// A caller whose signature is not verified yet.
struct Claimed {
    account: String,
    arn: String,
    id: String,
    secret: String,
}

/// The fields of the result.
pub(super) fn caller(
    callers: &Callers,
    request: &RequestParts<'_>,
    body: &[u8],
    now: Timestamp,
) -> Result<Vec<Element>, Fault> {
    let incomplete = |error: sluice_sigv4::Incomplete| Fault::forbidden("IncompleteSignature", error.redacted());
    let presented = Presented::find(request.headers, request.query, Options::default()).map_err(incomplete)?;
    let missing = || Fault::forbidden("MissingAuthenticationToken", "Request is missing Authentication Token");
    let presented = presented.ok_or_else(missing)?;
    let mismatch = |text: String| Fault::forbidden("SignatureDoesNotMatch", text);
    presented.check_time(SystemTime::from(now), CLOCK_SKEW).map_err(|error| mismatch(error.to_string()))?;
    presented.check_scope(|_| true, SERVICE).map_err(|error| mismatch(error.to_string()))?;
    let claimed = match presented.session_token() {
        Some(token) => session(callers, token, presented.access_key_id(), now)?,
        None => access_key(callers, presented.access_key_id())?,
    };
    let hash = BodyHash::of(body);
    if presented.declared_body().is_some_and(|declared| *declared != hash) {
        return Err(mismatch("The body does not have the hash that x-amz-content-sha256 states.".to_owned()));
    }
    let key = signing_key(&claimed.secret, presented.date(), presented.region(), presented.service());
    // Without the texts that were signed: they can have a token.
    presented.verify(&key, request, &hash).map_err(|_| {
        let why = "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
                   Key and signing method.";
        mismatch(why.to_owned())
    })?;
    Ok(vec![
        Element::text("Arn", claimed.arn),
        Element::text("UserId", claimed.id),
        Element::text("Account", claimed.account),
    ])
}

fn not_ready(_: NotReady) -> Fault {
    Fault::unavailable("The configuration is not loaded yet. Try again")
}

fn unknown() -> Fault {
    Fault::forbidden("InvalidClientTokenId", "The security token included in the request is invalid.")
}

fn access_key(callers: &Callers, id: &str) -> Result<Claimed, Fault> {
    let (key, caller) = callers.with_access_key(id).map_err(not_ready)?.ok_or_else(unknown)?;
    let secret = caller.access_keys.iter().find(|(known, _)| known == id).ok_or_else(unknown)?;
    let (account, arn, secret) = (caller.account.clone(), caller.arn.clone(), secret.1.0.clone());
    Ok(Claimed { account, arn, id: key.to_string(), secret })
}

fn session(callers: &Callers, token: &str, id: &str, now: Timestamp) -> Result<Claimed, Fault> {
    let sealed = Sealed::parse(token).ok_or_else(unknown)?;
    let (namespace, name) = sealed.role().split_once('/').ok_or_else(unknown)?;
    let key = ObjectKey::new(namespace, name);
    let caller = callers.named(&key).map_err(not_ready)?.ok_or_else(unknown)?;
    let role = caller.role.as_ref().ok_or_else(unknown)?;
    let opened = sealed.open(&SessionKey::derive(role.seed.0.as_bytes(), sealed.date())).map_err(|_| unknown())?;
    let Session { access_key_id, secret_access_key, name, expires, .. } = opened;
    if access_key_id != id {
        return Err(unknown());
    }
    if i64::try_from(expires).is_ok_and(|expires| expires <= now.as_second()) {
        return Err(Fault::forbidden("ExpiredToken", "The security token included in the request is expired"));
    }
    let arn = assumed_role(&caller.arn, &name).ok_or_else(unknown)?;
    Ok(Claimed { account: caller.account.clone(), arn, id: format!("{key}:{name}"), secret: secret_access_key })
}
