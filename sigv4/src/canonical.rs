//! The canonical request and the string to sign, as bytes: header values need not be UTF-8.
//! <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>

use aws_lc_rs::digest;
use http::HeaderMap;
use http::header::{COOKIE, HOST};

use crate::body::BodyHash;
use crate::encode::{decoded, next_byte, push_encoded, push_hex};
use crate::parts::{parts, split_once};
use crate::request::{Options, RequestParts};
use crate::time;

/// The only algorithm.
pub(crate) const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// The parameter of a presigned query that the signature does not cover.
pub(crate) const SIGNATURE_PARAMETER: &str = "X-Amz-Signature";

/// What determines a canonical request.
pub(crate) struct Canonical<'a> {
    pub(crate) request: &'a RequestParts<'a>,
    /// Sorted names in lower case, joined by `;`.
    pub(crate) signed_headers: &'a str,
    pub(crate) presigned: bool,
    pub(crate) body: &'a BodyHash,
    pub(crate) options: Options,
}

impl Canonical<'_> {
    /// The canonical request.
    pub(crate) fn request(&self) -> Vec<u8> {
        let request = self.request;
        let query = request.query.unwrap_or_default();
        let mut out = Vec::with_capacity(512 + 2 * (request.path.len() + query.len() + self.signed_headers.len()));
        out.extend_from_slice(request.method.as_str().as_bytes());
        out.push(b'\n');
        push_path(&mut out, request.path, self.options);
        out.push(b'\n');
        push_query(&mut out, query, self.presigned);
        out.push(b'\n');
        for name in parts(self.signed_headers, |byte| byte == b';') {
            out.extend_from_slice(name.as_bytes());
            out.push(b':');
            push_header(&mut out, name, request.headers, request.host);
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed_headers.as_bytes());
        out.push(b'\n');
        match self.body {
            BodyHash::Sha256(hash) => push_hex(&mut out, hash),
            other => out.extend_from_slice(other.to_string().as_bytes()),
        }
        out
    }
}

/// The text that is signed. `scope` is `YYYYMMDD/region/service/aws4_request`.
pub(crate) fn string_to_sign(epoch: u64, scope: &str, canonical_request: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(128 + scope.len());
    for line in [ALGORITHM, &time::basic(epoch), scope] {
        out.extend_from_slice(line.as_bytes());
        out.push(b'\n');
    }
    push_hex(&mut out, digest::digest(&digest::SHA256, canonical_request).as_ref());
    out
}

fn push_path(out: &mut Vec<u8>, path: &str, options: Options) {
    let path = if path.is_empty() { "/" } else { path };
    // Without these two there is nothing to remove: dot segments and empty segments begin with a slash.
    if !options.normalize || !(path.contains("/.") || path.contains("//")) {
        push_path_text(out, path, options);
        return;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    for segment in &segments {
        out.push(b'/');
        push_path_text(out, segment, options);
    }
    if segments.is_empty() || path.ends_with('/') {
        out.push(b'/');
    }
}

/// Encodes a text of a path except its slashes.
fn push_path_text(out: &mut Vec<u8>, text: &str, options: Options) {
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = match next_byte(rest) {
            Some(next) if !options.double_encode => next,
            _ => (first, tail),
        };
        if first == b'/' {
            out.push(b'/');
        } else {
            push_encoded(out, byte);
        }
        rest = after;
    }
}

/// Parameters, each decoded and encoded again, sorted by name and then by value. Escapes differ between clients: `%2f`
/// and `%2F`, `*` and `%2A`, `+` and `%20`.
fn push_query(out: &mut Vec<u8>, query: &str, presigned: bool) {
    let mut text = Vec::with_capacity(query.len() + query.len() / 2);
    // Where each parameter begins in the text, where its name ends, and where it ends.
    let mut parameters: Vec<(usize, usize, usize)> = Vec::new();
    for (name, value) in parameters_of(query) {
        if presigned && is_named(name, SIGNATURE_PARAMETER) {
            continue;
        }
        let begin = text.len();
        decoded(name).for_each(|byte| push_encoded(&mut text, byte));
        let middle = text.len();
        text.push(b'=');
        decoded(value).for_each(|byte| push_encoded(&mut text, byte));
        parameters.push((begin, middle, text.len()));
    }
    let sort_key = |&(begin, middle, end): &(usize, usize, usize)| (text.get(begin..middle), text.get(middle..end));
    parameters.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    for (at, &(begin, _, end)) in parameters.iter().enumerate() {
        if at > 0 {
            out.push(b'&');
        }
        out.extend_from_slice(text.get(begin..end).unwrap_or_default());
    }
}

/// Names and values of a query, still encoded. A parameter without `=` has an empty value.
pub(crate) fn parameters_of(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let parameters = parts(query, |byte| byte == b'&').filter(|parameter| !parameter.is_empty());
    parameters.map(|parameter| split_once(parameter, b'=').unwrap_or((parameter, "")))
}

/// Whether the encoded name of a parameter is this one.
pub(crate) fn is_named(encoded: &str, name: &str) -> bool {
    decoded(encoded).eq(name.bytes())
}

/// The values of a header, joined by a comma. A header that the request does not have is empty. HTTP/2 splits cookies
/// into several headers, which are one header with a semicolon (RFC 9113, section 8.2.3).
fn push_header(out: &mut Vec<u8>, name: &str, headers: &HeaderMap, host: Option<&str>) {
    let separator: &[u8] = if name == COOKIE.as_str() { b"; " } else { b"," };
    if let Some(host) = host.filter(|_| name == HOST.as_str()) {
        push_trimmed(out, host.as_bytes());
        return;
    }
    for (at, value) in headers.get_all(name).iter().enumerate() {
        if at > 0 {
            out.extend_from_slice(separator);
        }
        push_trimmed(out, value.as_bytes());
    }
}

/// A value without white space around it, with one space for each run inside.
fn push_trimmed(out: &mut Vec<u8>, value: &[u8]) {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    for (at, word) in words.enumerate() {
        if at > 0 {
            out.push(b' ');
        }
        out.extend_from_slice(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str, options: Options) -> String {
        let mut out = Vec::new();
        push_path(&mut out, path, options);
        String::from_utf8(out).unwrap()
    }

    fn query(query: &str) -> String {
        let mut out = Vec::new();
        push_query(&mut out, query, false);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_path_is_normalized_and_encoded_once_more() {
        for (wire, canonical) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/.", "/"),
            ("/..", "/"),
            ("/a/./b/../c//", "/a/c/"),
            ("/../../a", "/a"),
            ("/a/.", "/a"),
            ("/a/...", "/a/..."),
            ("/a/.b", "/a/.b"),
            ("/a%20b/%2F/%2e%2e", "/a%2520b/%252F/%252e%252e"),
            ("/é*~@", "/%C3%A9%2A~%40"),
        ] {
            assert_eq!(path(wire, Options::default()), canonical, "{wire}");
        }
    }

    #[test]
    fn a_path_for_s3_keeps_its_segments_and_has_each_escape_once() {
        let s3 = Options { double_encode: false, normalize: false, ..Options::default() };
        for (wire, canonical) in
            [("//a/../b/.", "//a/../b/."), ("/a%20b/%2f/%7e*", "/a%20b/%2F/~%2A"), ("/100%/ü", "/100%25/%C3%BC")]
        {
            assert_eq!(path(wire, s3), canonical, "{wire}");
        }
    }

    #[test]
    fn a_query_is_sorted_by_name_and_then_by_value() {
        for (wire, canonical) in [
            ("", ""),
            ("k", "k="),
            ("b=2&a=1&b=1", "a=1&b=1&b=2"),
            ("Param-3=3&Param=2", "Param=2&Param-3=3"),
            ("a=%2f&a=*&a=+&a=%2B", "a=%20&a=%2A&a=%2B&a=%2F"),
            ("&&a=1&&", "a=1"),
            ("=v&a=b=c", "=v&a=b%3Dc"),
        ] {
            assert_eq!(query(wire), canonical, "{wire}");
        }
    }

    #[test]
    fn values_of_a_header_are_trimmed_and_joined() {
        let mut headers = HeaderMap::new();
        headers.append("host", "other.example.com".parse().unwrap());
        headers.append("a", "  x   y\t z ".parse().unwrap());
        headers.append("a", "".parse().unwrap());
        headers.append("cookie", "b=1".parse().unwrap());
        headers.append("cookie", "c=2".parse().unwrap());
        let value = |name: &str| {
            let mut out = Vec::new();
            push_header(&mut out, name, &headers, Some("example.com:8443"));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(value("a"), "x y z,");
        assert_eq!(value("cookie"), "b=1; c=2");
        assert_eq!(value("host"), "example.com:8443");
        assert_eq!(value("none"), "");
    }
}
