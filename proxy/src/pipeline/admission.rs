//! Admits requests that have one meaning. A request that is ambiguous whatever its Stage is, is rejected here, before any other
//! step; what a Stage decides is in `request_policy`.

use std::sync::Arc;

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Version};
use sluice_wire::{is_hop_by_hop, is_spoofable};

use super::request_policy::Unusual;
use crate::gateway::path;
use crate::headers::{self, HopByHop, Once};
use crate::reject::Reject;

/// Path and query: what the most generous behavior of a stage allows.
const MAX_TARGET: usize = 10_240;
/// Names and values of all fields.
const MAX_HEADER_BYTES: usize = 16 * 1024;
const MAX_HEADERS: usize = 100;

/// How often a request may come to a gateway before it is taken for a loop.
const MAX_PASSES: usize = 3;

/// A request with one reading.
pub(crate) struct Admitted {
    /// Lower case, without port; empty with HTTP/1.0.
    pub(crate) host: String,
    /// As the client wrote it.
    pub(crate) authority: Option<HeaderValue>,
    /// Canonical, before the policy of its Stage is applied.
    pub(crate) path: Arc<str>,
    /// What that policy decides on.
    pub(crate) unusual: Unusual,
    /// Whether the client asks for a WebSocket.
    pub(crate) websocket: bool,
}

/// Checks a request's head.
pub(crate) fn admit(parts: &Parts, fields: &Fields<'_>) -> Result<Admitted, Reject> {
    if parts.method == Method::CONNECT {
        return Err(Reject::Malformed("The method CONNECT is not supported."));
    }
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > MAX_TARGET {
        return Err(Reject::UriTooLong);
    }
    limits(parts, fields)?;
    framing(parts, fields)?;
    let authority = authority(parts, fields.host)?;
    let host = match &authority {
        Some(value) => host(value)?,
        None => String::new(),
    };
    let path = path::canonical(parts.uri.path()).map_err(|bad| Reject::Malformed(bad.0))?;
    let (names, values) = (fields.present.unusual_names, fields.unusual_values);
    let unusual = Unusual { path: path.traits, names, values };
    let websocket = fields.present.upgrade && websocket(parts);
    Ok(Admitted { host, authority, path: Arc::from(path.text.as_ref()), unusual, websocket })
}

/// What the gateway itself reads of a request's headers, found in one pass: a look-up for each name would cost more.
#[derive(Default)]
pub(crate) struct Fields<'a> {
    host: Once<'a>,
    length: Once<'a>,
    coding: Once<'a>,
    pub(crate) origin: Option<&'a HeaderValue>,
    pub(crate) present: Present,
    /// A value has characters outside ASCII.
    unusual_values: bool,
    /// A value begins or ends with white space.
    padded: bool,
    /// Of names and values.
    bytes: usize,
    /// How often the request came to a gateway before.
    passes: usize,
}

/// Headers of a request that few requests have. Removing one later does not change this.
#[derive(Clone, Copy, Default)]
pub(crate) struct Present {
    pub(crate) hop_by_hop: HopByHop,
    pub(crate) spoofable: bool,
    pub(crate) upgrade: bool,
    pub(crate) expect: bool,
    pub(crate) cookie: bool,
    /// Headers by which clients control caches: ranges, conditions and `Cache-Control`.
    pub(crate) caching: bool,
    /// Names with other characters than letters, digits and hyphens.
    pub(crate) unusual_names: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(parts: &'a Parts) -> Self {
        let mut found = Self::default();
        for (name, value) in &parts.headers {
            let name = name.as_str();
            found.bytes += name.len() + value.len();
            // No field value has control characters except the tab: hyper has rejected them.
            found.unusual_values |= !value.as_bytes().is_ascii();
            match name {
                // Most headers of most requests.
                "accept" | "accept-encoding" | "accept-language" | "authorization" | "content-type" | "referer"
                | "user-agent" | "x-api-key" => {}
                "host" => found.host.add(value),
                "content-length" => found.length.add(value),
                "cookie" => found.present.cookie = true,
                "expect" => found.present.expect = true,
                "origin" => found.origin = found.origin.or(Some(value)),
                "cdn-loop" => found.passes += headers::passes(value),
                "cache-control" | "range" => found.present.caching = true,
                name if is_hop_by_hop(name) => {
                    found.present.hop_by_hop.add(name, value);
                    match name {
                        "transfer-encoding" => found.coding.add(value),
                        "upgrade" => found.present.upgrade = true,
                        _ => {}
                    }
                }
                name => {
                    found.present.unusual_names |= !headers::is_usual(name);
                    found.present.caching |= name.starts_with("if-");
                    found.present.spoofable |= is_spoofable(name);
                }
            }
        }
        // In HTTP/1.1 white space around a value is not part of it.
        found.padded = parts.version == Version::HTTP_2 && parts.headers.values().any(headers::is_padded);
        found
    }
}

/// A fragment is not checked: the `http` crate drops `#` and what follows it, in both versions of HTTP, so a fragment is
/// neither checked nor forwarded.
fn limits(parts: &Parts, fields: &Fields<'_>) -> Result<(), Reject> {
    if parts.headers.len() > MAX_HEADERS {
        return Err(Reject::HeadersTooLarge);
    }
    if fields.padded {
        return Err(Reject::Malformed("Header values must not start or end with white space."));
    }
    if fields.passes > MAX_PASSES {
        return Err(Reject::Malformed("The request passed through this gateway too often."));
    }
    if fields.bytes > MAX_HEADER_BYTES { Err(Reject::HeadersTooLarge) } else { Ok(()) }
}

fn single<'a>(field: Once<'a>, why: &'static str) -> Result<Option<&'a HeaderValue>, Reject> {
    field.value().map_err(|_| Reject::Malformed(why))
}

fn framing(parts: &Parts, fields: &Fields<'_>) -> Result<(), Reject> {
    let length = single(fields.length, "The request must have at most one Content-Length header.")?;
    if length.is_some_and(|value| value.is_empty() || !value.as_bytes().iter().all(u8::is_ascii_digit)) {
        return Err(Reject::Malformed("Content-Length must be a number."));
    }
    let coding = single(fields.coding, "The request must have at most one Transfer-Encoding header.")?;
    let Some(coding) = coding else { return Ok(()) };
    if parts.version != Version::HTTP_11 {
        return Err(Reject::Malformed("Transfer-Encoding is allowed with HTTP/1.1 only."));
    }
    if length.is_some() {
        return Err(Reject::Malformed("Content-Length and Transfer-Encoding must not be sent together."));
    }
    if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Reject::Malformed("Transfer-Encoding must be chunked."));
    }
    Ok(())
}

fn authority(parts: &Parts, field: Once<'_>) -> Result<Option<HeaderValue>, Reject> {
    let field = single(field, "The request must have one Host header.")?;
    match (parts.uri.authority(), field) {
        (Some(authority), field) => {
            if field.is_some_and(|field| !field.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())) {
                return Err(Reject::Malformed("Host must match the request target."));
            }
            let value = HeaderValue::from_str(authority.as_str());
            value.map(Some).map_err(|_| Reject::Malformed("The host is not a valid host name."))
        }
        (None, Some(field)) => Ok(Some(field.clone())),
        (None, None) if parts.version == Version::HTTP_10 => Ok(None),
        (None, None) => Err(Reject::Malformed("The request must have one Host header.")),
    }
}

/// The host of a request that may have no reading as a whole.
pub(crate) fn host_of(parts: &Parts, fields: &Fields<'_>) -> Option<String> {
    authority(parts, fields.host).ok().flatten().and_then(|value| host(&value).ok())
}

/// `Shop.Example:8443` → `shop.example`.
fn host(authority: &HeaderValue) -> Result<String, Reject> {
    const BAD: Reject = Reject::Malformed("The host is not a valid host name.");
    let text = authority.to_str().map_err(|_| BAD)?;
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']').ok_or(BAD)?;
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(BAD);
            }
            (address, port)
        }
        None => {
            let mut end = text.len();
            for (at, byte) in text.bytes().enumerate() {
                if byte == b':' {
                    end = at;
                    break;
                }
                if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
                    return Err(BAD);
                }
            }
            let (name, port) = text.split_at(end);
            if name.is_empty() || name.len() > 253 {
                return Err(BAD);
            }
            // A name with a dot at its end is the same name (RFC 3986, 3.2.2).
            (name.strip_suffix('.').unwrap_or(name), port)
        }
    };
    if is_port(port.as_bytes()) { Ok(name.to_ascii_lowercase()) } else { Err(BAD) }
}

/// Nothing, or a colon and a number that is a port; the number may be missing (RFC 3986, 3.2.3).
fn is_port(text: &[u8]) -> bool {
    let Some((colon, digits)) = text.split_first() else { return true };
    let digit = |sum: Option<u16>, b: &u8| {
        let digit = b.is_ascii_digit().then(|| u16::from(b - b'0'))?;
        sum?.checked_mul(10)?.checked_add(digit)
    };
    *colon == b':' && digits.iter().fold(Some(0), digit).is_some()
}

/// Whether a request with `Upgrade` asks for a WebSocket.
fn websocket(parts: &Parts) -> bool {
    let has = |name: HeaderName, expected: &str| {
        let values = parts.headers.get_all(name);
        values
            .iter()
            .filter_map(|v| v.to_str().ok())
            .flat_map(|v| v.split(','))
            .any(|v| v.trim().eq_ignore_ascii_case(expected))
    };
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && parts.headers.get(CONTENT_LENGTH).is_none_or(is_zero)
        && !parts.headers.contains_key(TRANSFER_ENCODING)
        && has(CONNECTION, "upgrade")
        && has(UPGRADE, "websocket")
}

/// `Content-Length: 0` is no content (RFC 9110, 8.6). Proxies in front of this one may add it.
fn is_zero(length: &HeaderValue) -> bool {
    !length.is_empty() && length.as_bytes().iter().all(|digit| *digit == b'0')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for (text, expected) in [
            ("Shop.Example", Some("shop.example")),
            ("shop.example.:8443", Some("shop.example")),
            ("a_b-c:", Some("a_b-c")),
            ("10.0.0.1:65535", Some("10.0.0.1")),
            ("a:000080", Some("a")),
            ("[2001:DB8::1]", Some("2001:db8::1")),
            ("[::1]:80", Some("::1")),
            ("[::1]:", Some("::1")),
            ("", None),
            (":80", None),
            ("a:65536", None),
            ("a:99999999999999999999", None),
            ("a:+80", None),
            ("a:-1", None),
            ("a:8o", None),
            ("a:80:80", None),
            ("a b", None),
            ("u@a", None),
            ("a/b", None),
            ("[::1", None),
            ("[::1]80", None),
            ("[1.2.3.4]", None),
            ("[]", None),
            ("::1", None),
        ] {
            let value = HeaderValue::from_str(text).unwrap();
            assert_eq!(host(&value).ok().as_deref(), expected, "{text}");
        }
        let long = HeaderValue::from_str(&"a".repeat(254)).unwrap();
        assert!(host(&long).is_err() && host(&HeaderValue::from_bytes(b"caf\xe9").unwrap()).is_err());
    }

    fn admit(parts: &Parts) -> Result<Admitted, Reject> {
        super::admit(parts, &Fields::of(parts))
    }

    #[test]
    fn a_request_is_unambiguous_or_is_rejected() {
        let ok = admit(&parts("GET", "/a/%61", &[("host", "Shop.Example.:80")])).unwrap();
        assert_eq!((ok.host.as_str(), &*ok.path), ("shop.example", "/a/a"));
        assert_eq!(admit(&parts("GET", "/", &[("host", "[::1]:80")])).unwrap().host, "::1");
        type Row<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);
        let bad: [Row<'_>; 12] = [
            ("CONNECT", "a.b:443", &[("host", "a.b:443")]),
            ("GET", "/", &[]),
            ("GET", "/", &[("host", "a"), ("host", "b")]),
            ("GET", "http://a/", &[("host", "b")]),
            ("GET", "http://u@a/", &[]),
            ("GET", "/", &[("host", "u@a")]),
            ("GET", "/", &[("host", "a:99999")]),
            ("POST", "/", &[("host", "a"), ("content-length", "1"), ("content-length", "1")]),
            ("POST", "/", &[("host", "a"), ("content-length", "+1")]),
            ("POST", "/", &[("host", "a"), ("content-length", "1"), ("transfer-encoding", "chunked")]),
            ("POST", "/", &[("host", "a"), ("transfer-encoding", "x, chunked")]),
            ("OPTIONS", "*", &[("host", "a")]),
        ];
        for (method, target, headers) in bad {
            assert!(admit(&parts(method, target, headers)).is_err(), "{method} {target} {headers:?}");
        }
    }
}
