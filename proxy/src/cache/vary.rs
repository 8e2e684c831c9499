//! Responses that depend on headers of their requests: an entry for each value of the headers in `Vary`, and for each set of content codings
//! that a client accepts where the backend encodes its responses.

use std::sync::Arc;

use http::header::{ACCEPT_ENCODING, CONTENT_ENCODING, VARY};
use http::{HeaderMap, HeaderName};

use super::key::{Fields, Key};

/// Responses that depend on more headers are not stored.
const MAX_NAMES: usize = 8;
/// Content codings that an entry may have, and the other spellings of two (RFC 9110, 8.4.1). Others may depend on more than
/// `Accept-Encoding`, as the dictionaries of `dcb` do.
const CODINGS: [(&str, u8); 7] =
    [("gzip", 1), ("x-gzip", 1), ("br", 2), ("zstd", 4), ("deflate", 8), ("compress", 16), ("x-compress", 16)];
const ALL_CODINGS: u8 = 31;

/// The names of the headers that responses of one cache key depend on, sorted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Vary(Vec<HeaderName>);

impl Vary {
    /// These names and those that are known already; none: they are too many.
    pub(super) fn join(known: Option<&Self>, names: &[HeaderName]) -> Option<Arc<Self>> {
        let mut all: Vec<HeaderName> = known.into_iter().flat_map(|known| &known.0).chain(names).cloned().collect();
        all.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        all.dedup();
        (all.len() <= MAX_NAMES).then(|| Arc::new(Self(all)))
    }

    /// The key of the responses for requests with the same values.
    pub(super) fn key(&self, primary: &Key, request: &HeaderMap) -> Key {
        let mut fields = Fields::new();
        fields.add(Some(primary.digest()));
        for name in &self.0 {
            fields.add(Some(name.as_str().as_bytes()));
            if name == ACCEPT_ENCODING {
                fields.add(Accepted::of(request).map(|accepted| [accepted.0]).as_ref().map(|bits| bits.as_slice()));
                continue;
            }
            for value in request.get_all(name) {
                fields.add(Some(value.as_bytes()));
            }
            fields.add(None);
        }
        primary.with_digest(fields.finish())
    }
}

/// The names in `Vary`; none: it is `*`, or not a list of names.
pub(super) fn names(response: &HeaderMap) -> Option<Vec<HeaderName>> {
    let mut all = Vec::new();
    for value in response.get_all(VARY) {
        for name in value.as_bytes().split(|b| *b == b',').map(<[u8]>::trim_ascii).filter(|name| !name.is_empty()) {
            // `*` is also a valid name.
            all.push(HeaderName::from_bytes(name).ok().filter(|name| name != "*")?);
        }
    }
    Some(all)
}

/// Whether a response is encoded, and in a form that its client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Identity,
    /// Other clients of the same set of codings can read it.
    Accepted,
    /// With a coding that the client did not ask for, or that is not known.
    Other,
}

impl Coding {
    pub(super) fn of(request: &HeaderMap, response: &HeaderMap) -> Self {
        let values = response.get_all(CONTENT_ENCODING).iter();
        let codings = values.flat_map(|value| value.as_bytes().split(|b| *b == b',')).map(<[u8]>::trim_ascii);
        let mut used = codings.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case(b"identity")).peekable();
        if used.peek().is_none() {
            return Self::Identity;
        }
        let accepted = Accepted::of(request).map_or(ALL_CODINGS, |accepted| accepted.0);
        let fits = used.all(|name| bit(name).is_some_and(|bit| accepted & bit != 0));
        if fits { Self::Accepted } else { Self::Other }
    }
}

fn bit(name: &[u8]) -> Option<u8> {
    CODINGS.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, bit)| *bit)
}

/// The content codings that a client accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accepted(u8);

impl Accepted {
    /// None: the request has no `Accept-Encoding`.
    fn of(request: &HeaderMap) -> Option<Self> {
        let mut values = request.get_all(ACCEPT_ENCODING).iter().peekable();
        values.peek()?;
        let (mut accepted, mut rejected, mut others) = (0, 0, false);
        for element in values.flat_map(|value| value.as_bytes().split(|b| *b == b',')) {
            let mut parts = element.split(|b| *b == b';').map(<[u8]>::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let Some(accepts) = weight(parts) else { continue };
            match bit(name) {
                Some(bit) if accepts => accepted |= bit,
                Some(bit) => rejected |= bit,
                None if name == b"*" => others = accepts,
                None => {}
            }
        }
        let all = if others { accepted | ALL_CODINGS } else { accepted };
        Some(Self(all & !rejected))
    }
}

/// Whether a weight permits its element (RFC 9110, 12.4.2); none: it is not a weight.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a [u8]>) -> Option<bool> {
    let Some(parameter) = parameters.next() else { return Some(true) };
    let text = parameter.strip_prefix(b"q=").or_else(|| parameter.strip_prefix(b"Q="))?;
    let weight: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (parameters.next().is_none() && (0.0..=1.0).contains(&weight)).then_some(weight > 0.0)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn with(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(&name, HeaderValue::from_static(value));
        }
        map
    }

    #[test]
    fn which_codings_a_client_accepts() {
        for (values, expected) in [
            (&[][..], None),
            (&[""], Some(0)),
            (&["identity"], Some(0)),
            (&["gzip"], Some(1)),
            (&["x-gzip;q=0.5"], Some(1)),
            (&["GZIP, deflate, br, zstd"], Some(15)),
            (&["gzip", "br"], Some(3)),
            (&["br ; q=1.0 , gzip; q=0"], Some(2)),
            (&["*"], Some(31)),
            (&["*, gzip;q=0"], Some(30)),
            (&["gzip;q=0, *"], Some(30)),
            (&["gzip, *;q=0"], Some(1)),
            (&["gzip;q=x"], Some(0)),
            (&["gzip;q=2"], Some(0)),
            (&["gzip;level=9"], Some(0)),
            (&["dcb, sdch"], Some(0)),
        ] {
            assert_eq!(Accepted::of(&with(ACCEPT_ENCODING, values)).map(|accepted| accepted.0), expected, "{values:?}");
        }
    }

    #[test]
    fn which_encoded_responses_can_be_stored() {
        use Coding::{Accepted, Identity, Other};
        for (accepts, encoded, expected) in [
            (&["gzip"][..], &[][..], Identity),
            (&["gzip"], &["identity"], Identity),
            (&["gzip"], &[""], Identity),
            (&["gzip"], &["gzip"], Accepted),
            (&["gzip"], &["X-GZip"], Accepted),
            (&["gzip, br"], &["gzip, br"], Accepted),
            (&["gzip"], &["gzip", "br"], Other),
            (&["gzip"], &["br"], Other),
            (&["gzip;q=0"], &["gzip"], Other),
            (&["gzip;q=x"], &["gzip"], Other),
            (&[""], &["gzip"], Other),
            (&["dcb"], &["dcb"], Other),
            (&[], &["gzip"], Accepted),
            (&[], &["dcb"], Other),
        ] {
            let (request, response) = (with(ACCEPT_ENCODING, accepts), with(CONTENT_ENCODING, encoded));
            assert_eq!(Coding::of(&request, &response), expected, "{accepts:?} {encoded:?}");
        }
    }

    #[test]
    fn names_are_header_names_and_not_a_star() {
        for (values, expected) in [
            (&[][..], Some(vec![])),
            (&["Accept , x-a,,"], Some(vec!["accept", "x-a"])),
            (&["accept", "origin"], Some(vec!["accept", "origin"])),
            (&["*"], None),
            (&["accept, *"], None),
            (&["accept; x-a"], None),
            (&["accept x-a"], None),
            (&["\"accept\""], None),
        ] {
            let found = names(&with(VARY, values));
            let texts = found.as_ref().map(|names| names.iter().map(HeaderName::as_str).collect::<Vec<_>>());
            assert_eq!(texts, expected, "{values:?}");
        }
    }

    #[test]
    fn requests_with_different_values_have_different_keys() {
        let accept = HeaderName::from_static("accept");
        let vary = Vary::join(None, &[accept.clone(), ACCEPT_ENCODING]).unwrap();
        assert_eq!(Vary::join(Some(&vary), std::slice::from_ref(&accept)).unwrap(), vary);
        let primary = Key::of_digest([7; 32]);
        let request = |accept_values: &[&'static str], codings: &[&'static str]| {
            let mut map = with(accept.clone(), accept_values);
            map.extend(with(ACCEPT_ENCODING, codings));
            vary.key(&primary, &map)
        };
        let keys = [
            request(&[], &[]),
            request(&[""], &[]),
            request(&["a"], &[]),
            request(&["a", "b"], &[]),
            request(&["a,b"], &[]),
            request(&[], &[""]),
            request(&[], &["gzip"]),
            request(&[], &["gzip, br"]),
        ];
        for (i, one) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|other| other != one) && *one != primary, "{i}");
        }
        // Clients that accept the same codings share an entry.
        assert_eq!(request(&[], &["gzip, br"]), request(&[], &["br;q=0.5", "x-gzip, gzip;q=0.1, dcb"]));
        let many: Vec<HeaderName> = (0..9).map(|n| HeaderName::try_from(format!("x-{n}")).unwrap()).collect();
        assert!(Vary::join(None, &many).is_none() && Vary::join(Some(&vary), &many[..6]).is_some());
    }
}
