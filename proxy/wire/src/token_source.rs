//! The places in which a request can carry a token.

use serde::{Deserialize, Serialize};

/// Where a token is. A proxy that does not know a place cannot read the Authorizer, and rejects the requests that depend on it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TokenSource {
    /// In a header.
    Header {
        /// Its name in lower case.
        header: String,
        /// `Bearer`; none: the whole value.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scheme: Option<String>,
    },
    /// In a query parameter.
    Query {
        /// Its name.
        query: String,
    },
    /// In a cookie.
    Cookie {
        /// Its name.
        cookie: String,
    },
    /// In the name of a WebSocket subprotocol.
    WebSocketProtocol {
        /// What the name begins with; the rest is the token.
        web_socket_protocol: String,
    },
}
