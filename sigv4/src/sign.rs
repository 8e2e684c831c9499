//! Signs requests: for clients, tools and tests.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::header::{AUTHORIZATION, HOST, InvalidHeaderValue};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::body::BodyHash;
use crate::canonical::{self, ALGORITHM, Canonical};
use crate::encode::{hex, push_encoded};
use crate::key::{TERMINATOR, signing_key};
use crate::limits::MAX_EXPIRES;
use crate::request::{Options, RequestParts};
use crate::time;

const DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SESSION_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const CONTENT_HASH: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// Headers that change on the way or are of one connection. Clients of AWS do not sign them.
const UNSIGNED: [&str; 15] = [
    "authorization",
    "baggage",
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-amzn-trace-id",
];

/// A request cannot be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The access key id, the region, the service or the session token cannot be part of a header.
    #[error("access key id, region, service and session token must consist of visible characters")]
    Header,
    /// The time for which a presigned request is valid.
    #[error("a presigned request is valid for at least 1 second and at most 604800 seconds")]
    Expires,
}

impl From<InvalidHeaderValue> for SignError {
    fn from(_: InvalidHeaderValue) -> Self {
        Self::Header
    }
}

/// Signs requests with one secret access key, for one region and service, at one time.
#[derive(Clone, Copy)]
pub struct Signer<'a> {
    access_key_id: &'a str,
    secret: &'a str,
    session_token: Option<&'a str>,
    region: &'a str,
    service: &'a str,
    epoch: u64,
    options: Options,
}

impl<'a> Signer<'a> {
    /// A signer without a session token, with the default options.
    pub fn new(access_key_id: &'a str, secret: &'a str, region: &'a str, service: &'a str, time: SystemTime) -> Self {
        let (epoch, options) = (time::epoch(time), Options::default());
        Self { access_key_id, secret, session_token: None, region, service, epoch, options }
    }

    /// Adds the session token of temporary credentials.
    pub fn with_session_token(self, token: &'a str) -> Self {
        Self { session_token: Some(token), ..self }
    }

    /// Changes the options.
    pub fn with_options(self, options: Options) -> Self {
        Self { options, ..self }
    }

    /// Signs a request with a header. Returns the headers to add to it, in place of those that it has: `authorization`,
    /// `x-amz-date`, with a session token `x-amz-security-token`, and `x-amz-content-sha256` if the body is not signed.
    pub fn sign(&self, request: &RequestParts<'_>, body: &BodyHash) -> Result<HeaderMap, SignError> {
        let mut added = HeaderMap::new();
        added.insert(DATE, HeaderValue::try_from(time::basic(self.epoch))?);
        if let Some(token) = self.session_token {
            added.insert(SESSION_TOKEN, HeaderValue::from_str(token)?);
        }
        if !matches!(body, BodyHash::Sha256(_)) {
            added.insert(CONTENT_HASH, HeaderValue::try_from(body.to_string())?);
        }
        let mut headers = request.headers.clone();
        headers.extend(added.clone());
        let signed_headers = self.signed_headers(&headers);
        let request = RequestParts { headers: &headers, ..*request };
        let signature = self.signature(&request, &signed_headers, false, body);
        let (id, scope) = (self.access_key_id, self.scope());
        let authorization =
            format!("{ALGORITHM} Credential={id}/{scope}, SignedHeaders={signed_headers}, Signature={signature}");
        added.insert(AUTHORIZATION, HeaderValue::try_from(authorization)?);
        Ok(added)
    }

    /// Signs a request with its query, so that its URL is valid for a time. Returns the query to use in place of that
    /// of the request. Headers that the request has, except `host`, have to be sent with it.
    pub fn presign(&self, request: &RequestParts<'_>, expires: Duration, body: &BodyHash) -> Result<String, SignError> {
        if !(1..=u64::from(MAX_EXPIRES)).contains(&expires.as_secs()) {
            return Err(SignError::Expires);
        }
        let signed_headers = self.signed_headers(request.headers);
        let mut query = request.query.unwrap_or_default().as_bytes().to_vec();
        let mut push = |name: &str, value: &str| {
            if !query.is_empty() {
                query.push(b'&');
            }
            query.extend_from_slice(name.as_bytes());
            query.push(b'=');
            value.bytes().for_each(|byte| push_encoded(&mut query, byte));
        };
        push("X-Amz-Algorithm", ALGORITHM);
        push("X-Amz-Credential", &format!("{}/{}", self.access_key_id, self.scope()));
        push("X-Amz-Date", &time::basic(self.epoch));
        push("X-Amz-Expires", &expires.as_secs().to_string());
        push("X-Amz-SignedHeaders", &signed_headers);
        if let Some(token) = self.session_token {
            push("X-Amz-Security-Token", token);
        }
        if !matches!(body, BodyHash::Sha256(_)) {
            push("X-Amz-Content-Sha256", &body.to_string());
        }
        let query = String::from_utf8_lossy(&query).into_owned();
        let request = RequestParts { query: Some(&query), ..*request };
        let signature = self.signature(&request, &signed_headers, true, body);
        Ok(format!("{query}&X-Amz-Signature={signature}"))
    }

    fn signature(&self, request: &RequestParts<'_>, signed_headers: &str, presigned: bool, body: &BodyHash) -> String {
        let canonical = Canonical { request, signed_headers, presigned, body, options: self.options }.request();
        let to_sign = canonical::string_to_sign(self.epoch, &self.scope(), &canonical);
        let key = signing_key(self.secret, &time::day(self.epoch), self.region, self.service);
        hex(&key.sign(&to_sign))
    }

    fn scope(&self) -> String {
        format!("{}/{}/{}/{TERMINATOR}", time::day(self.epoch), self.region, self.service)
    }

    fn signed_headers(&self, headers: &HeaderMap) -> String {
        let is_signed = |name: &&str| {
            let is_unsigned_token = self.options.unsigned_session_token && *name == SESSION_TOKEN.as_str();
            !is_unsigned_token && !UNSIGNED.contains(name)
        };
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).filter(is_signed).collect();
        if !headers.contains_key(HOST) {
            names.push(HOST.as_str());
        }
        names.sort_unstable();
        names.join(";")
    }
}

/// Without the secret access key and the session token.
impl fmt::Debug for Signer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (id, scope) = (self.access_key_id, self.scope());
        f.debug_struct("Signer").field("access_key_id", &id).field("scope", &scope).finish_non_exhaustive()
    }
}
