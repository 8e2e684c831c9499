//! Removes credentials that were not verified from a request of which one was: a backend might use them. What was verified in the
//! query, or in the name of a WebSocket subprotocol, is removed as well, so that no other program stores or selects it.

use http::header::{COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};

use super::admission::Present;
use super::edits;
use crate::auth::{Authorizer, Place};
use crate::gateway::path::decode_query;
use crate::headers::remove_elements;
use crate::reject::Reject;

/// Removes what else could be a credential: the places in which the authorizer would also accept one, and other spellings
/// of each. `verified` is the place of the verified one, if there are others.
pub(super) fn remove_unverified(
    authorizer: &Authorizer,
    verified: Option<Place<'_>>,
    parts: &mut Parts,
    present: Present,
) -> Result<(), Reject> {
    if authorizer.keeps_places() {
        remove_aliases(authorizer, parts, present);
        return Ok(());
    }
    remove_all(authorizer, verified, parts, present)
}

/// Removes every credential that the authorizer would accept, and other spellings of each, except in the place of a credential that
/// was verified, of whatever kind.
pub(super) fn remove_all(
    authorizer: &Authorizer,
    verified: Option<Place<'_>>,
    parts: &mut Parts,
    present: Present,
) -> Result<(), Reject> {
    for place in authorizer.places() {
        match place {
            Place::Header(name) if verified != Some(place) => drop(parts.headers.remove(name)),
            Place::Header(_) => {}
            Place::Query(name) => remove_parameter(parts, name)?,
            Place::Cookie(name) => remove_cookie(&mut parts.headers, name, verified == Some(place)),
            Place::WebSocketProtocol(prefix) => {
                remove_elements(&mut parts.headers, &SEC_WEBSOCKET_PROTOCOL, b',', |protocol| {
                    // What is not a name could be read as several.
                    starts_with(protocol, prefix.as_bytes()) || !is_token(protocol)
                })
            }
        }
    }
    remove_aliases(authorizer, parts, present);
    Ok(())
}

fn remove_aliases(authorizer: &Authorizer, parts: &mut Parts, present: Present) {
    // Of two spellings of a name, one has unusual characters.
    if present.unusual_names || authorizer.has_unusual_places() {
        for place in authorizer.places() {
            match place {
                Place::Header(name) => edits::remove_aliases(&mut parts.headers, name),
                Place::WebSocketProtocol(_) => edits::remove_aliases(&mut parts.headers, &SEC_WEBSOCKET_PROTOCOL),
                // Other spellings of `cookie` are removed from each request.
                Place::Query(_) | Place::Cookie(_) => {}
            }
        }
    }
}

/// What is forwarded of a request that had a verified credential in this place, for the fuzz targets.
pub(crate) fn forwarded(authorizer: &Authorizer, verified: Place<'_>, mut parts: Parts) -> Option<Parts> {
    let present = Present { unusual_names: true, ..Present::default() };
    remove_unverified(authorizer, Some(verified), &mut parts, present).ok().map(|()| parts)
}

/// Backends read names of parameters in different ways: with `;` between parameters, without regard to case, with `.` and `[]`
/// as other characters.
fn remove_parameter(parts: &mut Parts, name: &str) -> Result<(), Reject> {
    let Some(query) = parts.uri.query() else { return Ok(()) };
    let is_removed = |pair: &str| pair.split(';').any(|part| may_be_named(part.as_bytes(), name));
    if query.split('&').any(is_removed) {
        parts.uri =
            filtered(&parts.uri, |pair| !is_removed(pair)).ok_or(Reject::Malformed("The query is malformed."))?;
    }
    Ok(())
}

/// Backends read names of cookies in different ways, and some divide a header at white space, commas and quotes as well. The
/// verified cookie has the name as it is.
fn remove_cookie(headers: &mut HeaderMap, name: &str, is_verified: bool) {
    remove_elements(headers, &COOKIE, b';', |pair| {
        let found = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        if is_verified && found == name.as_bytes() && pair.len() > found.len() {
            return false;
        }
        let usual = |byte: &u8| matches!(byte, b',' | b'"' | b'\\' | b' ') || byte.is_ascii_control();
        let named = |part: &[u8]| part.contains(&b'=') && may_be_named(part, name);
        may_be_named(pair, name)
            || pair.split(usual).any(named)
            || pair.split(|byte| usual(byte) || !byte.is_ascii()).any(named)
    });
}

/// Whether a backend could read the name in front of `=` as this one: it has the same letters and digits, in any case, also
/// when they are encoded.
fn may_be_named(pair: &[u8], name: &str) -> bool {
    let found = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
    let found = String::from_utf8_lossy(found);
    if found.trim_ascii().eq_ignore_ascii_case(name) {
        return true;
    }
    let once = decode_query(&found);
    let twice = decode_query(&once);
    let letters = |text: &str| -> Vec<u8> {
        text.bytes().filter(u8::is_ascii_alphanumeric).map(|byte| byte.to_ascii_lowercase()).collect()
    };
    let wanted = letters(name);
    !wanted.is_empty() && [&*found, &*once, &*twice].into_iter().any(|text| letters(text) == wanted)
}

/// Whether it is a token (RFC 9110, 5.6.2), as names of subprotocols are.
fn is_token(text: &[u8]) -> bool {
    let mut bytes = text.iter();
    !text.is_empty() && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The target without the query parameters with such names; the others stay as the client wrote them.
pub(super) fn without(uri: &Uri, is_removed: impl Fn(&str) -> bool) -> Option<Uri> {
    filtered(uri, |pair| !is_removed(&decode_query(pair.split_once('=').map_or(pair, |(name, _)| name))))
}

/// The target with some of its query parameters, as the client wrote them.
fn filtered(uri: &Uri, is_kept: impl Fn(&str) -> bool) -> Option<Uri> {
    let query: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(|pair| is_kept(pair)).collect();
    let (path, query) = (uri.path(), query.join("&"));
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut rest = uri.clone().into_parts();
    rest.path_and_query = Some(PathAndQuery::try_from(target).ok()?);
    Uri::from_parts(rest).ok()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_target_keeps_its_other_parameters() {
        for (target, expected) in [
            ("/a?api_key=k", "/a"),
            ("/a?x=1&api%5Fkey=k&y=%20+&&z", "/a?x=1&y=%20+&&z"),
            ("/a?x=api_key&api_key", "/a?x=api_key"),
            ("/a", "/a"),
            ("http://a.example/b%2Fc?api_key=k", "http://a.example/b%2Fc"),
        ] {
            assert_eq!(without(&target.parse().unwrap(), |name| name == "api_key").unwrap().to_string(), expected);
        }
    }

    #[test]
    fn parameters_that_a_backend_could_read_as_the_credential_are_removed() {
        for (query, expected) in [
            ("access_token=t&x=1", "/a?x=1"),
            ("x=1&ACCESS_TOKEN=t", "/a?x=1"),
            ("x=1;access_token=t&y=2", "/a?y=2"),
            ("access.token=t&x=1", "/a?x=1"),
            ("access+token=t&x=1", "/a?x=1"),
            ("%20access_token=t&x=1", "/a?x=1"),
            ("access_token[]=t&x=1", "/a?x=1"),
            ("access_token%5B%5D=t&x=1", "/a?x=1"),
            ("access_token%00=t&x=1", "/a?x=1"),
            ("access%255ftoken=t&x=1", "/a?x=1"),
            ("access_tokens=1&token=2&x=access_token", "/a?access_tokens=1&token=2&x=access_token"),
        ] {
            let request = http::Request::get(format!("/a?{query}")).body(()).unwrap();
            let (mut parts, ()) = request.into_parts();
            remove_parameter(&mut parts, "access_token").ok().unwrap();
            assert_eq!(parts.uri.to_string(), expected, "{query}");
        }
    }

    #[test]
    fn other_cookies_and_subprotocols_stay_as_they_were() {
        let mut headers = HeaderMap::new();
        for value in ["a=b; session=t;c=d", "Session=u", "session = v;e"] {
            headers.append(COOKIE, HeaderValue::from_static(value));
        }
        let values = |headers: &HeaderMap, name| -> Vec<String> {
            headers.get_all(name).iter().map(|value| value.to_str().unwrap().to_owned()).collect()
        };
        let mut verified = headers.clone();
        remove_cookie(&mut verified, "session", true);
        assert_eq!(values(&verified, COOKIE), ["a=b; session=t;c=d", "e"]);
        remove_cookie(&mut headers, "session", false);
        assert_eq!(values(&headers, COOKIE), ["a=b;c=d", "e"]);
        for (value, expected) in [
            ("a=b session=t; c=d", "c=d"),
            ("a=b\tsession=t; c=d", "c=d"),
            ("c=d; a=b, session=t", "c=d"),
            ("\"session\"=t; c=d", "c=d"),
            ("sess%69on=t; c=d", "c=d"),
            ("session[]=t; c=d", "c=d"),
            ("a=\"x session=t\"; c=d", "c=d"),
            ("a=session; sessions=2; my_session=3; b=\"session 4\"; c=d", ""),
        ] {
            headers.insert(COOKIE, HeaderValue::from_static(value));
            remove_cookie(&mut headers, "session", false);
            assert_eq!(values(&headers, COOKIE), [if expected.is_empty() { value } else { expected }], "{value}");
        }
        for byte in [0xa0, 0x85] {
            let value = [b"c=d; ", &[byte][..], b"session=t"].concat();
            headers.insert(COOKIE, HeaderValue::from_bytes(&value).unwrap());
            remove_cookie(&mut headers, "session", false);
            assert_eq!(values(&headers, COOKIE), ["c=d"]);
        }
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("bearer.t"));
        let bearer = |protocol: &[u8]| starts_with(protocol, b"bearer.") || !is_token(protocol);
        remove_elements(&mut headers, &SEC_WEBSOCKET_PROTOCOL, b',', bearer);
        assert!(!headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
        headers.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("v1, Bearer.t, v3 bearer.x, \"bearer.y\", bearer.u,v2"),
        );
        remove_elements(&mut headers, &SEC_WEBSOCKET_PROTOCOL, b',', bearer);
        assert_eq!(values(&headers, SEC_WEBSOCKET_PROTOCOL), ["v1,v2"]);
    }
}
