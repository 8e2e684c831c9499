//! What the caller passes: the parts of a request that are signed, and which rules of services apply.

use http::{HeaderMap, Method};

/// A request, as the client sent it. The body is passed as its hash.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path on the wire: neither decoded nor normalized, and before a rewrite of the gateway.
    pub path: &'a str,
    /// The query on the wire, without `?`.
    pub query: Option<&'a str>,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The authority by which the gateway finds the host, as the client sent it, if it is not that of the header
    /// `host`: `:authority` of HTTP/2, or the authority of a target in absolute form. It replaces the header, so that
    /// the signature is of the host that is used.
    pub host: Option<&'a str>,
}

/// Rules that differ between the services of AWS. The default is `execute-api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The path, which is percent-encoded on the wire, is encoded once more. Only S3 does not.
    pub double_encode: bool,
    /// Dot segments and empty segments are removed from the path. Only S3 does not.
    pub normalize: bool,
    /// The header `x-amz-security-token` may be outside of the signature. Otherwise a request where it is has no valid
    /// credential.
    pub unsigned_session_token: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { double_encode: true, normalize: true, unsigned_session_token: false }
    }
}
