//! Which frames and kinds of parts a program supports. Each side lists them at the beginning of a stream.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::PartKind;

/// The names of all frames, and whether they were there before programs listed what they understand.
pub(crate) const FRAMES: [(&str, bool); 10] = [
    ("Hello", true),
    ("Ack", true),
    ("Pong", true),
    ("Welcome", false),
    ("Delta", true),
    ("Fleet", true),
    ("Ping", true),
    ("Review", false),
    ("Reviewed", false),
    ("Used", false),
];

/// Names of what a program understands: `part/KIND`, `frame/NAME`, and `feature/NAME` for what is neither.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Capabilities(BTreeSet<String>);

impl Capabilities {
    /// What this version understands.
    #[must_use]
    pub fn of_this_version() -> Self {
        let parts = PartKind::known().map(|kind| format!("part/{}", kind.text()));
        Self(parts.chain(FRAMES.iter().map(|(name, _)| format!("frame/{name}"))).collect())
    }

    /// Whether parts of this kind are served.
    #[must_use]
    pub fn has_part(&self, kind: PartKind) -> bool {
        self.0.contains(&format!("part/{}", kind.text()))
    }

    /// Whether the frame of this name is known.
    #[must_use]
    pub fn has_frame(&self, name: &str) -> bool {
        self.0.contains(&format!("frame/{name}"))
    }
}

impl Default for Capabilities {
    /// What a program understands that lists nothing: the kinds of parts and frames that were there before the lists.
    fn default() -> Self {
        let kinds = ["stage", "route", "authorizer", "keys", "plan", "upstream", "certificate"];
        let frames = FRAMES.iter().filter(|(_, first)| *first).map(|(name, _)| format!("frame/{name}"));
        Self(kinds.into_iter().map(|kind| format!("part/{kind}")).chain(frames).collect())
    }
}

impl<S: Into<String>> FromIterator<S> for Capabilities {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}
