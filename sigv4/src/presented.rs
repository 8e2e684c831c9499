//! The credential that a request presents, and its verification.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName};

use crate::body::BodyHash;
use crate::canonical::{self, ALGORITHM, Canonical};
use crate::credential::Credential;
use crate::encode::parse_hex;
use crate::error::{Incomplete, Mismatch, ScopeError, TimeError};
use crate::fields::{Fields, Form};
use crate::key::SigningKey;
use crate::limits::{MAX_EXPIRES, MAX_SIGNED_HEADERS};
use crate::parts::parts;
use crate::request::{Options, RequestParts};
use crate::{header_form, query_form, time};

/// A credential, read from a request and not yet verified.
#[derive(Clone)]
pub struct Presented {
    credential: Credential,
    /// Sorted, in lower case, joined by `;`.
    signed_headers: Box<str>,
    /// None of a text that is no signature: it matches no request.
    signature: Option<[u8; 32]>,
    epoch: u64,
    date_text: Box<str>,
    session_token: Option<Box<str>>,
    presigned: bool,
    expires: Option<u32>,
    declared_body: Option<BodyHash>,
    options: Options,
}

impl Presented {
    /// Reads the credential of a request from its headers or its query; `Ok(None)` if it presents none. A header
    /// `authorization` of another scheme is an error, as it is at AWS.
    pub fn find(headers: &HeaderMap, query: Option<&str>, options: Options) -> Result<Option<Self>, Incomplete> {
        let authorization = header_form::single(headers, "authorization")?;
        let fields = match (authorization, query.filter(|query| query_form::is_presented(query))) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => return Err(Incomplete::HeaderAndQuery),
            (Some(authorization), None) => header_form::read(headers, authorization)?,
            (None, Some(query)) => query_form::read(headers, query)?,
        };
        Self::from_fields(headers, fields, options).map(Some)
    }

    /// Checks in the order of AWS.
    fn from_fields(headers: &HeaderMap, fields: Fields<'_>, options: Options) -> Result<Self, Incomplete> {
        let epoch = match fields.form {
            Form::Header("date") => time::parse_date_header(&fields.date),
            _ => time::parse_basic(&fields.date),
        };
        let Some(epoch) = epoch else { return Err(Incomplete::Date(fields.date.into_owned())) };
        let signed_headers = signed_headers(&fields.signed_headers)?;
        check_signed(&signed_headers, "host")?;
        if fields.algorithm != ALGORITHM {
            return Err(Incomplete::Algorithm(fields.algorithm.into_owned()));
        }
        let credential = Credential::parse(&fields.credential)?;
        let (presigned, expires) = match &fields.form {
            Form::Query(expires) => (true, expires.as_deref().map(parse_expires).transpose()?),
            Form::Header(date) => {
                check_signed(&signed_headers, date)?;
                (false, None)
            }
        };
        for name in headers.keys().map(HeaderName::as_str).filter(|name| must_be_signed(name, options)) {
            check_signed(&signed_headers, name)?;
        }
        let declared_body =
            fields.content_hash.map(|text| BodyHash::parse(&text).ok_or(Incomplete::ContentHash)).transpose()?;
        let session_token = fields.session_token.filter(|token| !token.is_empty());
        if session_token.as_ref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(Incomplete::SessionToken);
        }
        Ok(Self {
            credential,
            signed_headers,
            signature: parse_hex(&fields.signature),
            epoch,
            date_text: fields.date.into(),
            session_token: session_token.map(Into::into),
            presigned,
            expires,
            declared_body,
            options,
        })
    }

    /// The access key id.
    pub fn access_key_id(&self) -> &str {
        self.credential.access_key_id()
    }

    /// The day of the scope, `YYYYMMDD`. Until [`check_time`](Self::check_time) it can be any text.
    pub fn date(&self) -> &str {
        self.credential.date()
    }

    /// The region of the scope.
    pub fn region(&self) -> &str {
        self.credential.region()
    }

    /// The service of the scope.
    pub fn service(&self) -> &str {
        self.credential.service()
    }

    /// When the request was signed, in seconds since 1970.
    pub fn timestamp(&self) -> u64 {
        self.epoch
    }

    /// When the request was signed, as the request says it.
    pub fn timestamp_text(&self) -> &str {
        &self.date_text
    }

    /// The names of the signed headers, in lower case and sorted.
    pub fn signed_headers(&self) -> impl Iterator<Item = &str> {
        names(&self.signed_headers)
    }

    /// The session token of temporary credentials.
    pub fn session_token(&self) -> Option<&str> {
        self.session_token.as_deref()
    }

    /// Whether the credential is in the query.
    pub fn is_presigned(&self) -> bool {
        self.presigned
    }

    /// For how many seconds a presigned request is valid. Without this parameter it is valid as long as a request with
    /// headers.
    pub fn expires(&self) -> Option<u32> {
        self.expires
    }

    /// What the request declares about its body (`x-amz-content-sha256`). Without a declaration the signature covers
    /// the hash of the body, also in a presigned request.
    pub fn declared_body(&self) -> Option<&BodyHash> {
        self.declared_body.as_ref()
    }

    /// Checks the time of the signature: at most `skew` before or after `now`; of a presigned request at most `skew`
    /// after, and not longer before than it allows. The scope must be of the same day.
    pub fn check_time(&self, now: SystemTime, skew: Duration) -> Result<(), TimeError> {
        let (now, skew) = (time::epoch(now), skew.as_secs());
        let age = self.expires.map_or(skew, u64::from);
        let signed = || time::basic(self.epoch);
        let (earliest, latest) = (now.saturating_sub(age), now.saturating_add(skew));
        if self.epoch < earliest {
            return Err(TimeError::Expired {
                signed: signed(),
                earliest: time::basic(earliest),
                now: time::basic(now),
                allowed: duration(age),
            });
        }
        if self.epoch > latest {
            return Err(TimeError::NotYetCurrent {
                signed: signed(),
                latest: time::basic(latest),
                now: time::basic(now),
                allowed: duration(skew),
            });
        }
        let day = time::day(self.epoch);
        if self.date() != day {
            return Err(TimeError::Scope { scope: self.date().to_owned(), day, signed: signed() });
        }
        Ok(())
    }

    /// Checks region and service of the scope.
    pub fn check_scope(&self, is_region: impl FnOnce(&str) -> bool, service: &str) -> Result<(), ScopeError> {
        let region = !is_region(self.region());
        let service = (self.service() != service).then(|| service.to_owned());
        if region || service.is_some() { Err(ScopeError { region, service }) } else { Ok(()) }
    }

    /// Verifies the signature. `body` is the hash of the body, or what the request [declares](Self::declared_body):
    /// then the caller compares a declared hash with the body itself, and decides whether it accepts
    /// [`BodyHash::Unsigned`].
    pub fn verify(&self, key: &SigningKey, request: &RequestParts<'_>, body: &BodyHash) -> Result<(), Mismatch> {
        let canonical = Canonical {
            request,
            signed_headers: &self.signed_headers,
            presigned: self.presigned,
            body,
            options: self.options,
        };
        let canonical = canonical.request();
        let to_sign = canonical::string_to_sign(self.epoch, self.credential.scope(), &canonical);
        if self.signature.is_some_and(|signature| key.verifies(&to_sign, &signature)) {
            return Ok(());
        }
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Err(Mismatch { canonical_request: text(canonical), string_to_sign: text(to_sign) })
    }
}

/// Without signature and session token.
impl fmt::Debug for Presented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented")
            .field("access_key_id", &self.access_key_id())
            .field("scope", &self.credential.scope())
            .field("timestamp", &self.date_text)
            .field("signed_headers", &self.signed_headers)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Sorted names in lower case. Clients send them like this; AWS accepts other orders and capitals.
fn signed_headers(text: &str) -> Result<Box<str>, Incomplete> {
    if text.bytes().filter(|byte| *byte == b';').count() >= MAX_SIGNED_HEADERS {
        return Err(Incomplete::ManySignedHeaders);
    }
    let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let is_usual = |name: &str| !name.is_empty() && name.bytes().all(is_lower);
    let mut before = "";
    let in_order = |name| std::mem::replace(&mut before, name) < name;
    // Names are not empty, so that the first one comes after the empty text.
    if names(text).all(is_usual) && names(text).all(in_order) {
        return Ok(text.into());
    }
    let names = names(text).map(|name| HeaderName::from_bytes(name.as_bytes()));
    let mut names = names.collect::<Result<Vec<_>, _>>().map_err(|_| Incomplete::SignedHeaders)?;
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    if names.iter().zip(names.iter().skip(1)).any(|(a, b)| a == b) {
        return Err(Incomplete::SignedHeaders);
    }
    Ok(names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(";").into())
}

/// Names that are joined by `;`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    parts(text, |byte| byte == b';')
}

fn check_signed(signed_headers: &str, name: &str) -> Result<(), Incomplete> {
    match names(signed_headers).any(|signed| signed == name) {
        true => Ok(()),
        false => Err(Incomplete::Unsigned(name.to_owned())),
    }
}

/// Whether a header must be signed if a request has it. CloudFront adds `x-amz-cf-id` to what it forwards.
fn must_be_signed(name: &str, options: Options) -> bool {
    name.starts_with("x-amz-")
        && !name.starts_with("x-amz-cf-")
        && !(options.unsigned_session_token && name == "x-amz-security-token")
}

fn parse_expires(text: &str) -> Result<u32, Incomplete> {
    let seconds = if text.bytes().all(|digit| digit.is_ascii_digit()) { text.parse().ok() } else { None };
    seconds.filter(|seconds| (1..=MAX_EXPIRES).contains(seconds)).ok_or(Incomplete::Expires)
}

/// Minutes, as AWS writes them; seconds if they are not whole.
fn duration(seconds: u64) -> String {
    if seconds.is_multiple_of(60) { format!("{} min.", seconds / 60) } else { format!("{seconds} sec.") }
}
