//! The paths that a program could find in a path with escaped slashes or double encoding, if it decodes more than the proxy.

use super::path::{BadPath, DOTS, decode_once, escape, plain};

/// How often a path may be encoded.
const MAX_LEVELS: usize = 3;
const AGAIN: BadPath = BadPath("The path is encoded too often.");
const CONTROL: BadPath = BadPath("The path must not have an encoded control character.");

/// How a program reads a path that it has decoded.
#[derive(Clone, Copy)]
struct Reader {
    /// Whether a backslash is a slash.
    backslash: bool,
    /// Whether a segment ends at a semicolon.
    parameters: bool,
}

/// Every reading of a canonical path, in the form that is matched: decoded up to three times, with backslashes as slashes or
/// not, with parameters or without, without empty segments, with and without a slash at the end. A reading with dot segments
/// or control characters is none that may be forwarded.
pub(crate) fn readings(path: &str) -> Result<Vec<String>, BadPath> {
    let mut found = Vec::new();
    let mut bytes = path.as_bytes().to_vec();
    for level in 0.. {
        let decoded = decode_once(&bytes, |byte| byte);
        if decoded.len() == bytes.len() {
            break; // nothing was encoded
        }
        if level == MAX_LEVELS {
            return Err(AGAIN);
        }
        bytes = decoded;
        if bytes.iter().any(u8::is_ascii_control) {
            return Err(CONTROL);
        }
        for backslash in [true, false] {
            for parameters in [true, false] {
                let text = read(&bytes, Reader { backslash, parameters })?;
                if !found.contains(&text) {
                    found.extend(text.strip_suffix('/').filter(|text| !text.is_empty()).map(str::to_owned));
                    found.push(text);
                }
            }
        }
    }
    Ok(found)
}

fn read(bytes: &[u8], reader: Reader) -> Result<String, BadPath> {
    // A program that decodes a path before it parses it finds a query or a fragment there.
    let end = bytes.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(bytes.len());
    let path = bytes.get(..end).unwrap_or_default();
    let mut out = String::with_capacity(path.len());
    let mut segments = path.split(|byte| *byte == b'/' || (reader.backslash && *byte == b'\\')).peekable();
    while let Some(segment) = segments.next() {
        let name =
            if reader.parameters { segment.split(|byte| *byte == b';').next().unwrap_or_default() } else { segment };
        if name == b"." || name == b".." {
            return Err(DOTS);
        }
        if !name.is_empty() {
            out.push('/');
            for byte in name {
                if plain(*byte) { out.push(char::from(*byte)) } else { escape(*byte, &mut out) }
            }
        } else if segments.peek().is_none() {
            out.push('/');
        }
    }
    Ok(out)
}
