//! Where a token is in a request, and the claims that it must have.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::field::HEADER_NAME;

/// A place where a request carries its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenFrom {
    /// The header. Example: `authorization`.
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub header: String,
    /// The scheme before the token, not case-sensitive. Unset: the whole header value is the token. Example: `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = crate::field::TOKEN_SCHEME))]
    pub scheme: Option<String>,
}

pub(super) fn claims_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

pub(super) fn default_token_from() -> Vec<TokenFrom> {
    vec![TokenFrom { header: "authorization".to_owned(), scheme: Some("Bearer".to_owned()) }]
}
