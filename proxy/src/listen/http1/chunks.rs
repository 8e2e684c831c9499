//! The framing of a chunked body: only the grammar of RFC 9112, 7.1 without its optional white space, and CRLF at the end of
//! each line. hyper accepts more. What hyper rejects itself is left to it.

use crate::listen::context::Strictness;

/// A size line cannot continue like this, wherever hyper is in it.
const INSTEAD_OF_LINE: &[u8] = b"\n";
/// A trailer cannot continue like this.
const INSTEAD_OF_TRAILER: &[u8] = b"\r\0";

/// Bytes that hyper must not get.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Violation {
    /// The first of them, in the bytes that were looked at.
    pub(super) at: usize,
    /// What hyper gets instead: it rejects the message.
    pub(super) instead: &'static [u8],
}

/// The position in a chunked body.
#[derive(Default)]
pub(super) struct Chunks {
    at: At,
    /// Of the current chunk.
    size: u64,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// The first digit of a size.
    #[default]
    Start,
    Size,
    /// The first character of an extension's name.
    Extension,
    Name,
    /// The first character of an extension's value.
    Equals,
    Value,
    Quoted,
    /// A backslash in a quoted value.
    Escaped,
    /// The end of a quoted value.
    Unquoted,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// The beginning of a line after the last chunk.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
}

/// What the bytes of a body are.
pub(super) enum Progress {
    /// All belong to the body, which goes on.
    Within,
    /// So many belong to the body, which ends with them.
    End(usize),
    /// hyper rejects them.
    Invalid,
    Violation(Violation),
}

/// A character of a token (RFC 9110, 5.6.2).
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(byte, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
}

impl Chunks {
    pub(super) fn look(&mut self, bytes: &[u8], strictness: Strictness) -> Progress {
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            if self.at == At::Data {
                let there = bytes.len() - at;
                let taken = usize::try_from(self.size).unwrap_or(usize::MAX).min(there);
                self.size -= taken as u64;
                at += taken;
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            if (self.at, byte) == (At::LastLf, b'\n') {
                return Progress::End(at + 1);
            }
            match self.next(byte, strictness) {
                Some(next) => self.at = next,
                None if strictness == Strictness::Lenient => return Progress::Invalid,
                None => {
                    let instead = match self.at {
                        At::Line | At::Trailer => INSTEAD_OF_TRAILER,
                        At::Size | At::Extension | At::Name | At::Equals | At::Value => INSTEAD_OF_LINE,
                        At::Quoted | At::Escaped | At::Unquoted => INSTEAD_OF_LINE,
                        _ => return Progress::Invalid,
                    };
                    return Progress::Violation(Violation { at, instead });
                }
            }
            at += 1;
        }
        Progress::Within
    }

    /// The position after a byte. None: it is not allowed.
    fn next(&mut self, byte: u8, strictness: Strictness) -> Option<At> {
        let strict = strictness == Strictness::Strict;
        let after_size = |byte| match byte {
            b';' => Some(At::Extension),
            b'\r' => Some(At::SizeLf),
            _ => None,
        };
        match self.at {
            At::Start | At::Size => match (char::from(byte).to_digit(16), self.at) {
                (Some(digit), _) => {
                    self.size = self.size.checked_mul(16)?.checked_add(digit.into())?;
                    Some(At::Size)
                }
                (None, At::Size) if !strict && matches!(byte, b' ' | b'\t') => Some(At::Extension),
                (None, At::Size) => after_size(byte),
                (None, _) => None,
            },
            // Leniently, everything up to the end of the line is an extension.
            At::Extension | At::Name | At::Equals | At::Value | At::Quoted | At::Escaped | At::Unquoted if !strict => {
                match byte {
                    b'\r' => Some(At::SizeLf),
                    b'\n' => None,
                    _ => Some(At::Extension),
                }
            }
            At::Extension => is_token(byte).then_some(At::Name),
            At::Name if byte == b'=' => Some(At::Equals),
            At::Equals if byte == b'"' => Some(At::Quoted),
            At::Equals => is_token(byte).then_some(At::Value),
            at @ (At::Name | At::Value) if is_token(byte) => Some(at),
            At::Name | At::Value | At::Unquoted => after_size(byte),
            At::Quoted => match byte {
                b'"' => Some(At::Unquoted),
                b'\\' => Some(At::Escaped),
                _ => (byte == b'\t' || !byte.is_ascii_control()).then_some(At::Quoted),
            },
            At::Escaped => (byte == b'\t' || !byte.is_ascii_control()).then_some(At::Quoted),
            At::SizeLf => (byte == b'\n').then_some(if self.size == 0 { At::Line } else { At::Data }),
            At::DataCr => (byte == b'\r').then_some(At::DataLf),
            At::DataLf => (byte == b'\n').then_some(At::Start),
            At::Line if byte == b'\r' => Some(At::LastLf),
            At::Line | At::Trailer => match byte {
                b'\r' => Some(At::TrailerLf),
                b'\n' if strict => None,
                _ => Some(At::Trailer),
            },
            At::TrailerLf => (byte == b'\n').then_some(At::Line),
            // The caller handles them where they are valid.
            At::Data | At::LastLf => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The result for a body that arrives in pieces of so many bytes: the end, or where it is rejected.
    fn look(body: &str, size: usize, strictness: Strictness) -> Result<usize, Option<usize>> {
        let mut chunks = Chunks::default();
        for (at, piece) in body.as_bytes().chunks(size).enumerate() {
            match chunks.look(piece, strictness) {
                Progress::Within => {}
                Progress::End(taken) => return Ok(at * size + taken),
                Progress::Invalid => return Err(None),
                Progress::Violation(violation) => return Err(Some(at * size + violation.at)),
            }
        }
        Ok(0)
    }

    #[test]
    fn only_the_grammar_of_chunks_is_accepted() {
        let good = [
            "0\r\n\r\n",
            "A\r\n0123456789\r\n000\r\n\r\n",
            "1;a\r\nx\r\n0\r\n\r\n",
            "1;a=b;c=\"d;\\\"\t \"\r\nx\r\n0;last\r\nx: y\r\nz:\r\n\r\n",
        ];
        for body in good {
            for size in 1..=body.len() {
                let more = format!("{body}GET / HTTP/1.1\r\n");
                assert_eq!(look(&more, size, Strictness::Strict), Ok(body.len()), "{body:?} {size}");
                assert_eq!(look(&more, size, Strictness::Lenient), Ok(body.len()), "{body:?} {size}");
            }
        }
        // The place where it is rejected, and whether hyper would accept it.
        let bad = [
            ("1 \r\nx\r\n0\r\n\r\n", 1, true),
            ("1\t\r\nx\r\n0\r\n\r\n", 1, true),
            ("1;\r\nx\r\n0\r\n\r\n", 2, true),
            ("1; a\r\nx\r\n0\r\n\r\n", 2, true),
            ("1 ;a\r\nx\r\n0\r\n\r\n", 1, true),
            ("1;a=\r\nx\r\n0\r\n\r\n", 4, true),
            ("1;a=\"b\r\nx\r\n0\r\n\r\n", 6, true),
            ("1;a=\"b\"c\r\nx\r\n0\r\n\r\n", 7, true),
            ("1;\x01\r\nx\r\n0\r\n\r\n", 2, true),
            ("1;a\nx\r\n0\r\n\r\n", 3, false),
            ("1x\r\nx\r\n0\r\n\r\n", 1, false),
            ("1\nx\r\n0\r\n\r\n", 1, false),
            ("1\r\nx\r\n0\r\nx: y\n\r\n", 13, true),
            ("1\r\nx\r\n0\r\n\n\r\n", 9, true),
        ];
        for (body, at, lenient) in bad {
            for size in 1..=body.len() {
                assert_eq!(look(body, size, Strictness::Strict), Err(Some(at)), "{body:?} {size}");
                assert_eq!(look(body, size, Strictness::Lenient).is_ok(), lenient, "{body:?} {size}");
            }
        }
        for body in ["x\r\n", "\r\n", "1\rx", "1\r\nxy", "1\r\nx\ry", "ffffffffffffffff0\r\n"] {
            let wanted = if body.starts_with('f') { Err(Some(16)) } else { Err(None) };
            assert_eq!(look(body, body.len(), Strictness::Strict), wanted, "{body:?}");
        }
    }
}
