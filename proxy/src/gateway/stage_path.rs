//! The path of a request at its Stage: what is forwarded, and the form in which it is matched, without empty segments and
//! without parameters.

use super::hosts::below;
use super::path::{Piece, pieces};
use super::router::Captures;

/// The canonical path of a request as it is matched: without empty segments, and without parameters. What is captured and
/// forwarded has both.
#[derive(Debug)]
pub(crate) struct Reduced {
    text: String,
    /// For each byte of the text: where it is in the path, and where what it stands for ends there.
    places: Vec<(u32, u32)>,
}

impl Reduced {
    pub(crate) fn new(path: &str) -> Self {
        let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        let (mut text, mut places) = (String::with_capacity(path.len()), Vec::with_capacity(path.len()));
        for Piece { slash, name, end } in pieces(path) {
            text.push('/');
            places.push((number(slash), if name.is_empty() { number(end) } else { number(slash + 1) }));
            text.push_str(name);
            places.extend((slash + 1..).take(name.len()).map(|at| (number(at), number(at + 1))));
            if let Some((_, last)) = places.last_mut().filter(|_| !name.is_empty()) {
                *last = number(end);
            }
        }
        Self { text, places }
    }

    /// What is matched.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}

/// The path of a request at its Stage, below the base path.
pub(crate) struct StagePath<'a> {
    /// Canonical: forwarded, used in cache keys, and what captures point into. It starts with one slash.
    pub(crate) path: &'a str,
    /// As it is matched.
    pub(crate) matched: &'a str,
    /// The places of the matched text, and where `path` begins in the whole path; none: both are the same.
    places: Option<(&'a [(u32, u32)], u32)>,
}

impl<'a> StagePath<'a> {
    /// None: the path is not below the base path.
    pub(crate) fn new(whole: &'a str, reduced: Option<&'a Reduced>, base: &str) -> Option<Self> {
        let Some(Reduced { text, places }) = reduced else {
            let path = below(whole, base)?;
            return Some(Self { path, matched: path, places: None });
        };
        let matched = below(text, base)?;
        let places = places.get(base.len()..).unwrap_or_default();
        let start = places.first().map_or(0, |(start, _)| *start);
        // Without a place nothing follows the base path.
        let path = if places.is_empty() { "/" } else { whole.get(start as usize..)? };
        Some(Self { path, matched, places: Some((places, start)) })
    }

    /// Where captures of the matched path are in the path.
    pub(crate) fn captures(&self, captures: Captures) -> Captures {
        let Some((places, offset)) = self.places else { return captures };
        let place = |at: u32| places.get(at as usize);
        let moved = |(start, end): (u32, u32)| {
            let (first, last) = (place(start)?, place(end.checked_sub(1)?)?);
            Some((first.0 - offset, last.1 - offset))
        };
        captures.into_iter().map(|capture| moved(capture).unwrap_or_default()).collect()
    }
}
