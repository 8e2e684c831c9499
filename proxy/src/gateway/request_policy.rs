//! The settings for ambiguous requests of one Stage: its own, those of the fleet, and the defaults of its behavior.

use std::borrow::Cow;

use sluice_wire::{
    Behavior, DoubleEncoding, EmptySegments, EncodedSlashes, HeaderNames, HeaderValues, PathCharacters,
    QueryCharacters, RequestPolicy, Semicolons,
};

use super::path::{self, BadPath, Canonical, Traits};

/// A value for each setting.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResolvedPolicy {
    encoded_slashes: EncodedSlashes,
    double_encoding: DoubleEncoding,
    semicolons: Semicolons,
    empty_segments: EmptySegments,
    path_characters: PathCharacters,
    pub(crate) query_characters: QueryCharacters,
    pub(crate) header_names: HeaderNames,
    pub(crate) header_values: HeaderValues,
}

impl ResolvedPolicy {
    /// The defaults reject what could bypass a rule. AWS REST APIs match percent-encoded paths as they are received, and
    /// both kinds of AWS's APIs accept empty segments.
    pub(crate) fn new(set: RequestPolicy, behavior: Behavior) -> Self {
        let rest = behavior == Behavior::AwsRest;
        let (slashes, twice) = match rest {
            true => (EncodedSlashes::Forward, DoubleEncoding::Forward),
            false => (EncodedSlashes::Reject, DoubleEncoding::Reject),
        };
        let empty = if behavior == Behavior::Native { EmptySegments::Reject } else { EmptySegments::Forward };
        Self {
            encoded_slashes: set.encoded_slashes.unwrap_or(slashes),
            double_encoding: set.double_encoding.unwrap_or(twice),
            semicolons: set.semicolons.unwrap_or(Semicolons::Reject),
            empty_segments: set.empty_segments.unwrap_or(empty),
            path_characters: set.path_characters.unwrap_or(PathCharacters::Reject),
            query_characters: set.query_characters.unwrap_or(QueryCharacters::Forward),
            header_names: set.header_names.unwrap_or(HeaderNames::Reject),
            header_values: set.header_values.unwrap_or(HeaderValues::Forward),
        }
    }

    /// The canonical path of a request at this Stage. An error: it is rejected.
    pub(crate) fn path<'a>(&self, path: Canonical<'a>) -> Result<Canonical<'a>, BadPath> {
        let Canonical { mut text, mut traits } = path;
        if traits.has(Traits::CHARACTER) {
            match self.path_characters {
                PathCharacters::Reject => {
                    return Err(BadPath("The path has a character that must be percent-encoded."));
                }
                PathCharacters::Encode => text = Cow::Owned(path::encode(&text, path::in_path)),
            }
        }
        if traits.has(Traits::ENCODED_SLASH) {
            match self.encoded_slashes {
                EncodedSlashes::Reject => {
                    return Err(BadPath("The path must not have an encoded slash or backslash."));
                }
                EncodedSlashes::Decode => {
                    let decoded = path::decode_slashes(&text);
                    traits = path::canonical(&decoded)?.traits;
                    text = Cow::Owned(decoded);
                }
                EncodedSlashes::Forward => {}
            }
        }
        if traits.has(Traits::DOUBLE_ENCODING) && self.double_encoding == DoubleEncoding::Reject {
            return Err(BadPath("The path must not be encoded twice."));
        }
        if traits.has(Traits::SEMICOLON) && self.semicolons == Semicolons::Reject {
            return Err(BadPath("The path must not have a semicolon."));
        }
        if traits.has(Traits::EMPTY_SEGMENT) {
            match self.empty_segments {
                EmptySegments::Reject => return Err(BadPath("The path must not have empty segments.")),
                EmptySegments::Collapse => text = Cow::Owned(path::collapse(&text)),
                EmptySegments::Forward => {}
            }
        }
        if traits.has(Traits::SEMICOLON) && self.semicolons == Semicolons::Drop {
            text = Cow::Owned(path::drop_parameters(&text));
        }
        if traits.has(Traits::EMPTY_SEGMENT) {
            // Two slashes at the beginning would be a host for programs that resolve the path as a reference (RFC 3986, 4.2).
            let slashes = text.len() - text.trim_start_matches('/').len();
            text = Cow::Owned(text.get(slashes.saturating_sub(1)..).unwrap_or("/").to_owned());
        }
        let traits = path::canonical(&text)?.traits;
        Ok(Canonical { text: Cow::Owned(text.into_owned()), traits })
    }

    /// The query that is matched and forwarded; none: as the client wrote it. An error: the request is rejected.
    pub(crate) fn query(&self, query: &str) -> Result<Option<String>, BadPath> {
        if query.bytes().all(|byte| byte == b'%' || path::in_query(byte)) {
            return Ok(None);
        }
        match self.query_characters {
            QueryCharacters::Reject => Err(BadPath("The query has a character that must be percent-encoded.")),
            QueryCharacters::Encode => Ok(Some(path::encode(query, path::in_query))),
            QueryCharacters::Forward => Ok(None),
        }
    }
}
