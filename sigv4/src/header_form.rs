//! Credentials in headers: `authorization`, `x-amz-date` or `date`, `x-amz-security-token`, `x-amz-content-sha256`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue};

use crate::error::{Incomplete, Missing};
use crate::fields::{Fields, Form, set, take};
use crate::limits::{MAX_AUTHORIZATION, MAX_CREDENTIAL, MAX_SESSION_TOKEN};
use crate::parts::{parts, split_once};

/// No date and no hash is longer.
const MAX_SHORT: usize = 64;

/// Reads the parts of a credential from the header `authorization` and those beside it.
pub(crate) fn read<'a>(headers: &'a HeaderMap, authorization: &'a HeaderValue) -> Result<Fields<'a>, Incomplete> {
    check_length(authorization, "Authorization", MAX_AUTHORIZATION)?;
    let header = || String::from_utf8_lossy(authorization.as_bytes()).into_owned();
    // A header that is no text has none of the parameters.
    let (algorithm, parameters) = split_algorithm(std::str::from_utf8(authorization.as_bytes()).unwrap_or_default());
    let (mut credential, mut signed_headers, mut signature) = (None, None, None);
    // AWS separates with commas, white space, or both.
    for part in parts(parameters, |byte| matches!(byte, b',' | b' ' | b'\t')).filter(|part| !part.is_empty()) {
        let Some((name, value)) = split_once(part, b'=') else {
            return Err(Incomplete::NoEqualSign { part: part.to_owned(), header: header() });
        };
        let value = Cow::Borrowed(value);
        match name {
            "Credential" => set(&mut credential, "Credential", value, MAX_CREDENTIAL)?,
            "SignedHeaders" => set(&mut signed_headers, "SignedHeaders", value, MAX_AUTHORIZATION)?,
            "Signature" => set(&mut signature, "Signature", value, MAX_AUTHORIZATION)?,
            _ => {}
        }
    }
    let (date, date_header) = match value_of(headers, "x-amz-date", MAX_SHORT)? {
        Some(date) => (Some(date), "x-amz-date"),
        None => (value_of(headers, "date", MAX_SHORT)?, "date"),
    };
    let mut missing = Missing::default();
    let fields = Fields {
        algorithm: Cow::Borrowed(algorithm),
        credential: take(credential, &mut missing.credential),
        signature: take(signature, &mut missing.signature),
        signed_headers: take(signed_headers, &mut missing.signed_headers),
        date: take(date, &mut missing.date),
        session_token: value_of(headers, "x-amz-security-token", MAX_SESSION_TOKEN)?,
        content_hash: content_hash(headers)?,
        form: Form::Header(date_header),
    };
    if missing != Missing::default() {
        return Err(Incomplete::MissingInHeader { missing, header: header() });
    }
    Ok(fields)
}

/// The header `x-amz-content-sha256`.
pub(crate) fn content_hash(headers: &HeaderMap) -> Result<Option<Cow<'_, str>>, Incomplete> {
    value_of(headers, "x-amz-content-sha256", MAX_SHORT)
}

/// The only value of a header.
pub(crate) fn single<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a HeaderValue>, Incomplete> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        _ => Err(Incomplete::Repeated { what: name }),
    }
}

fn value_of<'a>(headers: &'a HeaderMap, name: &'static str, max: usize) -> Result<Option<Cow<'a, str>>, Incomplete> {
    single(headers, name)?.map(|value| text_of(value, name, max)).transpose()
}

fn text_of<'a>(value: &'a HeaderValue, what: &'static str, max: usize) -> Result<Cow<'a, str>, Incomplete> {
    check_length(value, what, max)?;
    // Nearly every value is valid, and that is found faster than what is to be replaced.
    let valid = std::str::from_utf8(value.as_bytes());
    Ok(valid.map_or_else(|_| String::from_utf8_lossy(value.as_bytes()), Cow::Borrowed))
}

fn check_length(value: &HeaderValue, what: &'static str, max: usize) -> Result<(), Incomplete> {
    if value.len() > max { Err(Incomplete::TooLong { what, max }) } else { Ok(()) }
}

fn split_algorithm(header: &str) -> (&str, &str) {
    let text = header.trim_ascii();
    let end = text.bytes().position(|byte| matches!(byte, b' ' | b'\t'));
    let split = end.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
    split.unwrap_or((header, ""))
}
