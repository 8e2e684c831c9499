//! The canonical form of a request's path, which is matched, used in cache keys and forwarded.

use std::borrow::Cow;

/// Why a path has no canonical form. Such a request is rejected with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPath(pub(crate) &'static str);

const fn hex(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

const fn unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// Characters of a segment that need no encoding (RFC 3986, pchar), without `;`: servlet containers treat text after it as
/// parameters, others as part of the path.
const fn plain(byte: u8) -> bool {
    unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// The canonical form of `path`: escapes of unreserved characters are decoded, other escapes are written in upper case. A
/// path that two programs could interpret differently is rejected.
pub(crate) fn canonical(path: &str) -> Result<Cow<'_, str>, BadPath> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(BadPath("The path must start with a slash."));
    }
    let escaped = bytes.contains(&b'%');
    let out = if escaped { Cow::Owned(unescape(bytes)?) } else { Cow::Borrowed(path) };
    check(out.as_bytes())?;
    Ok(out)
}

fn check(bytes: &[u8]) -> Result<(), BadPath> {
    let mut start = 1;
    let mut at = 1;
    while at <= bytes.len() {
        let byte = bytes.get(at).copied();
        match byte {
            None | Some(b'/') => {
                let segment = &bytes[start.min(bytes.len())..at];
                if segment == b"." || segment == b".." {
                    return Err(BadPath("The path must not have dot segments."));
                }
                if segment.is_empty() && byte.is_some() {
                    return Err(BadPath("The path must not have empty segments."));
                }
                start = at + 1;
            }
            // If decoded once more, it would be another path.
            Some(b'%') if encoded_twice(bytes, at) => return Err(BadPath("The path must not be encoded twice.")),
            Some(b'%') => {}
            Some(b';') => return Err(BadPath("The path must not have a semicolon.")),
            Some(byte) if !plain(byte) => {
                return Err(BadPath("The path has a character that must be percent-encoded."));
            }
            Some(_) => {}
        }
        at += 1;
    }
    Ok(())
}

/// Whether an escaped percent sign at `at` starts another escape.
fn encoded_twice(bytes: &[u8], at: usize) -> bool {
    let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex).is_some();
    bytes.get(at..at + 3) == Some(b"%25") && digit(3) && digit(4)
}

/// Whether a concatenation of canonical texts is unambiguous: no dot segment and no double encoding at the joints.
pub(crate) fn joins(path: &str) -> bool {
    let bytes = path.as_bytes();
    !path.split('/').any(|segment| segment == "." || segment == "..")
        && !(0..bytes.len()).any(|at| encoded_twice(bytes, at))
}

fn unescape(bytes: &[u8]) -> Result<String, BadPath> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte != b'%' {
            out.push(byte);
            at += 1;
            continue;
        }
        let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex);
        let (Some(high), Some(low)) = (digit(1), digit(2)) else {
            return Err(BadPath("The path has an invalid percent-encoding."));
        };
        let code = (high << 4) | low;
        match code {
            b'/' | b'\\' => return Err(BadPath("The path must not have an encoded slash or backslash.")),
            b';' => return Err(BadPath("The path must not have an encoded semicolon.")),
            0..=0x1f | 0x7f => return Err(BadPath("The path must not have an encoded control character.")),
            code if unreserved(code) => out.push(code),
            _ => {
                out.push(b'%');
                out.extend([bytes[at + 1].to_ascii_uppercase(), bytes[at + 2].to_ascii_uppercase()]);
            }
        }
        at += 3;
    }
    String::from_utf8(out).map_err(|_| BadPath("The path has a character that must be percent-encoded."))
}

/// A segment in the form that is compared with the static segments of templates: escapes of characters that need no
/// encoding are decoded, so that `/a%40b` cannot bypass a rule for `/a@b`.
pub(crate) fn comparable(segment: &str) -> Cow<'_, str> {
    if !segment.contains('%') {
        return Cow::Borrowed(segment);
    }
    let bytes = segment.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex);
        if byte == b'%'
            && let (Some(high), Some(low)) = (digit(1), digit(2))
            && plain((high << 4) | low)
        {
            out.push((high << 4) | low);
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(segment), Cow::Owned)
}

/// Decodes a query component: `+` is a space; invalid escapes are kept.
pub(crate) fn decode_query(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex);
        match (byte, digit(1), digit(2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4) | low);
                at += 3;
                continue;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// The decoded names and values of a query, in order.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_query(name), decode_query(value))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_has_one_canonical_form_or_is_rejected() {
        let good = [
            ("/", "/"),
            ("/orders/7", "/orders/7"),
            ("/%61dmin", "/admin"),
            ("/a%2Eb", "/a.b"),
            ("/a%20b/%c3%a9", "/a%20b/%C3%A9"),
            ("/100%25", "/100%25"),
            ("/a/", "/a/"),
            ("/...", "/..."),
            ("/a@b:c", "/a@b:c"),
        ];
        for (path, expected) in good {
            assert_eq!(canonical(path).unwrap(), expected);
        }
        let bad = [
            "",
            "*",
            "a",
            "//",
            "//a",
            "/a//b",
            "/a//",
            "/.",
            "/..",
            "/a/../b",
            "/a/./b",
            "/a/..",
            "/%2e%2e/a",
            "/a/.%2e",
            "/a%2fb",
            "/a%2Fb",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0a",
            "/a%7f",
            "/a;b",
            "/a%3bb",
            "/a%252e",
            "/x/%25%32e%25%32e/admin",
            "/x/%252%65%252%65/admin",
            "/x/%25%32f",
            "/%25%2541",
            "/a%",
            "/a%2",
            "/a%zz",
            "/é",
            "/a|b",
            "/{a}",
            "/a\"b",
            "/a b",
        ];
        for path in bad {
            assert!(canonical(path).is_err(), "{path}");
        }
    }

    #[test]
    fn texts_whose_concatenation_is_ambiguous_are_rejected() {
        for (path, expected) in
            [("/a/b", true), ("/a/./b", false), ("/a/..", false), ("/100%25/2e", true), ("/a%252e", false)]
        {
            assert_eq!(joins(path), expected, "{path}");
        }
    }

    #[test]
    fn static_segments_are_compared_decoded() {
        assert_eq!(comparable("a%40b"), "a@b");
        assert_eq!(comparable("a%20b"), "a%20b");
    }

    #[test]
    fn queries_are_decoded_for_comparison() {
        let pairs: Vec<_> = query_pairs("a=1&b=x+y%21&&c").map(|(n, v)| (n.into_owned(), v.into_owned())).collect();
        let expected = [("a", "1"), ("b", "x y!"), ("c", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(pairs, expected);
    }

    /// Paths of escapes, parts of escapes, and escapes of those.
    fn of_escapes() -> impl Strategy<Value = String> {
        let byte = prop_oneof![
            Just(b'%'),
            Just(b'.'),
            Just(b'/'),
            Just(b'2'),
            Just(b'5'),
            Just(b'e'),
            Just(b'F'),
            any::<u8>()
        ];
        let piece = prop_oneof![
            byte.clone().prop_map(|byte| format!("%{byte:02x}")),
            byte.clone().prop_map(|byte| format!("%{byte:02X}")),
            byte.clone().prop_map(|byte| format!("%25{byte:02x}")),
            byte.prop_map(|byte| char::from(byte & 0x7f).to_string()),
        ];
        proptest::collection::vec(piece, 0..12).prop_map(|pieces| format!("/{}", pieces.concat()))
    }

    proptest! {
        #[test]
        fn no_canonical_form_can_be_decoded_again(path in of_escapes()) {
            if let Ok(first) = canonical(&path) {
                prop_assert_eq!(canonical(&first).unwrap(), first.clone());
                let again = |at: usize| encoded_twice(first.as_bytes(), at);
                prop_assert!(!(0..first.len()).any(again), "{}", first);
                prop_assert!(joins(&first), "{}", first);
            }
        }

        #[test]
        fn the_canonical_form_of_a_canonical_form_is_itself(path in "/[a-zA-Z0-9%./;~@\\\\-]{0,40}") {
            if let Ok(first) = canonical(&path) {
                prop_assert_eq!(canonical(&first).unwrap(), first.clone());
                prop_assert!(!first.split('/').any(|s| s == "." || s == ".."));
            }
        }
    }
}
