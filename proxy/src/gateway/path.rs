//! The canonical form of a request's path, which is matched, used in cache keys and forwarded. What may be in it is decided
//! in `request_policy`.

#[cfg(test)]
mod tests;

use std::borrow::Cow;

/// Why a path has no canonical form. Such a request is rejected with 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadPath(pub(crate) &'static str);

pub(super) const fn hex(byte: u8) -> Option<u8> {
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
pub(super) const fn plain(byte: u8) -> bool {
    unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}

/// What a path has that programs interpret in different ways.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traits(u8);

impl Traits {
    /// `%2F`, `%5C` or a backslash.
    pub(crate) const ENCODED_SLASH: Self = Self(1);
    /// `%25` and two hexadecimal digits.
    pub(crate) const DOUBLE_ENCODING: Self = Self(2);
    /// `;` or `%3B`.
    pub(crate) const SEMICOLON: Self = Self(4);
    /// `//`, also with parameters between the slashes.
    pub(crate) const EMPTY_SEGMENT: Self = Self(8);
    /// A character that must be percent-encoded.
    pub(crate) const CHARACTER: Self = Self(16);

    /// Whether there is nothing of the kind.
    pub(crate) const fn is_plain(self) -> bool {
        self.0 == 0
    }

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    const fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Whether the path is matched in another form than it is forwarded in.
    pub(crate) const fn is_reducible(self) -> bool {
        self.has(Self::SEMICOLON) || self.has(Self::EMPTY_SEGMENT)
    }

    /// Whether a program that decodes more than the proxy finds another path.
    pub(crate) const fn is_decodable(self) -> bool {
        self.has(Self::ENCODED_SLASH) || self.has(Self::DOUBLE_ENCODING)
    }
}

/// A path in its canonical form.
#[derive(Debug)]
pub(crate) struct Canonical<'a> {
    pub(crate) text: Cow<'a, str>,
    pub(crate) traits: Traits,
}

pub(super) const DOTS: BadPath = BadPath("The path must not have dot segments.");
const CHARACTER: BadPath = BadPath("The path has a character that must be percent-encoded.");

/// The canonical form of `path`: escapes of unreserved characters are decoded, other escapes are written in upper case. A
/// path with control characters, invalid escapes or dot segments has none, whatever program reads it.
pub(crate) fn canonical(path: &str) -> Result<Canonical<'_>, BadPath> {
    let bytes = path.as_bytes();
    if bytes.first() != Some(&b'/') {
        return Err(BadPath("The path must start with a slash."));
    }
    if is_canonical(bytes) {
        return Ok(Canonical { text: Cow::Borrowed(path), traits: Traits::default() });
    }
    let mut traits = Traits::default();
    let text = if bytes.contains(&b'%') { Cow::Owned(unescape(bytes, &mut traits)?) } else { Cow::Borrowed(path) };
    check(text.as_bytes(), &mut traits)?;
    if !traits.is_plain() && has_dot_segment(&text) {
        return Err(DOTS);
    }
    Ok(Canonical { text, traits })
}

/// Whether a path has only characters that need no encoding, and neither empty segments nor segments that begin with a dot:
/// nearly all paths. For the others, [`check`] decides.
fn is_canonical(bytes: &[u8]) -> bool {
    /// 1: it needs no encoding. 3: a dot. 4: a slash.
    const KINDS: [u8; 256] = {
        let mut kinds = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            kinds[byte] = match byte as u8 {
                b'/' => 4,
                b'.' => 3,
                other => plain(other) as u8,
            };
            byte += 1;
        }
        kinds
    };
    let (mut slash, mut good) = (false, true);
    for byte in bytes {
        let kind = KINDS[usize::from(*byte)];
        // After a slash, neither a slash nor a dot.
        good &= kind != 0 && !(slash && kind > 1);
        slash = kind == 4;
    }
    good
}

fn check(bytes: &[u8], traits: &mut Traits) -> Result<(), BadPath> {
    let mut start = 1;
    let mut at = 1;
    while at <= bytes.len() {
        let byte = bytes.get(at).copied();
        match byte {
            None | Some(b'/') => {
                let segment = &bytes[start.min(bytes.len())..at];
                if segment == b"." || segment == b".." {
                    return Err(DOTS);
                }
                if byte.is_some() && (segment.is_empty() || traits.has(Traits::SEMICOLON) && name(segment).is_empty()) {
                    traits.add(Traits::EMPTY_SEGMENT);
                }
                start = at + 1;
            }
            Some(b'%') if is_overlong(bytes, at) => {
                return Err(BadPath("The path has a percent-encoding that is not valid UTF-8."));
            }
            // If decoded once more, it would be another path.
            Some(b'%') if encoded_twice(bytes, at) => traits.add(Traits::DOUBLE_ENCODING),
            Some(b'%') => {}
            Some(b';') => traits.add(Traits::SEMICOLON),
            Some(0..=b' ' | 0x7f) => return Err(CHARACTER),
            Some(b'\\') => {
                traits.add(Traits::ENCODED_SLASH);
                traits.add(Traits::CHARACTER);
            }
            Some(byte) if !plain(byte) => traits.add(Traits::CHARACTER),
            Some(_) => {}
        }
        at += 1;
    }
    Ok(())
}

/// A segment without its parameters: without the first semicolon and what follows it.
fn name(segment: &[u8]) -> &[u8] {
    let end = (0..segment.len()).find(|at| segment[*at] == b';' || segment[*at..].starts_with(b"%3B"));
    &segment[..end.unwrap_or(segment.len())]
}

/// Whether any program that treats escaped slashes or backslashes as slashes, or ignores parameters, finds a dot segment.
fn has_dot_segment(path: &str) -> bool {
    let slash = |at: &usize| {
        let rest = &path.as_bytes()[*at..];
        matches!(rest.first(), Some(b'/' | b'\\')) || rest.starts_with(b"%2F") || rest.starts_with(b"%5C")
    };
    let bytes = path.as_bytes();
    let mut start = 0;
    loop {
        let end = (start..bytes.len()).find(slash);
        let segment = name(&bytes[start..end.unwrap_or(bytes.len())]);
        if segment == b"." || segment == b".." {
            return true;
        }
        let Some(end) = end else { return false };
        start = end + if bytes[end] == b'%' { 3 } else { 1 };
    }
}

/// Whether the escape at `at` starts a sequence that some programs decode to an ASCII character, such as `%C0%AF` to a slash
/// (RFC 3629, section 10).
fn is_overlong(bytes: &[u8], at: usize) -> bool {
    let first = &bytes[at..];
    let next = first.get(3..5).unwrap_or_default();
    match first.get(1..3) {
        Some(b"C0" | b"C1") => matches!(next, b"%8" | b"%9" | b"%A" | b"%B"),
        Some(b"E0") => matches!(next, b"%8" | b"%9"),
        Some(b"F0") => next == b"%8",
        _ => false,
    }
}

/// Whether an escaped percent sign at `at` starts another escape.
fn encoded_twice(bytes: &[u8], at: usize) -> bool {
    let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex).is_some();
    bytes.get(at..at + 3) == Some(b"%25") && digit(3) && digit(4)
}

/// Whether a concatenation of canonical texts is unambiguous: no dot segment, and no double encoding at the joints, the
/// places where one text ends and the next begins.
pub(crate) fn joins(path: &str, joints: &[usize]) -> bool {
    let bytes = path.as_bytes();
    let twice = |joint: &usize| (joint.saturating_sub(4)..*joint).any(|at| encoded_twice(bytes, at));
    !has_dot_segment(path) && !joints.iter().any(twice)
}

/// The path with its escaped slashes and backslashes as slashes.
pub(crate) fn decode_slashes(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let (before, escape) = rest.split_at(at);
        let (escape, after) = escape.split_at_checked(3).unwrap_or((escape, ""));
        out.push_str(before);
        out.push_str(if matches!(escape, "%2F" | "%5C") { "/" } else { escape });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// A segment of a path that has a name, with the slashes before it.
pub(super) struct Piece<'a> {
    /// The last of the slashes.
    pub(super) slash: usize,
    /// Empty at the end of a path with a slash at its end.
    pub(super) name: &'a str,
    /// Where the segment ends, with its parameters.
    pub(super) end: usize,
}

/// The segments of a path that have names, and the last one if the path ends with a slash.
pub(super) fn pieces(path: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut slash = 0;
    while slash < path.len() {
        let rest = path.get(slash + 1..).unwrap_or_default();
        let segment = rest.split('/').next().unwrap_or_default();
        let end = slash + 1 + segment.len();
        let name = segment.get(..name(segment.as_bytes()).len()).unwrap_or(segment);
        if !name.is_empty() || end == path.len() {
            pieces.push(Piece { slash, name, end });
        }
        slash = end;
    }
    pieces
}

/// The path without empty segments. Parameters stay, apart from those of segments without a name.
pub(crate) fn collapse(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for piece in pieces(path) {
        let from = if piece.name.is_empty() { piece.slash..piece.slash + 1 } else { piece.slash..piece.end };
        out.push_str(path.get(from).unwrap_or_default());
    }
    out
}

/// The path without the parameters of its segments.
pub(crate) fn drop_parameters(path: &str) -> String {
    let names = path.split('/').map(|segment| segment.get(..name(segment.as_bytes()).len()).unwrap_or(segment));
    names.collect::<Vec<_>>().join("/")
}

/// The text with each character percent-encoded that must be, in a path or in a query.
pub(crate) fn encode(text: &str, allowed: fn(u8) -> bool) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for byte in text.bytes() {
        if byte == b'%' || allowed(byte) {
            out.push(char::from(byte));
        } else {
            escape(byte, &mut out);
        }
    }
    out
}

pub(super) fn escape(byte: u8, out: &mut String) {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    out.extend(['%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Characters that a path may have without encoding (RFC 3986, 3.3).
pub(crate) const fn in_path(byte: u8) -> bool {
    plain(byte) || matches!(byte, b'/' | b';')
}

/// Characters that a query may have without encoding (RFC 3986, 3.4).
pub(crate) const fn in_query(byte: u8) -> bool {
    in_path(byte) || byte == b'?'
}

fn unescape(bytes: &[u8], traits: &mut Traits) -> Result<String, BadPath> {
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
            0..=0x1f | 0x7f => return Err(BadPath("The path must not have an encoded control character.")),
            code if unreserved(code) => out.push(code),
            _ => {
                match code {
                    b'/' | b'\\' => traits.add(Traits::ENCODED_SLASH),
                    b';' => traits.add(Traits::SEMICOLON),
                    _ => {}
                }
                out.push(b'%');
                out.extend([bytes[at + 1].to_ascii_uppercase(), bytes[at + 2].to_ascii_uppercase()]);
            }
        }
        at += 3;
    }
    String::from_utf8(out).map_err(|_| CHARACTER)
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

/// Decodes percent-encoding once; invalid escapes are kept. `other` gives what stands for a byte that is not encoded.
pub(super) fn decode_once(bytes: &[u8], other: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex);
        if let (b'%', Some(high), Some(low)) = (byte, digit(1), digit(2)) {
            out.push((high << 4) | low);
            at += 3;
        } else {
            out.push(other(byte));
            at += 1;
        }
    }
    out
}

/// Decodes a query component: `+` is a space; invalid escapes are kept.
pub(crate) fn decode_query(text: &str) -> Cow<'_, str> {
    if !text.contains(['%', '+']) {
        return Cow::Borrowed(text);
    }
    let space = |byte| if byte == b'+' { b' ' } else { byte };
    Cow::Owned(String::from_utf8_lossy(&decode_once(text.as_bytes(), space)).into_owned())
}

/// The decoded names and values of a query, in order.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode_query(name), decode_query(value))
    })
}
