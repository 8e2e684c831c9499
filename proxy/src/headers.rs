//! Header rules between client and upstream: hop-by-hop headers, headers that clients must not send, and headers that the
//! gateway adds. A rule's own edits are in `pipeline`.

use std::time::SystemTime;

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, DATE, EXPECT, FORWARDED, HOST, MAX_FORWARDS, SERVER, VIA,
    WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sluice_wire::{is_hop_by_hop, is_spoofable};
use smallvec::SmallVec;

use crate::client::Origin;
use crate::id::random;
use crate::reject::Reject;

pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
/// Marks forwarded requests (RFC 8586). `Via` would work, but some backends do not compress responses because of it.
pub(crate) const CDN_LOOP: HeaderName = HeaderName::from_static("cdn-loop");
/// The same name for all Sluice proxies, so that loops over several of them are detected.
const GATEWAY: &str = "sluice";
/// The certificate of the client (RFC 9440).
pub(crate) const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const TRACE_ID: HeaderName = HeaderName::from_static("x-amzn-trace-id");
pub(crate) const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// The value of a header that a message may have once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Once<'a> {
    first: Option<&'a HeaderValue>,
    repeated: bool,
}

/// The message has the header more than once.
pub(crate) struct Repeated;

impl<'a> Once<'a> {
    pub(crate) fn add(&mut self, value: &'a HeaderValue) {
        self.repeated |= self.first.is_some();
        self.first.get_or_insert(value);
    }

    pub(crate) fn value(self) -> Result<Option<&'a HeaderValue>, Repeated> {
        if self.repeated { Err(Repeated) } else { Ok(self.first) }
    }
}

/// Which hop-by-hop headers a message has.
#[derive(Clone, Copy, Default)]
pub(crate) struct HopByHop {
    /// One `Connection` that names no headers.
    connection: bool,
    others: bool,
}

impl HopByHop {
    /// Adds a hop-by-hop header.
    pub(crate) fn add(&mut self, name: &str, value: &HeaderValue) {
        if !self.connection && name == "connection" && is_usual_connection(value) {
            self.connection = true;
        } else {
            self.others = true;
        }
    }

    /// Removes them.
    pub(crate) fn strip(self, headers: &mut HeaderMap) {
        if self.others {
            strip_hop_by_hop(headers);
        } else if self.connection {
            headers.remove(CONNECTION);
        }
    }
}

/// The common values, which name no headers.
fn is_usual_connection(value: &HeaderValue) -> bool {
    matches!(value.as_bytes(), b"keep-alive" | b"close")
}

/// Removes hop-by-hop headers and the headers that `Connection` names. `Connection` cannot remove framing headers, the host
/// or the loop detection header.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have at most one: iterating over their few headers is cheaper than a lookup for each name.
    while let Some(name) = headers.keys().find(|name| is_hop_by_hop(name.as_str())).cloned() {
        if name == CONNECTION {
            strip_nominated(headers);
        }
        headers.remove(name);
    }
}

/// Removes the headers that `Connection` names.
fn strip_nominated(headers: &mut HeaderMap) {
    let mut nominated: SmallVec<[HeaderName; 2]> = SmallVec::new();
    for value in headers.get_all(CONNECTION).iter().filter(|value| !is_usual_connection(value)) {
        let names = value.to_str().unwrap_or_default().split(',').map(str::trim);
        let names =
            names.filter(|name| !name.eq_ignore_ascii_case("keep-alive") && !name.eq_ignore_ascii_case("close"));
        let names = names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
        // Itself is removed by the caller.
        nominated.extend(names.filter(|name| ![HOST, CONTENT_LENGTH, CDN_LOOP, CONNECTION].contains(name)));
    }
    for name in nominated {
        headers.remove(name);
    }
}

/// Removes fields that trailers cannot have: framing, routing, and what belongs to one connection (RFC 9110, 6.5.1).
pub(crate) fn strip_trailers(fields: &mut HeaderMap) {
    let refused: SmallVec<[HeaderName; 2]> = fields
        .keys()
        .filter(|name| is_hop_by_hop(name.as_str()) || **name == HOST || name.as_str().starts_with("content-"))
        .cloned()
        .collect();
    for name in refused {
        fields.remove(name);
    }
}

/// Removes headers that clients can spoof, except those that the Stage forwards.
pub(crate) fn strip_spoofable(headers: &mut HeaderMap, forwarded: &[HeaderName]) {
    let is_removed = |name: &&HeaderName| is_spoofable(name.as_str()) && !forwarded.contains(name);
    let present: SmallVec<[HeaderName; 2]> = headers.keys().filter(is_removed).cloned().collect();
    for name in present {
        headers.remove(name);
    }
}

/// The method of `X-HTTP-Method-Override`, as in AWS REST APIs. None: the header is absent.
pub(crate) fn overridden_method(headers: &HeaderMap) -> Result<Option<Method>, Reject> {
    let mut values = headers.get_all(METHOD_OVERRIDE).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Reject::Malformed("The request must have at most one X-HTTP-Method-Override header."));
    }
    let method = Method::from_bytes(value.as_bytes()).map_err(|_| Reject::NotFound)?;
    Ok(Some(method))
}

/// The methods of AWS REST APIs, also for `ANY`.
pub(crate) fn is_aws_method(method: &Method) -> bool {
    matches!(
        *method,
        Method::DELETE | Method::GET | Method::HEAD | Method::OPTIONS | Method::PATCH | Method::POST | Method::PUT
    )
}

/// How often a value of `cdn-loop` contains the name of this gateway.
pub(crate) fn passes(value: &HeaderValue) -> usize {
    let names = value.as_bytes().split(|byte| *byte == b',');
    let name = |info: &[u8]| {
        info.split(|byte| *byte == b';').next().is_some_and(|name| name.trim_ascii() == GATEWAY.as_bytes())
    };
    names.filter(|info| name(info)).count()
}

/// Whether a client uses TLS, here or at a load balancer that is known to terminate it.
pub(crate) fn is_secure(origin: &Origin, headers: &HeaderMap) -> bool {
    origin.tls.is_some() || (origin.terminates_tls && forwarded_over_tls(headers))
}

#[cold]
fn forwarded_over_tls(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(FORWARDED_PROTO).iter();
    let only = values.next().filter(|_| values.next().is_none());
    only.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"https"))
}

/// Sets the forwarding headers; `secure`: the client uses TLS.
pub(crate) fn set_forwarded(
    headers: &mut HeaderMap,
    client: &HeaderValue,
    origin: &Origin,
    secure: bool,
    host: Option<HeaderValue>,
) {
    // Capacity for these headers and the host.
    headers.reserve(6);
    headers.append(CDN_LOOP, HeaderValue::from_static(GATEWAY));
    headers.insert(FORWARDED_FOR, client.clone());
    let proto = if secure { HeaderValue::from_static("https") } else { HeaderValue::from_static("http") };
    headers.insert(FORWARDED_PROTO, proto);
    headers.insert(FORWARDED_PORT, origin.port.clone());
    if let Some(host) = host {
        headers.insert(FORWARDED_HOST, host);
    }
}

/// Sets the forwarding information in one header (RFC 7239), as AWS HTTP APIs do.
pub(crate) fn set_forwarded_element(
    headers: &mut HeaderMap,
    client: &HeaderValue,
    secure: bool,
    host: Option<&HeaderValue>,
) {
    headers.append(CDN_LOOP, HeaderValue::from_static(GATEWAY));
    let source = client.to_str().unwrap_or("unknown");
    // An IPv6 address is quoted and in brackets (RFC 7239, 6.1).
    let source = if source.contains(':') { format!("\"[{source}]\"") } else { source.to_owned() };
    let host = host.and_then(|host| host.to_str().ok()).map(|host| format!(";host=\"{host}\"")).unwrap_or_default();
    let proto = if secure { "https" } else { "http" };
    if let Ok(value) = HeaderValue::try_from(format!("for={source}{host};proto={proto}")) {
        headers.insert(FORWARDED, value);
    }
}

/// Whether a name has only letters, digits and hyphens.
pub(crate) fn is_usual(name: &str) -> bool {
    const USUAL: [bool; 256] = {
        let mut usual = [false; 256];
        let mut byte = 0;
        while byte < 256 {
            usual[byte] = (byte as u8).is_ascii_alphanumeric() || byte == b'-' as usize;
            byte += 1;
        }
        usual
    };
    name.bytes().fold(true, |usual, byte| usual & USUAL[usize::from(byte)])
}

/// Whether a value begins or ends with white space. In HTTP/2 such a message is malformed (RFC 9113, 8.2.1); with HTTP/1.1
/// it cannot happen, because white space around a value is not part of it.
pub(crate) fn is_padded(value: &HeaderValue) -> bool {
    let space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    space(value.as_bytes().first()) || space(value.as_bytes().last())
}

/// Joins cookies that HTTP/2 splits (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let joined = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(COOKIE, value);
    }
}

/// The values of a cookie, without quotes (RFC 6265, 4.1.1).
pub(crate) fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
        Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
    })
}

/// Removes elements of lists, such as cookies, from every header of a name; the other elements stay as the client wrote them.
pub(crate) fn remove_elements(
    headers: &mut HeaderMap,
    name: &HeaderName,
    separator: u8,
    is_removed: impl Fn(&[u8]) -> bool,
) {
    let elements =
        |value: &'_ HeaderValue| value.as_bytes().split(|byte| *byte == separator).any(|e| is_removed(e.trim_ascii()));
    if !headers.get_all(name).iter().any(elements) {
        return;
    }
    let values: Vec<HeaderValue> = headers.get_all(name).iter().cloned().collect();
    headers.remove(name);
    for value in values {
        let kept =
            value.as_bytes().split(|byte| *byte == separator).filter(|element| !is_removed(element.trim_ascii()));
        let kept = kept.collect::<Vec<_>>().join(&[separator][..]);
        if let Ok(value) = HeaderValue::from_bytes(kept.trim_ascii())
            && !value.is_empty()
        {
            headers.append(name.clone(), value);
        }
    }
}

/// Removes `Expect`, which hyper has handled.
pub(crate) fn strip_expect(headers: &mut HeaderMap) {
    headers.remove(EXPECT);
}

/// Removes and adds headers of the backend's request as AWS REST APIs do. A rule can set those that are removed.
pub(crate) fn imitate_aws_rest(headers: &mut HeaderMap, api: &HeaderValue) {
    const REMOVED: [HeaderName; 6] =
        [HeaderName::from_static("content-md5"), CONTENT_ENCODING, MAX_FORWARDS, SERVER, VIA, WWW_AUTHENTICATE];
    for name in REMOVED {
        headers.remove(name);
    }
    headers.insert(HeaderName::from_static("x-amzn-apigateway-api-id"), api.clone());
    let has_root = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.split(';').any(is_trace_root));
    let mut values = headers.get_all(TRACE_ID).iter();
    let continued = values.next().is_some_and(has_root) && values.next().is_none();
    if !continued {
        headers.insert(TRACE_ID, new_trace());
    }
}

/// `Root=1-67891233-abcdef012345678912345678`: a time and a random number.
fn is_trace_root(field: &str) -> bool {
    let Some(root) = field.trim().strip_prefix("Root=1-") else { return false };
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    root.split_once('-').is_some_and(|(time, number)| hex(time, 8) && hex(number, 24))
}

fn new_trace() -> HeaderValue {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let text = format!("Root=1-{:08x}-{:08x}{:016x}", time & 0xffff_ffff, random() >> 32, random());
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// Renames headers of the backend's response as AWS REST APIs do.
pub(crate) fn remap_aws_rest(headers: &mut HeaderMap) {
    const REMAPPED: [(HeaderName, &str); 5] = [
        (CONTENT_LENGTH, "x-amzn-remapped-content-length"),
        (DATE, "x-amzn-remapped-date"),
        (SERVER, "x-amzn-remapped-server"),
        (WWW_AUTHENTICATE, "x-amzn-remapped-www-authenticate"),
        (HeaderName::from_static("x-amzn-requestid"), "x-amzn-remapped-x-amzn-requestid"),
    ];
    let connection = headers.get(CONNECTION).cloned();
    strip_hop_by_hop(headers);
    if let Some(connection) = connection {
        headers.insert("x-amzn-remapped-connection", connection);
    }
    for (name, new) in REMAPPED {
        // The length of the body is also valid for this hop.
        let value = if name == CONTENT_LENGTH { headers.get(&name).cloned() } else { headers.remove(&name) };
        if let Some(value) = value {
            headers.insert(HeaderName::from_static(new), value);
        }
    }
    headers.remove(VIA);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_named_by_connection_are_removed_and_framing_stays() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("close, X-Secret, host, content-length"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert(HOST, HeaderValue::from_static("a"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
        headers.insert("upgrade", HeaderValue::from_static("h2c"));
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host"]);
    }

    #[test]
    fn passes_are_counted_by_name() {
        for (value, expected) in [
            ("sluice", 1),
            ("other", 0),
            ("sluice, other; by=\"x\", sluice; v=1 ,sluice", 3),
            ("sluices, x-sluice", 0),
            ("", 0),
        ] {
            assert_eq!(passes(&HeaderValue::from_static(value)), expected, "{value}");
        }
    }
}
