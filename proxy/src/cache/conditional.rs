//! Conditional requests (RFC 9110, 13): whether a stored response is one that the client has already. Conditions that only the backend can
//! evaluate are left to it.

use std::time::SystemTime;

use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

/// Headers that describe the content, which a response with 304 does not have (RFC 9110, 15.4.5).
const OF_CONTENT: [HeaderName; 6] = [
    CONTENT_ENCODING,
    CONTENT_LANGUAGE,
    CONTENT_LENGTH,
    CONTENT_RANGE,
    CONTENT_TYPE,
    HeaderName::from_static("x-amzn-remapped-content-length"),
];

/// Whether a request has a condition that only the backend can evaluate (RFC 9111, 4.3.2).
pub(super) fn for_backend(request: &HeaderMap) -> bool {
    request.contains_key(IF_MATCH) || request.contains_key(IF_UNMODIFIED_SINCE)
}

/// Removes the conditions of a request, so that the backend sends a response that can be stored. `true`: it had one.
pub(crate) fn remove_conditions(request: &mut HeaderMap) -> bool {
    let none_match = request.remove(IF_NONE_MATCH).is_some();
    request.remove(IF_MODIFIED_SINCE).is_some() || none_match
}

/// Whether 304 is the response to a request: the client has this response. `received` is when it arrived here.
pub(crate) fn not_modified(
    method: &Method,
    request: &HeaderMap,
    status: StatusCode,
    response: &HeaderMap,
    received: SystemTime,
) -> bool {
    if !status.is_success() || !matches!(*method, Method::GET | Method::HEAD) {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        return none_match(request, response.get(ETAG));
    }
    let mut since = request.get_all(IF_MODIFIED_SINCE).iter();
    let (Some(since), None) = (since.next().and_then(date), since.next()) else { return false };
    let modified = response.get(LAST_MODIFIED).or_else(|| response.get(DATE));
    // A time that is not a date is no validator.
    modified.map_or(Some(received), date).is_some_and(|modified| modified <= since)
}

fn date(value: &HeaderValue) -> Option<SystemTime> {
    httpdate::parse_http_date(value.to_str().ok()?).ok()
}

/// Whether `If-None-Match` names the entity tag, by weak comparison (RFC 9110, 13.1.2), or is `*`.
fn none_match(request: &HeaderMap, tag: Option<&HeaderValue>) -> bool {
    let tag = tag.and_then(|tag| Some(next_tag(tag.as_bytes())?.0));
    request.get_all(IF_NONE_MATCH).iter().any(|value| {
        let mut rest = value.as_bytes();
        while let Some((listed, after)) = next_tag(rest) {
            if listed == b"*" || Some(listed) == tag {
                return true;
            }
            rest = after;
        }
        false
    })
}

/// The first entity tag of a list without `W/`, and what follows it. A tag without quotes ends at a comma: some backends send such tags, and
/// clients repeat them.
fn next_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = text.iter().position(|b| !matches!(b, b' ' | b'\t' | b','))?;
    let text = text.get(start..)?;
    let text = text.strip_prefix(b"W/").unwrap_or(text);
    let end = match text.strip_prefix(b"\"") {
        Some(quoted) => quoted.iter().position(|b| *b == b'"').map_or(text.len(), |end| end + 2),
        None => text.iter().position(|b| *b == b',').unwrap_or(text.len()),
    };
    let (tag, rest) = text.split_at(end);
    Some((tag.trim_ascii_end(), rest))
}

/// The headers of the 304 for a response.
pub(crate) fn headers_of_not_modified(headers: &mut HeaderMap) {
    for name in &OF_CONTENT {
        headers.remove(name);
    }
    if headers.contains_key(ETAG) {
        headers.remove(LAST_MODIFIED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_static(value));
        }
        map
    }

    const OLD: &str = "Thu, 26 Nov 2026 05:00:00 GMT";
    const NOW: &str = "Thu, 26 Nov 2026 06:00:00 GMT";
    const LATER: &str = "Thu, 26 Nov 2026 07:00:00 GMT";

    #[test]
    fn which_conditions_hold() {
        type Fields = &'static [(&'static str, &'static str)];
        let rows: &[(Fields, Fields, bool)] = &[
            (&[], &[("etag", "\"a\"")], false),
            (&[("if-none-match", "\"a\"")], &[("etag", "\"a\"")], true),
            (&[("if-none-match", "\"b\"")], &[("etag", "\"a\"")], false),
            (&[("if-none-match", "W/\"a\"")], &[("etag", "\"a\"")], true),
            (&[("if-none-match", "\"a\"")], &[("etag", "W/\"a\"")], true),
            (&[("if-none-match", "\"b\", \"a\"")], &[("etag", "\"a\"")], true),
            (&[("if-none-match", "\"b\"  ,W/\"c\",,W/\"a\" ")], &[("etag", "W/\"a\"")], true),
            (&[("if-none-match", "\"b\""), ("if-none-match", "\"a\"")], &[("etag", "\"a\"")], true),
            (&[("if-none-match", "\"x,y\"")], &[("etag", "\"x,y\"")], true),
            (&[("if-none-match", "\"x,y\"")], &[("etag", "\"y\"")], false),
            (&[("if-none-match", "\"x, *\"")], &[("etag", "\"y\"")], false),
            (&[("if-none-match", "*")], &[("etag", "\"a\"")], true),
            (&[("if-none-match", "*")], &[], true),
            (&[("if-none-match", "\"a\"")], &[], false),
            (&[("if-none-match", "")], &[], false),
            (&[("if-none-match", "a")], &[("etag", "\"a\"")], false),
            (&[("if-none-match", "b, a")], &[("etag", "a")], true),
            (&[("if-none-match", "\"A\"")], &[("etag", "\"a\"")], false),
            (&[("if-none-match", "w/\"a\"")], &[("etag", "\"a\"")], false),
            (&[("if-none-match", "\"a")], &[("etag", "\"a\"")], false),
            // If-None-Match replaces If-Modified-Since.
            (&[("if-none-match", "\"b\""), ("if-modified-since", LATER)], &[("etag", "\"a\"")], false),
            (&[("if-modified-since", NOW)], &[("last-modified", OLD)], true),
            (&[("if-modified-since", OLD)], &[("last-modified", OLD)], true),
            (&[("if-modified-since", OLD)], &[("last-modified", NOW)], false),
            (&[("if-modified-since", "Thursday, 26-Nov-26 05:00:00 GMT")], &[("last-modified", OLD)], true),
            (&[("if-modified-since", "yesterday")], &[("last-modified", OLD)], false),
            (&[("if-modified-since", NOW), ("if-modified-since", NOW)], &[("last-modified", OLD)], false),
            (&[("if-modified-since", NOW)], &[("last-modified", "yesterday")], false),
            // Without Last-Modified, Date counts, and without both the time of its arrival.
            (&[("if-modified-since", NOW)], &[("date", OLD)], true),
            (&[("if-modified-since", OLD)], &[("date", NOW)], false),
            (&[("if-modified-since", LATER)], &[], true),
            (&[("if-modified-since", OLD)], &[], false),
        ];
        let received = httpdate::parse_http_date(NOW).unwrap();
        for (request, response, expected) in rows {
            let (of_request, of_response) = (headers(request), headers(response));
            let holds = |method, status| not_modified(&method, &of_request, status, &of_response, received);
            assert_eq!(holds(Method::GET, StatusCode::OK), *expected, "{request:?} {response:?}");
            assert_eq!(holds(Method::HEAD, StatusCode::OK), *expected, "{request:?} {response:?}");
            assert!(!holds(Method::POST, StatusCode::OK), "{request:?}");
            assert!(!holds(Method::GET, StatusCode::NOT_FOUND), "{request:?}");
        }
    }
}
