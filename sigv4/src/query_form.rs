//! Credentials in a query (presigned URLs): `X-Amz-Algorithm`, `X-Amz-Credential` and so on.

use std::borrow::Cow;

use http::HeaderMap;

use crate::canonical::{SIGNATURE_PARAMETER, is_named, parameters_of};
use crate::encode::decoded;
use crate::error::{Incomplete, Missing};
use crate::fields::{Fields, Form, set, take};
use crate::header_form;
use crate::limits::{MAX_AUTHORIZATION, MAX_CREDENTIAL, MAX_SESSION_TOKEN};

const ALGORITHM: &str = "X-Amz-Algorithm";

/// Names of parameters with their caps. The last one is a header that clients move to the query with other capitals.
const NAMES: [(&str, usize); 8] = [
    (ALGORITHM, 64),
    ("X-Amz-Credential", MAX_CREDENTIAL),
    (SIGNATURE_PARAMETER, 128),
    ("X-Amz-SignedHeaders", MAX_AUTHORIZATION),
    ("X-Amz-Date", 64),
    ("X-Amz-Expires", 16),
    ("X-Amz-Security-Token", MAX_SESSION_TOKEN),
    (CONTENT_HASH, 64),
];

const CONTENT_HASH: &str = "X-Amz-Content-Sha256";

/// Whether a query has a credential: AWS decides by the algorithm.
pub(crate) fn is_presented(query: &str) -> bool {
    parameters_of(query).any(|(name, _)| is_named(name, ALGORITHM))
}

/// Reads the parts of a credential from a query.
pub(crate) fn read<'a>(headers: &'a HeaderMap, query: &str) -> Result<Fields<'a>, Incomplete> {
    let mut values: [Option<Cow<'a, str>>; NAMES.len()] = Default::default();
    for (name, value) in parameters_of(query) {
        let Some(at) = NAMES.iter().position(|(known, _)| is_parameter(name, known)) else { continue };
        let (what, max) = NAMES[at];
        // Escapes have three characters.
        if value.len() > 3 * max {
            return Err(Incomplete::TooLong { what, max });
        }
        let value = String::from_utf8_lossy(&decoded(value).collect::<Vec<u8>>()).into_owned();
        set(&mut values[at], what, Cow::Owned(value), max)?;
    }
    let [algorithm, credential, signature, signed_headers, date, expires, session_token, content_hash] = values;
    let mut missing = Missing::default();
    let fields = Fields {
        algorithm: take(algorithm, &mut missing.algorithm),
        credential: take(credential, &mut missing.credential),
        signature: take(signature, &mut missing.signature),
        signed_headers: take(signed_headers, &mut missing.signed_headers),
        date: take(date, &mut missing.date),
        session_token,
        content_hash: header_form::content_hash(headers)?.or(content_hash),
        form: Form::Query(expires),
    };
    if missing != Missing::default() {
        return Err(Incomplete::MissingInQuery { missing });
    }
    Ok(fields)
}

fn is_parameter(encoded: &str, known: &str) -> bool {
    if known == CONTENT_HASH {
        return decoded(encoded)
            .map(|byte| byte.to_ascii_lowercase())
            .eq(known.bytes().map(|b| b.to_ascii_lowercase()));
    }
    is_named(encoded, known)
}
