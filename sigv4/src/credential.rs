//! The credential of a signature: `access key id/YYYYMMDD/region/service/aws4_request`.

use crate::error::Incomplete;
use crate::key::TERMINATOR;

/// A credential with five parts, of visible ASCII characters.
#[derive(Clone)]
pub(crate) struct Credential(Box<str>);

impl Credential {
    pub(crate) fn parse(text: &str) -> Result<Self, Incomplete> {
        let visible = text.bytes().all(|byte| byte.is_ascii_graphic());
        if !visible || text.split('/').count() != 5 || text.split('/').any(str::is_empty) {
            return Err(Incomplete::Credential(text.to_owned()));
        }
        let credential = Self(text.into());
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
        self.0.split_once('/').map_or("", |(_, scope)| scope)
    }

    fn part(&self, at: usize) -> &str {
        self.0.split('/').nth(at).unwrap_or_default()
    }
}
