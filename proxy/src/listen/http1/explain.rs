//! Why hyper rejected a head, found in its bytes: hyper's errors do not tell enough. Only what was rejected is looked at here.

use http::header::{HOST, ORIGIN};
use http::request::Parts;
use http::{HeaderValue, Method, Version};

use super::chunks::is_token;
use crate::listen::context::{EarlyRequest, unknown_method};
use crate::reject::Reject;

/// No Stage accepts a longer one.
const MAX_TARGET: usize = 10_240;

/// A head that cannot be parsed as a whole.
pub(super) struct Head<'a> {
    line: &'a [u8],
    fields: Vec<&'a [u8]>,
}

/// What to do about a connection that began with a head that is not valid.
pub(super) enum Explained {
    Reject(Reject),
    /// The client does not use HTTP/1: it would not understand a response.
    OtherProtocol,
}

impl<'a> Head<'a> {
    pub(super) fn new(head: &'a [u8]) -> Self {
        let head = head.trim_ascii_start();
        let mut lines = head.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
        let line = lines.next().unwrap_or_default();
        Self { line, fields: lines.take_while(|line| !line.is_empty()).collect() }
    }

    /// Method, target and version, as far as there are any. White space in the target belongs to it.
    fn words(&self) -> (&'a [u8], &'a [u8], &'a [u8]) {
        let mut start = self.line.splitn(2, |byte| *byte == b' ');
        let (method, rest) = (start.next().unwrap_or_default(), start.next().unwrap_or_default());
        match rest.iter().rposition(|byte| *byte == b' ') {
            Some(at) => {
                (method, rest.get(..at).unwrap_or_default().trim_ascii(), rest.get(at + 1..).unwrap_or_default())
            }
            None => (method, rest, &[]),
        }
    }

    /// The value of a field that is given once.
    fn value(&self, name: &str) -> Option<HeaderValue> {
        let mut values = self.fields.iter().filter_map(|line| {
            let (start, value) = line.split_at_checked(line.iter().position(|byte| *byte == b':')?)?;
            start.eq_ignore_ascii_case(name.as_bytes()).then(|| value.get(1..).unwrap_or_default().trim_ascii())
        });
        let first = values.next()?;
        if values.next().is_some() { None } else { HeaderValue::from_bytes(first).ok() }
    }

    /// What the access log and the choice of a Stage need.
    pub(super) fn request(&self) -> EarlyRequest {
        let (method, target, version) = self.words();
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = Method::from_bytes(method).unwrap_or_else(|_| unknown_method());
        parts.version = if version == b"HTTP/1.0" { Version::HTTP_10 } else { Version::HTTP_11 };
        let (authority, path) = divide(target);
        let host =
            authority.and_then(|authority| HeaderValue::from_bytes(authority).ok()).or_else(|| self.value("host"));
        put(&mut parts, HOST, host);
        put(&mut parts, ORIGIN, self.value("origin"));
        EarlyRequest { parts, path: String::from_utf8_lossy(path).into() }
    }

    /// Why hyper rejected it; `first`: it is the connection's first.
    pub(super) fn explain(&self, too_large: bool, first: bool) -> Explained {
        let (method, target, version) = self.words();
        let blanks = self.line.iter().filter(|byte| **byte == b' ').count();
        if too_large {
            let long = target.len() > MAX_TARGET;
            return Explained::Reject(if long { Reject::UriTooLong } else { Reject::HeadersTooLarge });
        }
        if matches!(self.line, [0x16, 3, ..]) {
            return Explained::Reject(Reject::TlsOnHttpPort);
        }
        let versioned = version.starts_with(b"HTTP/");
        if first && (method == b"PRI" || (!versioned && !version.is_empty())) {
            return Explained::OtherProtocol;
        }
        Explained::Reject(Reject::Malformed(if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
            "The request does not begin with a method."
        } else if (version != b"HTTP/1.1" && version != b"HTTP/1.0") || (blanks > 2 && !target.contains(&b' ')) {
            "The first line must be a method, a target and HTTP/1.1, with one blank between them."
        } else if !target.iter().all(u8::is_ascii_graphic) || target.iter().any(|byte| b"\"<>".contains(byte)) {
            "The request target has a character that must be percent-encoded."
        } else if let Some(why) = self.fields.iter().find_map(|line| bad_field(line)) {
            why
        } else if version == b"HTTP/1.0" && self.value("transfer-encoding").is_some() {
            "Transfer-Encoding is allowed with HTTP/1.1 only."
        } else {
            "The request head is malformed."
        }))
    }
}

fn put(parts: &mut Parts, name: http::HeaderName, value: Option<HeaderValue>) {
    if let Some(value) = value {
        parts.headers.insert(name, value);
    }
}

/// Authority and path of a target.
fn divide(target: &[u8]) -> (Option<&[u8]>, &[u8]) {
    let end = |text: &[u8], marks: &[u8]| text.iter().position(|byte| marks.contains(byte)).unwrap_or(text.len());
    let target = target.get(..end(target, b"?#")).unwrap_or_default();
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    });
    match rest {
        Some(rest) => {
            let (authority, path) = rest.split_at(end(rest, b"/"));
            (Some(authority), if path.is_empty() { b"/" } else { path })
        }
        None => (None, target),
    }
}

fn bad_field(line: &[u8]) -> Option<&'static str> {
    if matches!(line, [b' ' | b'\t', ..]) {
        return Some("A header must be in one line.");
    }
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return Some("A header must be a name, a colon and a value.");
    };
    let (name, value) = line.split_at(colon);
    if matches!(name, [.., b' ' | b'\t']) {
        return Some("A header name must be followed by a colon, without white space before it.");
    }
    if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
        return Some("A header name has a character that is not allowed.");
    }
    if value.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Some("A header value has a control character.");
    }
    None
}
