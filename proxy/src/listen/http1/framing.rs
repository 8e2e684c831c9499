//! Where the messages of an HTTP/1.1 connection begin and end, found in the bytes before hyper parses them. hyper repairs what
//! two programs could read differently, such as `Content-Length` beside `Transfer-Encoding`: here it is rejected. Heads are kept
//! until hyper has parsed them, so that a rejection can be explained. Heads and bodies are parsed by hyper.

use memchr::memchr;

use super::chunks::{Chunks, Progress, Violation};
use crate::listen::context::Strictness;

/// A buffer of this size or less is kept for the next head.
const KEEP: usize = 4 * 1024;
/// What hyper gets instead of a head that is rejected. No head can go on like this, and because of the empty line hyper
/// parses it at once.
const INSTEAD_OF_HEAD: &[u8] = b"\0\r\n\r\n";

/// The position in the messages of a connection.
pub(super) struct Framing {
    strictness: Strictness,
    at: At,
    /// Heads that hyper may not have parsed yet; the last one may be incomplete.
    heads: Vec<u8>,
    /// The ends of the complete ones.
    ends: Vec<usize>,
    /// The number of the first one: of heads before it.
    first: u32,
    /// Of the current head.
    fields: Fields,
}

enum At {
    /// Before a head.
    Start,
    /// Within a head, whose first incomplete line begins here, counted from the beginning of the head.
    Head(usize),
    /// Within a body of which so many bytes are missing.
    Length(u64),
    Chunks(Chunks),
    /// What follows is another protocol, or hyper has all that it needs to reject the message.
    Unknown,
}

/// What a head says about its message.
#[derive(Default)]
struct Fields {
    length: Option<u64>,
    coded: bool,
    upgrade: bool,
    /// Why the head is rejected.
    why: Option<&'static str>,
}

enum Scan {
    /// The head has this many bytes.
    Complete(usize),
    /// The head's first incomplete line begins here.
    Incomplete(usize),
}

impl Framing {
    pub(super) fn new(strictness: Strictness) -> Self {
        let (heads, ends) = (Vec::new(), Vec::new());
        Self { strictness, at: At::Start, heads, ends, first: 0, fields: Fields::default() }
    }

    /// Looks at bytes that have arrived, when hyper has parsed so many heads of the connection.
    pub(super) fn look(&mut self, bytes: &[u8], parsed: u32) -> Result<(), Violation> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            at += match &mut self.at {
                At::Start | At::Head(_) => {
                    self.head(rest, parsed).map_err(|()| Violation { at, instead: INSTEAD_OF_HEAD })?
                }
                At::Length(missing) => {
                    let taken = usize::try_from(*missing).unwrap_or(usize::MAX).min(rest.len());
                    *missing -= taken as u64;
                    if *missing == 0 {
                        self.message_ended();
                    }
                    taken
                }
                At::Chunks(chunks) => match chunks.look(rest, self.strictness) {
                    Progress::Within => return Ok(()),
                    Progress::End(taken) => {
                        self.message_ended();
                        taken
                    }
                    Progress::Invalid => {
                        self.at = At::Unknown;
                        return Ok(());
                    }
                    Progress::Violation(violation) => {
                        self.at = At::Unknown;
                        return Err(Violation { at: at + violation.at, ..violation });
                    }
                },
                At::Unknown => return Ok(()),
            };
        }
        Ok(())
    }

    /// Whether the last message is complete and no other has begun.
    pub(super) fn is_between_messages(&self) -> bool {
        match self.at {
            At::Start => true,
            At::Head(_) => self.is_blank(),
            _ => false,
        }
    }

    /// Whether a head has begun and is not complete.
    pub(super) fn is_within_head(&self) -> bool {
        matches!(self.at, At::Head(_)) && !self.is_blank()
    }

    /// The beginning of the current head.
    fn start(&self) -> usize {
        self.ends.last().copied().unwrap_or_default()
    }

    /// Clients may send empty lines between messages (RFC 9112, 2.2).
    fn is_blank(&self) -> bool {
        self.heads.iter().skip(self.start()).all(|byte| matches!(byte, b'\r' | b'\n'))
    }

    /// The head that hyper has not parsed, when it has parsed so many, complete or not; and why it was rejected, unless hyper
    /// rejected it.
    pub(super) fn unparsed(&self, parsed: u32) -> (&[u8], Option<&'static str>) {
        let at = parsed.saturating_sub(self.first) as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends.get(before).copied().unwrap_or(self.heads.len()));
        let end = self.ends.get(at).copied();
        let head = self.heads.get(start..end.unwrap_or(self.heads.len())).unwrap_or_default();
        (head, self.fields.why.filter(|_| end.is_none()))
    }

    /// Takes bytes of a head and returns their number. Err: the head is complete and rejected.
    fn head(&mut self, bytes: &[u8], parsed: u32) -> Result<usize, ()> {
        let taken = if let At::Head(line) = self.at {
            let (start, before) = (self.start(), self.heads.len());
            self.heads.extend_from_slice(bytes);
            match self.fields.scan(self.heads.get(start..).unwrap_or_default(), line, self.strictness) {
                Scan::Complete(size) => {
                    self.heads.truncate(start + size);
                    start + size - before
                }
                Scan::Incomplete(line) => {
                    self.at = At::Head(line);
                    return Ok(bytes.len());
                }
            }
        } else {
            if self.first + self.ends.len() as u32 == parsed {
                self.first = parsed;
                self.ends.clear();
                self.heads.clear();
                if self.heads.capacity() > KEEP {
                    self.heads = Vec::new();
                }
            }
            // Nearly all heads arrive in one piece.
            self.fields = Fields::default();
            let scan = self.fields.scan(bytes, 0, self.strictness);
            let size = if let Scan::Complete(size) = scan { size } else { bytes.len() };
            self.heads.extend_from_slice(bytes.get(..size).unwrap_or_default());
            if let Scan::Incomplete(line) = scan {
                self.at = At::Head(line);
                return Ok(size);
            }
            size
        };
        if self.fields.why.is_some() {
            self.at = At::Unknown;
            return Err(());
        }
        self.ends.push(self.heads.len());
        match (self.fields.coded, self.fields.length) {
            (true, _) => self.at = At::Chunks(Chunks::default()),
            (false, None | Some(0)) => self.message_ended(),
            (false, Some(length)) => self.at = At::Length(length),
        }
        Ok(taken)
    }

    fn message_ended(&mut self) {
        // Without a response of 101 the connection is closed.
        self.at = if self.fields.upgrade { At::Unknown } else { At::Start };
    }
}

impl Fields {
    /// Reads the lines of a head from the one that begins at `line`.
    fn scan(&mut self, head: &[u8], mut line: usize, strictness: Strictness) -> Scan {
        loop {
            let Some(length) = head.get(line..).and_then(|rest| memchr(b'\n', rest)) else {
                return Scan::Incomplete(line);
            };
            let text = head.get(line..line + length).unwrap_or_default();
            let text = match text.split_last() {
                Some((b'\r', text)) => text,
                _ if strictness == Strictness::Lenient => text,
                _ => {
                    self.reject("Lines of the request's head must end with CR and LF.");
                    text
                }
            };
            line += length + 1;
            // A colon where one of the names ends. The request line has none of these names.
            let colon = |at: usize| text.get(at) == Some(&b':');
            if text.is_empty() {
                if head.get(..line).unwrap_or_default().iter().any(|byte| !matches!(byte, b'\r' | b'\n')) {
                    return Scan::Complete(line);
                }
            } else if colon(14) || colon(17) || colon(7) {
                self.field(text, strictness);
            }
        }
    }

    #[cold]
    fn reject(&mut self, why: &'static str) {
        self.why.get_or_insert(why);
    }

    fn field(&mut self, line: &[u8], strictness: Strictness) {
        let value = |name: &[u8]| {
            let (start, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b":")?;
            start.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
        };
        if let Some(value) = value(b"content-length") {
            self.content_length(value, strictness);
        } else if let Some(value) = value(b"transfer-encoding") {
            self.transfer_encoding(value, strictness);
        } else if value(b"upgrade").is_some() {
            self.upgrade = true;
        }
    }

    fn content_length(&mut self, value: &[u8], strictness: Strictness) {
        let number = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let Some(number) = number.and_then(|text| text.parse().ok()) else {
            return self.reject("Content-Length must be a number.");
        };
        match self.length {
            Some(before) if strictness == Strictness::Strict || before != number => {
                self.reject("The request must have at most one Content-Length header.");
            }
            _ if self.coded => self.both(strictness),
            _ => self.length = Some(number),
        }
    }

    fn transfer_encoding(&mut self, value: &[u8], strictness: Strictness) {
        if self.coded {
            return self.reject("The request must have at most one Transfer-Encoding header.");
        }
        if !value.eq_ignore_ascii_case(b"chunked") {
            return self.reject("Transfer-Encoding must be chunked.");
        }
        self.coded = true;
        if self.length.is_some() {
            self.both(strictness);
        }
    }

    fn both(&mut self, strictness: Strictness) {
        if strictness == Strictness::Strict {
            self.reject("Content-Length and Transfer-Encoding must not be sent together.");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: &str = "GET /a HTTP/1.1\r\nhost: a\r\n\r\n";

    /// Looks at a text in pieces of so many bytes: why it is rejected, and the place.
    fn look(text: &str, size: usize, strictness: Strictness) -> Option<(usize, &'static [u8], Option<&'static str>)> {
        let mut framing = Framing::new(strictness);
        for (at, piece) in text.as_bytes().chunks(size).enumerate() {
            if let Err(violation) = framing.look(piece, 0) {
                let heads = u32::try_from(framing.ends.len()).unwrap();
                return Some((at * size + violation.at, violation.instead, framing.unparsed(heads).1));
            }
        }
        None
    }

    #[test]
    fn a_head_with_two_readings_is_rejected_wherever_it_is_divided() {
        let chunked = "transfer-encoding: chunked\r\n";
        let bad = [
            ("content-length: 1\r\nTransfer-Encoding: chunked\r\n", "together"),
            ("Transfer-Encoding:chunked\r\ncontent-length:1\r\n", "together"),
            ("content-length: 0\r\ntransfer-encoding: chunked\r\n", "together"),
            ("content-length: 1\r\nContent-Length: 1\r\n", "one Content-Length"),
            ("content-length: 0\r\nx: y\r\ncontent-length: 0\r\n", "one Content-Length"),
            ("content-length: 1, 1\r\n", "number"),
            ("content-length: +1\r\n", "number"),
            ("content-length:\r\n", "number"),
            ("content-length: 99999999999999999999\r\n", "number"),
            (&chunked.repeat(2), "one Transfer-Encoding"),
            ("transfer-encoding: gzip, chunked\r\n", "must be chunked"),
            ("transfer-encoding: \"chunked\"\r\n", "must be chunked"),
            ("x: y\n", "CR and LF"),
            ("content-length: 3\n", "CR and LF"),
        ];
        for (fields, why) in bad {
            let text = format!("{GET}POST /b HTTP/1.1\r\nhost: a\r\n{fields}\r\nabc");
            for size in 1..=text.len() {
                let (at, instead, found) = look(&text, size, Strictness::Strict).unwrap();
                assert!(found.unwrap().contains(why), "{fields}: {found:?}");
                assert_eq!(instead, INSTEAD_OF_HEAD);
                // Nothing of the head's last piece, and nothing after it.
                let end = text.len() - 3;
                assert!(
                    at >= GET.len() && at < end && (at == GET.len() || at + size >= end),
                    "{fields}: {at} of {size}"
                );
            }
        }
        for line_ends in
            ["POST /b HTTP/1.1\nhost: a\r\n\r\n", "POST /b HTTP/1.1\r\nhost: a\r\n\n", "\nGET / HTTP/1.1\r\n\r\n"]
        {
            assert!(look(line_ends, line_ends.len(), Strictness::Strict).is_some(), "{line_ends:?}");
            assert!(look(line_ends, line_ends.len(), Strictness::Lenient).is_none(), "{line_ends:?}");
        }
    }

    #[test]
    fn bodies_are_skipped_whatever_they_contain() {
        let body = "a\nb\ncontent-length: 1\ntransfer-encoding: x\n\n";
        let text = format!(
            "{GET}\r\nPOST /b HTTP/1.1\r\nX-Content-Length: x\r\nCONTENT-length: {}\r\n\r\n{body}\
             POST /c HTTP/1.1\r\ntransfer-encoding: Chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\nx: y\r\n\r\n{GET}",
            body.len(),
            body.len(),
        );
        for size in 1..=text.len() {
            assert_eq!(look(&text, size, Strictness::Strict), None, "{size}");
        }
        let mut framing = Framing::new(Strictness::Strict);
        framing.look(text.as_bytes(), 0).unwrap();
        assert!(framing.is_between_messages());
        framing.look(b"\r\n", 4).unwrap();
        assert!(framing.is_between_messages() && !framing.is_within_head());
        framing.look(b"GET", 4).unwrap();
        assert!(!framing.is_between_messages() && framing.is_within_head());
    }

    #[test]
    fn heads_are_kept_until_they_are_parsed() {
        let head = |n: u32| format!("GET /{n} HTTP/1.1\r\nhost: a\r\n\r\n");
        let mut framing = Framing::new(Strictness::Strict);
        let first = format!("{}{}GET /2 HTTP/1.1\r\nx: ", head(0), head(1));
        framing.look(first.as_bytes(), 0).unwrap();
        assert_eq!(framing.unparsed(0), (head(0).as_bytes(), None));
        assert_eq!(framing.unparsed(1), (head(1).as_bytes(), None));
        assert_eq!(framing.unparsed(2), (&b"GET /2 HTTP/1.1\r\nx: "[..], None));
        framing.look(format!("y\r\n\r\n{}", head(3)).as_bytes(), 2).unwrap();
        assert_eq!(framing.unparsed(2), (&b"GET /2 HTTP/1.1\r\nx: y\r\n\r\n"[..], None));
        assert_eq!(framing.unparsed(3), (head(3).as_bytes(), None));
        framing.look(head(4).as_bytes(), 4).unwrap();
        assert_eq!((framing.unparsed(4), framing.heads.len()), ((head(4).as_bytes(), None), head(4).len()));
        assert!(framing.look(b"GET /5 HTTP/1.1\n\n", 4).is_err());
        assert_eq!(framing.unparsed(4), (head(4).as_bytes(), None), "hyper can reject the one before");
        assert!(framing.unparsed(5).1.is_some());
    }

    #[test]
    fn another_protocol_is_not_looked_at() {
        let upgrade =
            "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n\0\n\ncontent-length: 1\ncontent-length: 1\n\n";
        assert_eq!(look(upgrade, 7, Strictness::Strict), None);
    }

    #[test]
    fn lenient_framing_accepts_what_has_one_reading_in_most_programs() {
        for fields in [
            "content-length: 3\r\ntransfer-encoding: chunked\r\n",
            "transfer-encoding: chunked\r\ncontent-length: 3\r\n",
            "content-length: 3\r\ncontent-length: 3\r\n",
            "x: y\n",
        ] {
            let text = format!("POST /b HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(look(&text, 5, Strictness::Lenient), None, "{fields}");
        }
        let differ = "POST /b HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n";
        assert!(look(differ, 5, Strictness::Lenient).is_some());
    }
}
