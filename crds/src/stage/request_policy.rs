//! What a Stage does with requests that two programs could interpret differently.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the proxy does with requests that two programs could interpret differently. In each field, `Reject` means status 400.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RequestPolicy {
    /// `%2F`, `%5C` and backslashes in the path. `Decode`: they become slashes. `Forward`: they are part of a segment, so `{id}`
    /// captures `a%2Fb`; a path that would match another rule if it were decoded is rejected. Unset: `Reject`; with
    /// `behavior: AwsRest`, `Forward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The schema of an optional enum has the description of the enum; so has each of these.
    #[schemars(with = "EncodedSlashes")]
    pub encoded_slashes: Option<EncodedSlashes>,
    /// `%25` and two hexadecimal digits in the path. `Forward`: unchanged; a path that would match another rule if it were
    /// decoded once more is rejected. Unset: `Reject`; with `behavior: AwsRest`, `Forward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DoubleEncoding")]
    pub double_encoding: Option<DoubleEncoding>,
    /// `;` and `%3B` in the path, with what follows in the segment. `Drop`: they are removed. `Forward`: they are ignored for
    /// matching, captured and forwarded. Unset: `Reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Semicolons")]
    pub semicolons: Option<Semicolons>,
    /// `//` in the path. `Collapse`: several slashes become one. `Forward`: empty segments are ignored for matching, and
    /// forwarded, apart from those at the beginning. Unset: `Reject`; with AWS's behaviors, `Forward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "EmptySegments")]
    pub empty_segments: Option<EmptySegments>,
    /// Characters in the path that must be percent-encoded (RFC 3986), such as `|` and `é`. `Encode`: they are
    /// percent-encoded. Unset: `Reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "PathCharacters")]
    pub path_characters: Option<PathCharacters>,
    /// The same in the query, such as `[` and `|`. `Encode`: they are percent-encoded. `Forward`: unchanged. Unset:
    /// `Forward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "QueryCharacters")]
    pub query_characters: Option<QueryCharacters>,
    /// Headers whose names have other characters than letters, digits and hyphens, such as `x_user`. `Drop`: the header is
    /// removed. `Forward`: it is forwarded, unless it is another spelling of a header that the proxy reads, sets or removes, or
    /// of another header of the request. Unset: `Reject`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderNames")]
    pub header_names: Option<HeaderNames>,
    /// Headers whose values have characters outside ASCII. `Drop`: the header is removed. `Forward`: unchanged; in headers that
    /// control the connection they are rejected. Unset: `Forward`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "HeaderValues")]
    pub header_values: Option<HeaderValues>,
}

/// `%2F`, `%5C` and backslashes in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EncodedSlashes {
    /// The request is rejected.
    Reject,
    /// They become slashes.
    Decode,
    /// They are part of a segment.
    Forward,
}

/// Double encoding in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum DoubleEncoding {
    /// The request is rejected.
    Reject,
    /// It is forwarded unchanged.
    Forward,
}

/// Semicolons in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Semicolons {
    /// The request is rejected.
    Reject,
    /// They are removed, with what follows in the segment.
    Drop,
    /// They are ignored for matching, and forwarded.
    Forward,
}

/// Empty segments in the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum EmptySegments {
    /// The request is rejected.
    Reject,
    /// They are removed.
    Collapse,
    /// They are ignored for matching, and forwarded.
    Forward,
}

/// Characters in the path that must be percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum PathCharacters {
    /// The request is rejected.
    Reject,
    /// They are percent-encoded.
    Encode,
}

/// Characters in the query that must be percent-encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum QueryCharacters {
    /// The request is rejected.
    Reject,
    /// They are percent-encoded.
    Encode,
    /// They are forwarded unchanged.
    Forward,
}

/// Header names with other characters than letters, digits and hyphens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HeaderNames {
    /// The request is rejected.
    Reject,
    /// The header is removed.
    Drop,
    /// The header is forwarded.
    Forward,
}

/// Header values with characters outside ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum HeaderValues {
    /// The request is rejected.
    Reject,
    /// The header is removed.
    Drop,
    /// The header is forwarded unchanged.
    Forward,
}
