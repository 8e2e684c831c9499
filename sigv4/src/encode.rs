//! Percent-encoding (RFC 3986) and hexadecimal digits, on bytes.

const UPPER: &[u8; 16] = b"0123456789ABCDEF";
const LOWER: &[u8; 16] = b"0123456789abcdef";

/// A text of which each byte is percent-encoded that is not an unreserved character (RFC 3986, section 2.3), as AWS's `UriEncode`: a
/// segment of a path, or a value of a query or form.
#[must_use]
pub fn uri_encode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len() + text.len() / 4);
    text.bytes().for_each(|byte| push_encoded(&mut out, byte));
    // Each of these bytes is ASCII.
    out.into_iter().map(char::from).collect()
}

/// Appends a byte; anything but an unreserved character (RFC 3986, section 2.3) is percent-encoded.
pub(crate) fn push_encoded(out: &mut Vec<u8>, byte: u8) {
    if is_unreserved(byte) {
        out.push(byte);
    } else {
        let [high, low] = digits(byte, UPPER);
        out.extend_from_slice(&[b'%', high, low]);
    }
}

/// The bytes of a part of a query: escapes are decoded, `+` is a space, and a `%` that begins no escape is itself.
pub(crate) fn decoded(text: &str) -> impl Iterator<Item = u8> {
    let mut rest = text.as_bytes();
    std::iter::from_fn(move || {
        let (byte, after) = next_byte(rest)?;
        let escaped = rest.len() - after.len() > 1;
        rest = after;
        Some(if byte == b'+' && !escaped { b' ' } else { byte })
    })
}

/// The first byte of a percent-encoded text, and what follows it.
pub(crate) fn next_byte(text: &[u8]) -> Option<(u8, &[u8])> {
    if let [b'%', high, low, after @ ..] = text
        && let (Some(high), Some(low)) = (nibble(*high), nibble(*low))
    {
        return Some((high << 4 | low, after));
    }
    text.split_first().map(|(byte, after)| (*byte, after))
}

/// Appends bytes as lower-case hexadecimal digits.
pub(crate) fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().flat_map(|byte| digits(*byte, LOWER)));
}

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().flat_map(|byte| digits(*byte, LOWER));
    digits.map(char::from).collect()
}

/// 32 bytes from 64 lower-case hexadecimal digits.
pub(crate) fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() || text.bytes().any(|digit| digit.is_ascii_uppercase()) {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn digits(byte: u8, digits: &[u8; 16]) -> [u8; 2] {
    [digits[usize::from(byte >> 4)], digits[usize::from(byte & 0xf)]]
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_query_is_decoded_leniently() {
        let text = |text: &str| decoded(text).collect::<Vec<u8>>();
        assert_eq!(text("a%20b+c%2Bd%2b"), b"a b c+d+");
        assert_eq!(text("100%&%4"), b"100%&%4");
        assert_eq!(text("%zz%"), b"%zz%");
    }

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        assert_eq!(uri_encode("aZ0-._~"), "aZ0-._~");
        assert_eq!(uri_encode("a b+c/d:e%é"), "a%20b%2Bc%2Fd%3Ae%25%C3%A9");
    }

    #[test]
    fn a_digest_has_64_lower_case_digits() {
        let digest: [u8; 32] = std::array::from_fn(|at| at as u8 * 7);
        assert_eq!(parse_hex(&hex(&digest)), Some(digest));
        assert_eq!(parse_hex(&hex(&digest).to_uppercase()), None);
        assert_eq!(parse_hex(&hex(&digest[..31])), None);
        assert_eq!(parse_hex(&"0".repeat(65)), None);
        assert_eq!(parse_hex(&"g0".repeat(32)), None);
    }
}
