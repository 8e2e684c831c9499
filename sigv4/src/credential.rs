//! The credential of a signature: `access key id/YYYYMMDD/region/service/aws4_request`.

use crate::error::Incomplete;
use crate::key::TERMINATOR;

/// A credential with five parts, of visible ASCII characters.
#[derive(Clone)]
pub(crate) struct Credential {
    text: Box<str>,
    /// Where the first four parts end.
    ends: [usize; 4],
}

impl Credential {
    pub(crate) fn parse(text: &str) -> Result<Self, Incomplete> {
        let invalid = || Incomplete::Credential(text.to_owned());
        let mut slashes = text.bytes().enumerate().filter_map(|(at, byte)| (byte == b'/').then_some(at));
        let ends: [Option<usize>; 4] = std::array::from_fn(|_| slashes.next());
        let [Some(a), Some(b), Some(c), Some(d)] = ends else { return Err(invalid()) };
        let credential = Self { text: text.into(), ends: [a, b, c, d] };
        let is_empty = (0..5).any(|part| credential.part(part).is_empty());
        if slashes.next().is_some() || is_empty || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid());
        }
        match credential.part(4) {
            TERMINATOR => Ok(credential),
            other => Err(Incomplete::Terminator(other.to_owned())),
        }
    }

    pub(crate) fn access_key_id(&self) -> &str {
        self.part(0)
    }

    pub(crate) fn date(&self) -> &str {
        self.part(1)
    }

    pub(crate) fn region(&self) -> &str {
        self.part(2)
    }

    pub(crate) fn service(&self) -> &str {
        self.part(3)
    }

    /// `YYYYMMDD/region/service/aws4_request`.
    pub(crate) fn scope(&self) -> &str {
        self.text.get(self.begin(1)..).unwrap_or_default()
    }

    fn part(&self, at: usize) -> &str {
        let end = self.ends.get(at).copied().unwrap_or(self.text.len());
        self.text.get(self.begin(at)..end).unwrap_or_default()
    }

    /// Where a part begins.
    fn begin(&self, part: usize) -> usize {
        part.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| end + 1)
    }
}
