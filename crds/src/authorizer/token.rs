//! Where a token is in a request, and the claims that it must have.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::field::{Duration, HEADER_NAME};

/// A place where a request carries its token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.header), has(self.query), has(self.cookie), has(self.webSocketProtocol)].exists_one(place, place)",
    "message": "a place of tokens requires exactly one of header, query, cookie and webSocketProtocol"
}, {
    "rule": "!has(self.scheme) || has(self.header)",
    "message": "scheme requires header"
}]))]
pub struct TokenFrom {
    /// The header. Unset: the token is in another place. Example: `authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub header: Option<String>,
    /// The scheme before the token in the header, not case-sensitive. Unset: the whole header value is the token.
    /// Example: `Bearer`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = crate::field::TOKEN_SCHEME))]
    pub scheme: Option<String>,
    /// The query parameter, which is never forwarded. URLs are stored in histories and logs of other programs: use it only
    /// where clients cannot send a header. Unset: the token is in another place. Example: `access_token`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub query: Option<String>,
    /// The cookie. Browsers send it with requests that other sites cause, unless it is `SameSite`. Unset: the token is in
    /// another place. Example: `session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub cookie: Option<String>,
    /// What the name of a WebSocket subprotocol (`Sec-WebSocket-Protocol`) begins with; the rest of the name is the token. For
    /// browsers, which send no other header with a WebSocket. The subprotocol is never forwarded, so that a client must offer
    /// a second one that the backend selects. Unset: the token is in another place. Example: `bearer.`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = HEADER_NAME))]
    pub web_socket_protocol: Option<String>,
}

pub(super) fn claims_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 16,
        "additionalProperties": {"type": "string", "maxLength": 1024},
    })
}

pub(super) fn default_token_from() -> Vec<TokenFrom> {
    let (header, scheme) = (Some("authorization".to_owned()), Some("Bearer".to_owned()));
    vec![TokenFrom { header, scheme, ..TokenFrom::default() }]
}

pub(super) const fn default_clock_skew() -> Duration {
    Duration::from_secs(60)
}
