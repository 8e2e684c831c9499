//! Removes credentials that were not verified from a request of which one was: a backend might use them. What was verified in the
//! query, or in the name of a WebSocket subprotocol, is removed as well, so that no other program stores or selects it.

use http::header::{COOKIE, SEC_WEBSOCKET_PROTOCOL};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Uri};

use super::admission::Present;
use super::edits;
use crate::auth::{Authorizer, Place};
use crate::gateway::path::{decode_query, query_pairs};
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
    if !authorizer.has_one_header() {
        for place in authorizer.places() {
            match place {
                Place::Header(name) if verified != Some(place) => drop(parts.headers.remove(name)),
                Place::Header(_) => {}
                Place::Query(name) => remove_parameter(parts, name)?,
                Place::Cookie(name) => remove_cookie(&mut parts.headers, name, verified == Some(place)),
                Place::WebSocketProtocol(prefix) => {
                    remove_elements(&mut parts.headers, &SEC_WEBSOCKET_PROTOCOL, b',', |protocol| {
                        starts_with(protocol, prefix.as_bytes())
                    })
                }
            }
        }
    }
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
    Ok(())
}

/// What is forwarded of a request that had a verified credential in this place, for the fuzz targets.
pub(crate) fn forwarded(authorizer: &Authorizer, verified: Place<'_>, mut parts: Parts) -> Option<Parts> {
    let present = Present { unusual_names: true, ..Present::default() };
    remove_unverified(authorizer, Some(verified), &mut parts, present).ok().map(|()| parts)
}

/// Names of parameters are not case-sensitive for some backends.
fn remove_parameter(parts: &mut Parts, name: &str) -> Result<(), Reject> {
    let same = |other: &str| other.eq_ignore_ascii_case(name);
    let Some(query) = parts.uri.query() else { return Ok(()) };
    if query_pairs(query).any(|(other, _)| same(&other)) {
        parts.uri = without(&parts.uri, same).ok_or(Reject::Malformed("The query is malformed."))?;
    }
    Ok(())
}

/// Names of cookies are not case-sensitive for some backends, and white space around them is not part of them. The verified
/// cookie has the name as it is.
fn remove_cookie(headers: &mut HeaderMap, name: &str, is_verified: bool) {
    remove_elements(headers, &COOKIE, b';', |pair| {
        let found = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        let verified = is_verified && found == name.as_bytes() && pair.len() > found.len();
        found.trim_ascii().eq_ignore_ascii_case(name.as_bytes()) && !verified
    });
}

fn starts_with(text: &[u8], prefix: &[u8]) -> bool {
    text.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// The target without the query parameters with such names; the others stay as the client wrote them.
pub(super) fn without(uri: &Uri, is_removed: impl Fn(&str) -> bool) -> Option<Uri> {
    let is_other = |pair: &&str| !is_removed(&decode_query(pair.split_once('=').map_or(*pair, |(name, _)| name)));
    let query: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(is_other).collect();
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
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("bearer.t"));
        let bearer = |protocol: &[u8]| starts_with(protocol, b"bearer.");
        remove_elements(&mut headers, &SEC_WEBSOCKET_PROTOCOL, b',', bearer);
        assert!(!headers.contains_key(SEC_WEBSOCKET_PROTOCOL));
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("v1, Bearer.t, bearer.u,v2"));
        remove_elements(&mut headers, &SEC_WEBSOCKET_PROTOCOL, b',', bearer);
        assert_eq!(values(&headers, SEC_WEBSOCKET_PROTOCOL), ["v1,v2"]);
    }
}
