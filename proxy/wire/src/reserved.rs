//! Headers that rules cannot change, because the proxy writes them itself. The operator and the proxy have this one list.

use crate::is_spoofable;

/// Which message a header belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request to the integration.
    Request,
    /// A response to the client, also one that the proxy makes itself.
    Response,
}

/// Why a header cannot be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reserved {
    /// It belongs to one connection (RFC 9110, 7.6.1).
    #[error("is a hop-by-hop header")]
    HopByHop,
    /// It frames the message or names its host.
    #[error("belongs to the framing of the message")]
    Framing,
    /// It contains the origin of the request.
    #[error("is set by the proxy for each request")]
    Forwarding,
    /// It has the request's ID.
    #[error("has the request ID, which the proxy sets")]
    RequestId,
}

/// Hop-by-hop headers (RFC 9110, 7.6.1), and headers that older proxies treat as such. The name is in lower case.
#[inline]
#[must_use]
pub fn is_hop_by_hop(name: &str) -> bool {
    // Compared as text: the compiler compares the lengths first.
    matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

/// Whether the proxy removes the header from requests before it matches rules, unless the Stage forwards it. The name is in
/// lower case.
#[must_use]
pub fn is_removed_from_requests(name: &str) -> bool {
    is_hop_by_hop(name) || is_spoofable(name)
}

/// Why a rule cannot change the header; none: it can. The name is in lower case.
#[must_use]
pub fn reserved(message: Message, name: &str) -> Option<Reserved> {
    match (message, name) {
        (_, name) if is_hop_by_hop(name) => Some(Reserved::HopByHop),
        (_, "content-length" | "expect" | "host") => Some(Reserved::Framing),
        (
            Message::Request,
            "cdn-loop" | "client-cert" | "client-cert-chain" | "forwarded" | "x-forwarded-for" | "x-forwarded-host"
            | "x-forwarded-port" | "x-forwarded-proto",
        ) => Some(Reserved::Forwarding),
        (Message::Response, "apigw-requestid" | "x-amz-apigw-id" | "x-amzn-requestid" | "x-request-id") => {
            Some(Reserved::RequestId)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_proxy_are_reserved_in_their_own_message() {
        use Message::{Request, Response};
        for (name, in_request, in_response) in [
            ("transfer-encoding", Some(Reserved::HopByHop), Some(Reserved::HopByHop)),
            ("http2-settings", Some(Reserved::HopByHop), Some(Reserved::HopByHop)),
            ("host", Some(Reserved::Framing), Some(Reserved::Framing)),
            ("x-forwarded-for", Some(Reserved::Forwarding), None),
            ("x-request-id", None, Some(Reserved::RequestId)),
            ("client-cert", Some(Reserved::Forwarding), None),
            ("via", None, None),
        ] {
            assert_eq!((reserved(Request, name), reserved(Response, name)), (in_request, in_response), "{name}");
        }
    }
}
