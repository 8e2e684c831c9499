//! The credential of a request: where a token may be, and which place is used. Nothing is verified here.

use http::{HeaderMap, HeaderName};
use sluice_wire::TokenSource;

use super::token_error::TokenError;

/// A longer token is rejected without parsing.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// A place where a request can carry a token.
#[derive(Debug)]
pub(super) struct Source {
    header: HeaderName,
    scheme: Option<String>,
}

impl Source {
    pub(super) fn compile(part: &TokenSource) -> Option<Self> {
        let header = HeaderName::from_bytes(part.header.as_bytes()).ok()?;
        Some(Self { header, scheme: part.scheme.clone() })
    }

    pub(super) fn header(&self) -> &HeaderName {
        &self.header
    }
}

/// The token of a request and its header. The first place that has a token is used.
pub(super) fn find<'a, 's>(
    sources: &'s [Source],
    headers: &'a HeaderMap,
) -> Result<(&'a str, &'s HeaderName), TokenError> {
    for source in sources {
        let mut values = headers.get_all(&source.header).iter();
        let Some(value) = values.next() else { continue };
        // The backend might use the other one.
        if values.next().is_some() {
            return Err(TokenError::Repeated);
        }
        // Not `to_str`, which checks each byte of a long token separately.
        let text = std::str::from_utf8(value.as_bytes()).map_err(|_| TokenError::Malformed)?.trim_ascii();
        let token = match &source.scheme {
            None => text,
            Some(scheme) => match text.split_once(' ') {
                Some((found, rest)) if found.eq_ignore_ascii_case(scheme) => rest.trim_ascii(),
                None if text.eq_ignore_ascii_case(scheme) => return Err(TokenError::Malformed),
                _ => continue,
            },
        };
        if token.is_empty() {
            continue;
        }
        return if token.len() <= MAX_TOKEN_BYTES { Ok((token, &source.header)) } else { Err(TokenError::TooLong) };
    }
    Err(TokenError::Missing)
}
