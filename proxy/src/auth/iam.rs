//! Requests that are signed with AWS Signature Version 4. The signature is verified with a key of its day, which the operator
//! derives: the secret access key of a Principal is not here. That of a session is in its token. `pipeline` reads the body where the signature covers it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use sluice_session::Sealed;
use sluice_sigv4::{
    BodyHash, Incomplete, Mismatch, Options, Presented, RequestParts, ScopeError, SigningKey, TimeError,
};
use sluice_wire::PartName;

use super::credential::Place;
use super::decision::Decision;
use super::identity::Identity;
use super::principals::Principals;
use super::role::{Session, SessionError};
use crate::key_use::LastUse;
use crate::reject::{Reject, SignatureProblem};

/// Headers whose values a client is shown that has signed others.
const SHOWN: [&str; 6] = ["accept", "content-length", "content-md5", "content-type", "date", "host"];

/// The header with the session token of temporary credentials.
static SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// Where a request may have a credential. What is in these places is not forwarded.
pub(super) static PLACES: [Place<'static>; 9] = [
    Place::Header(&http::header::AUTHORIZATION),
    Place::Header(&SECURITY_TOKEN),
    Place::Query("X-Amz-Algorithm"),
    Place::Query("X-Amz-Credential"),
    Place::Query("X-Amz-Date"),
    Place::Query("X-Amz-Expires"),
    Place::Query("X-Amz-Security-Token"),
    Place::Query("X-Amz-Signature"),
    Place::Query("X-Amz-SignedHeaders"),
];

/// The policy of one authorizer.
pub(crate) struct Iam {
    /// The Authorizer.
    name: PartName,
    regions: Vec<String>,
    service: String,
    skew: Duration,
    unsigned_payload: bool,
    session_tokens: bool,
    principals: Principals,
}

/// A request as the client sent it, before anything of it is removed.
pub(crate) struct SignedRequest {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
}

impl SignedRequest {
    /// Whether a request could be signed. Others, such as those with tokens for other authorizers, need no copy.
    pub(crate) fn is_likely(headers: &HeaderMap, uri: &Uri) -> bool {
        let signed = |value: &HeaderValue| value.as_bytes().starts_with(b"AWS4-");
        headers.get_all(http::header::AUTHORIZATION).iter().any(signed)
            || uri.query().is_some_and(|query| query.contains("Signature"))
    }

    /// A copy of a request.
    pub(crate) fn of(parts: &Parts) -> Self {
        let Parts { method, uri, headers, .. } = parts;
        Self { method: method.clone(), uri: uri.clone(), headers: headers.clone() }
    }

    fn parts(&self) -> RequestParts<'_> {
        RequestParts {
            method: &self.method,
            path: self.uri.path(),
            query: self.uri.query(),
            headers: &self.headers,
            host: self.uri.authority().map(http::uri::Authority::as_str),
        }
    }
}

/// A credential whose signature is not verified yet.
pub(crate) struct Unverified {
    presented: Presented,
    key: SigningKey,
    identity: Arc<Identity>,
    /// None: the credentials are temporary.
    last_use: Option<Arc<LastUse>>,
}

/// Why a request is not accepted.
pub(crate) enum SignatureError {
    /// It has no credential.
    Missing,
    Incomplete(Incomplete),
    Time(TimeError),
    Scope(ScopeError),
    /// There is no such access key, or the Authorizer does not accept it.
    UnknownKey,
    /// Its session token is not valid, or the Authorizer accepts none.
    SessionToken,
    /// Its session has ended.
    SessionExpired,
    /// The operator has not sent the key of this day.
    NoSigningKey,
    Mismatch(Box<Mismatch>),
    /// The header that names the method is not signed.
    UnsignedMethod,
    /// The signature does not cover the body.
    UnsignedPayload,
    /// The body has signatures of its own, which are not supported.
    StreamingPayload,
    /// The body has another hash than the one that was signed.
    OtherBody,
}

impl Iam {
    pub(super) fn compile(name: PartName, part: &sluice_wire::Iam, principals: &Principals) -> Result<Self, String> {
        if part.regions.is_empty() || part.service.is_empty() {
            return Err("The Authorizer needs at least one region, and a service.".to_owned());
        }
        Ok(Self {
            name,
            regions: part.regions.clone(),
            service: part.service.clone(),
            skew: Duration::from_secs(part.clock_skew_s),
            unsigned_payload: part.unsigned_payload,
            session_tokens: part.session_tokens,
            principals: principals.clone(),
        })
    }

    /// Checks everything but the signature.
    pub(crate) fn find(&self, request: &SignedRequest, now: SystemTime) -> Result<Unverified, SignatureError> {
        let presented = Presented::find(&request.headers, request.uri.query(), Options::default())
            .map_err(SignatureError::Incomplete)?
            .ok_or(SignatureError::Missing)?;
        presented.check_time(now, self.skew).map_err(SignatureError::Time)?;
        let is_region = |region: &str| self.regions.iter().any(|known| known == region);
        presented.check_scope(is_region, &self.service).map_err(SignatureError::Scope)?;
        let (identity, signing_key, last_use) = match presented.session_token() {
            None => {
                let key = self.principals.find(presented.access_key_id()).filter(|key| key.is_of(&self.name));
                let key = key.ok_or(SignatureError::UnknownKey)?;
                let (date, region, service) = (presented.date(), presented.region(), presented.service());
                let signing_key = key.signing_key(date, region, service).cloned();
                (key.identity.clone(), signing_key, Some(key.last_use.clone()))
            }
            Some(token) => {
                let session = self.session(token, presented.access_key_id(), now)?;
                (session.identity.clone(), Some(session.signing_key(&presented)), None)
            }
        };
        match presented.declared_body() {
            Some(BodyHash::Unsigned) if !self.unsigned_payload => return Err(SignatureError::UnsignedPayload),
            Some(BodyHash::Streaming(_)) => return Err(SignatureError::StreamingPayload),
            Some(_) | None => {}
        }
        let key = signing_key.ok_or(SignatureError::NoSigningKey)?;
        Ok(Unverified { presented, key, identity, last_use })
    }

    /// The session of a token.
    fn session(&self, token: &str, access_key_id: &str, now: SystemTime) -> Result<Arc<Session>, SignatureError> {
        let sealed = Sealed::parse(token).filter(|_| self.session_tokens).ok_or(SignatureError::SessionToken)?;
        let role = self.principals.role(sealed.role()).filter(|role| role.is_of(&self.name));
        let role = role.ok_or(SignatureError::SessionToken)?;
        role.session(token, &sealed, access_key_id, now).map_err(|error| match error {
            SessionError::Invalid => SignatureError::SessionToken,
            SessionError::Expired => SignatureError::SessionExpired,
            SessionError::NoKey => SignatureError::NoSigningKey,
        })
    }
}

impl Unverified {
    /// What the request says that its body is; none: the signature covers the hash of the body.
    pub(crate) fn declared(&self) -> Option<&BodyHash> {
        self.presented.declared_body()
    }

    /// Whether the signature covers a header.
    pub(crate) fn is_signed(&self, header: &str) -> bool {
        self.presented.signed_headers().any(|name| name == header)
    }

    /// The caller, if the signature is that of the request, and where the use of its access key is noted.
    pub(crate) fn verify(
        self,
        request: &SignedRequest,
        body: &BodyHash,
    ) -> Result<(Arc<Identity>, Option<Arc<LastUse>>), SignatureError> {
        let Self { presented, key, identity, last_use } = self;
        match presented.verify(&key, &request.parts(), body) {
            Ok(()) => Ok((identity, last_use)),
            Err(mismatch) => Err(SignatureError::Mismatch(Box::new(mismatch))),
        }
    }
}

impl SignatureError {
    /// The reason in the access log.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "signature_missing",
            Self::Incomplete(_) | Self::UnsignedMethod => "signature_incomplete",
            Self::Time(TimeError::NotYetCurrent { .. }) => "signature_not_yet_current",
            Self::Time(_) => "signature_expired",
            Self::Scope(_) => "signature_wrong_scope",
            Self::UnknownKey => "access_key_unknown",
            Self::SessionToken => "session_token_invalid",
            Self::SessionExpired => "session_token_expired",
            Self::NoSigningKey => "signing_key_unavailable",
            Self::Mismatch(_) => "signature_mismatch",
            Self::UnsignedPayload => "payload_not_signed",
            Self::StreamingPayload => "payload_streaming",
            Self::OtherBody => "payload_mismatch",
        }
    }

    #[cfg(test)]
    pub(super) const REASONS: &'static [&'static str] = &[
        "signature_missing",
        "signature_incomplete",
        "signature_not_yet_current",
        "signature_expired",
        "signature_wrong_scope",
        "access_key_unknown",
        "session_token_invalid",
        "session_token_expired",
        "signing_key_unavailable",
        "signature_mismatch",
        "payload_not_signed",
        "payload_streaming",
        "payload_mismatch",
    ];

    /// The rejection.
    pub(crate) fn reject(&self) -> Reject {
        // The words of AWS where it has some.
        let (error_type, message) = match self {
            Self::Missing => return Reject::SignatureMissing,
            Self::NoSigningKey => return Reject::AuthorizerUnavailable,
            // Without the header, which may have a token.
            Self::Incomplete(incomplete) => (incomplete.error_type(), incomplete.redacted()),
            Self::Time(error) => (error.error_type(), error.to_string()),
            Self::Scope(error) => (error.error_type(), error.to_string()),
            Self::UnknownKey | Self::SessionToken => {
                let message = "The security token included in the request is invalid.";
                ("UnrecognizedClientException", message.to_owned())
            }
            Self::SessionExpired => {
                ("ExpiredTokenException", "The security token included in the request is expired".to_owned())
            }
            Self::Mismatch(mismatch) => (mismatch.error_type(), masked(mismatch).to_string()),
            Self::UnsignedMethod => {
                let error = Incomplete::Unsigned("x-http-method-override".to_owned());
                (error.error_type(), error.to_string())
            }
            Self::UnsignedPayload => {
                let message =
                    "The signature does not cover the body (UNSIGNED-PAYLOAD), which this API does not accept.";
                ("InvalidSignatureException", message.to_owned())
            }
            Self::StreamingPayload => {
                let message = "Bodies with signatures of their own (STREAMING-...) are not supported.";
                ("InvalidSignatureException", message.to_owned())
            }
            Self::OtherBody => {
                let message = "The body does not have the hash that x-amz-content-sha256 states.";
                ("InvalidSignatureException", message.to_owned())
            }
        };
        Reject::SignatureInvalid(Box::new(SignatureProblem { error_type, message }))
    }
}

/// The same without the values of headers that could be secret. A page in a browser can have a request sent with cookies that it
/// must not read, and a load balancer can add headers that its clients must not know.
fn masked(mismatch: &Mismatch) -> Mismatch {
    let is_shown =
        |name: &str| (name.starts_with("x-amz-") && name != SECURITY_TOKEN.as_str()) || SHOWN.contains(&name);
    let mut lines: Vec<Cow<'_, str>> = mismatch.canonical_request.split('\n').map(Cow::Borrowed).collect();
    // Method, path, query; then the headers, which end with an empty line.
    for line in lines.iter_mut().skip(3).take_while(|line| !line.is_empty()) {
        if let Some((name, _)) = line.split_once(':')
            && !is_shown(name)
        {
            *line = Cow::Owned(format!("{name}:(not shown)"));
        }
    }
    Mismatch { canonical_request: lines.join("\n"), string_to_sign: mismatch.string_to_sign.clone() }
}

impl From<SignatureError> for Decision {
    fn from(error: SignatureError) -> Self {
        Self::Reject { reject: error.reject(), reason: error.reason() }
    }
}

#[cfg(test)]
mod tests;
