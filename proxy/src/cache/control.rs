//! `Cache-Control`, `Age`, `Date` and `Expires` of a response (RFC 9111): what its backend permits, and how old it is. `policy` joins it
//! with the rule.

use std::time::{Duration, SystemTime};

use http::header::{AGE, CACHE_CONTROL, DATE, EXPIRES};
use http::{HeaderMap, HeaderName};

/// A larger number of seconds is this one (RFC 9111, 1.2.2).
const MAX_SECONDS: u64 = 1 << 31;
/// `Date` has a resolution of one second: a difference below this is none.
const DATE_RESOLUTION: Duration = Duration::from_secs(2);

/// What `Cache-Control` of a response says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseControl {
    pub(super) no_store: bool,
    /// Also with a list of header names: no header is left out of a stored response.
    pub(super) private: bool,
    pub(super) no_cache: bool,
    /// `must-revalidate` or `proxy-revalidate`.
    pub(super) revalidate: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
}

impl ResponseControl {
    /// None: the value is not a list of directives (RFC 9111, 5.2). Its author may have meant any of them.
    pub(super) fn parse(headers: &HeaderMap) -> Option<Self> {
        let mut control = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            let mut rest = value.as_bytes();
            while let Some((directive, after)) = next(rest)? {
                control.add(directive);
                rest = after;
            }
        }
        Some(control)
    }

    fn add(&mut self, directive: Directive<'_>) {
        let is = |name: &str| directive.name.eq_ignore_ascii_case(name.as_bytes());
        if is("no-store") {
            self.no_store = true;
        } else if is("private") {
            self.private = true;
        } else if is("no-cache") {
            self.no_cache = true;
        } else if is("must-revalidate") || is("proxy-revalidate") {
            self.revalidate = true;
        } else if is("max-age") {
            self.max_age = Some(first_or_stale(self.max_age, directive.value));
        } else if is("s-maxage") {
            self.s_maxage = Some(first_or_stale(self.s_maxage, directive.value));
        }
    }
}

/// The lifetime of a directive. A value that is not a number, and different values of one directive, mean stale (RFC 9111, 4.2.1).
fn first_or_stale(first: Option<Duration>, value: Option<&[u8]>) -> Duration {
    let lifetime = value.and_then(seconds).unwrap_or_default();
    match first {
        Some(first) if first != lifetime => Duration::ZERO,
        _ => lifetime,
    }
}

/// `delta-seconds` (RFC 9111, 1.2.2).
fn seconds(text: &[u8]) -> Option<Duration> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse().unwrap_or(MAX_SECONDS);
    Some(Duration::from_secs(number.min(MAX_SECONDS)))
}

struct Directive<'a> {
    name: &'a [u8],
    /// Without quotes.
    value: Option<&'a [u8]>,
}

/// The first directive of a list and what follows it: `None` is not a list, `Some(None)` is its end.
#[allow(clippy::option_option, reason = "an error and the end are two results")]
fn next(text: &[u8]) -> Option<Option<(Directive<'_>, &[u8])>> {
    // A list may have empty elements (RFC 9110, 5.6.1).
    let start = text.iter().position(|b| !matches!(b, b' ' | b'\t' | b','));
    let Some(text) = start.and_then(|start| text.get(start..)) else { return Some(None) };
    let (name, mut rest) = token(text)?;
    let mut value = None;
    if let Some(after) = rest.strip_prefix(b"=") {
        let (found, after) = match after.strip_prefix(b"\"") {
            Some(quoted) => unquote(quoted)?,
            None => token(after)?,
        };
        value = Some(found);
        rest = after;
    }
    let rest = rest.trim_ascii_start();
    (rest.is_empty() || rest.starts_with(b",")).then_some(Some((Directive { name, value }, rest)))
}

fn token(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let is = |b: &u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(b);
    let end = text.iter().position(|b| !is(b)).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// The content of a quoted string and what follows it.
fn unquote(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut at = 0;
    loop {
        match text.get(at)? {
            b'"' => return Some((text.get(..at)?, text.get(at + 1..)?)),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn date(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// The lifetime that `Expires` gives (RFC 9111, 5.3), if the response has it: one that is not a date has expired.
pub(super) fn expires(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    if !headers.contains_key(EXPIRES) {
        return None;
    }
    let from = date(headers, DATE).unwrap_or(now);
    Some(date(headers, EXPIRES).and_then(|until| until.duration_since(from).ok()).unwrap_or_default())
}

/// The age of a response when it was requested (RFC 9111, 4.2.3): time that it was in other caches, or on its way since its `Date`.
/// `delay` is the time between the request and the head of the response, `now`.
pub(super) fn age(headers: &HeaderMap, delay: Duration, now: SystemTime) -> Duration {
    // Of a list the first value counts, and a value that is not a number is ignored (RFC 9111, 5.1).
    let first = headers.get(AGE).and_then(|value| value.as_bytes().split(|b| *b == b',').next());
    let claimed = first.and_then(|text| seconds(text.trim_ascii())).unwrap_or_default();
    let apparent = date(headers, DATE).and_then(|date| now.duration_since(date).ok());
    let apparent = apparent.filter(|age| *age >= DATE_RESOLUTION).unwrap_or_default();
    claimed.max(apparent.saturating_sub(delay))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_value_that_is_not_a_list_of_directives_is_none() {
        for (value, is_list) in [
            ("", true),
            (" , ,", true),
            ("public", true),
            ("public,max-age=5", true),
            ("public , max-age=\"5\",, x", true),
            ("private=\"set-cookie, x;y\\\"z\", a", true),
            ("x=1, ext=\"\"", true),
            ("public;private", false),
            ("public private", false),
            ("max-age=5; private", false),
            ("max-age =5", false),
            ("max-age= 5", false),
            ("max-age=", false),
            ("=5", false),
            ("private=\"set-cookie", false),
            ("private=\"x\"y", false),
            ("a\\", false),
            ("no-store\u{e9}", false),
            ("{private}", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.append(CACHE_CONTROL, HeaderValue::from_static("x-first"));
            headers.append(CACHE_CONTROL, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(ResponseControl::parse(&headers).is_some(), is_list, "{value:?}");
        }
    }

    #[test]
    fn lifetimes_are_whole_seconds_and_anything_else_is_stale() {
        let secs = |seconds| Some(Duration::from_secs(seconds));
        for (value, max_age, s_maxage) in [
            ("max-age=60", secs(60), None),
            ("MAX-AGE=060", secs(60), None),
            ("max-age=\"60\", s-maxage=5", secs(60), secs(5)),
            ("max-age=99999999999999999999999", secs(MAX_SECONDS), None),
            ("max-age", secs(0), None),
            ("max-age=x", secs(0), None),
            ("max-age=1.5", secs(0), None),
            ("max-age=-1", secs(0), None),
            ("max-age=\"\"", secs(0), None),
            ("max-age=60, max-age=60", secs(60), None),
            ("max-age=60, max-age=3600", secs(0), None),
            ("x-max-age=60, max-agex=4", None, None),
        ] {
            let control = ResponseControl::parse(&headers(&[("cache-control", value)])).unwrap();
            assert_eq!((control.max_age, control.s_maxage), (max_age, s_maxage), "{value}");
        }
    }

    #[test]
    fn the_age_is_the_larger_of_age_and_the_time_since_date() {
        let now = httpdate::parse_http_date("Thu, 26 Nov 2026 06:00:00 GMT").unwrap();
        let delay = Duration::from_secs(3);
        for (fields, expected) in [
            (&[][..], 0),
            (&[("age", "30")], 30),
            (&[("age", "30, 40")], 30),
            (&[("age", " 30")], 30),
            (&[("age", "x")], 0),
            (&[("age", "-5")], 0),
            (&[("age", "1.5")], 0),
            (&[("age", "999999999999999999999")], MAX_SECONDS),
            (&[("date", "Thu, 26 Nov 2026 05:59:00 GMT")], 57),
            (&[("date", "Thu, 26 Nov 2026 05:59:59 GMT")], 0),
            (&[("date", "Thu, 26 Nov 2026 07:00:00 GMT")], 0),
            (&[("date", "yesterday")], 0),
            (&[("date", "Thu, 26 Nov 2026 05:59:00 GMT"), ("age", "90")], 90),
            (&[("date", "Thu, 26 Nov 2026 05:59:00 GMT"), ("age", "9")], 57),
        ] {
            assert_eq!(age(&headers(fields), delay, now), Duration::from_secs(expected), "{fields:?}");
        }
    }

    #[test]
    fn expires_counts_from_date() {
        let now = httpdate::parse_http_date("Thu, 26 Nov 2026 06:00:00 GMT").unwrap();
        for (fields, expected) in [
            (&[][..], None),
            (&[("expires", "Thu, 26 Nov 2026 06:01:00 GMT")], Some(60)),
            (&[("expires", "Thursday, 26-Nov-26 06:01:00 GMT")], Some(60)),
            (&[("expires", "Thu, 26 Nov 2026 05:00:00 GMT")], Some(0)),
            (&[("expires", "0")], Some(0)),
            (&[("expires", "-1")], Some(0)),
            (&[("expires", "Thu, 26 Nov 2026 06:01:00 GMT"), ("date", "Thu, 26 Nov 2026 06:00:50 GMT")], Some(10)),
        ] {
            assert_eq!(expires(&headers(fields), now), expected.map(Duration::from_secs), "{fields:?}");
        }
    }
}
