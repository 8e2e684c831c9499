//! Patterns with `*` (any characters, also none) and `?` (one character).
//!
//! The first and the last segment between stars have fixed places; each other one is searched once, from the end of the
//! one before. A text is never searched again for an earlier segment, so that the time has a bound: linear in the text
//! for segments without `?`, whose searchers are built with the pattern, and text times segment for the others.

use memchr::memmem::Finder;

/// A compiled pattern.
#[derive(Debug, Clone)]
pub(crate) struct Glob {
    /// The first segment, up to the first star.
    head: Segment,
    /// The segments after each star. Empty: no star, and the head is the whole text.
    tail: Vec<Segment>,
    /// Those of the segments of `tail` that are texts: building one takes longer than searching in the name of a method.
    searchers: Vec<Option<Finder<'static>>>,
    fold: bool,
}

/// Characters without a star.
#[derive(Debug, Clone)]
enum Segment {
    /// Exactly this text.
    Text(String),
    /// Single characters, `None` for any one; also of patterns that ignore case.
    Chars(Vec<Option<char>>),
}

/// Builds a pattern from its elements.
pub(crate) struct Builder {
    segments: Vec<Segment>,
    last: Segment,
    fold: bool,
}

impl Builder {
    /// `fold`: upper and lower case match each other.
    pub(crate) fn new(fold: bool) -> Self {
        Self { segments: Vec::new(), last: Segment::empty(fold), fold }
    }

    /// Appends characters that match themselves only.
    pub(crate) fn text(&mut self, text: &str) {
        match &mut self.last {
            Segment::Text(last) => last.push_str(text),
            Segment::Chars(chars) => chars.extend(text.chars().map(Some)),
        }
    }

    /// Appends `?`.
    pub(crate) fn one(&mut self) {
        if let Segment::Text(text) = &self.last {
            self.last = Segment::Chars(text.chars().map(Some).collect());
        }
        if let Segment::Chars(chars) = &mut self.last {
            chars.push(None);
        }
    }

    /// Appends `*`.
    pub(crate) fn any(&mut self) {
        let segment = std::mem::replace(&mut self.last, Segment::empty(self.fold));
        // Two stars in a row are one.
        if self.segments.is_empty() || !segment.is_empty() {
            self.segments.push(segment);
        }
    }

    pub(crate) fn finish(self) -> Glob {
        let mut segments = self.segments.into_iter().chain(std::iter::once(self.last));
        let head = segments.next().unwrap_or(Segment::empty(self.fold));
        let tail: Vec<Segment> = segments.collect();
        let searchers = tail.iter().map(|segment| match segment {
            Segment::Text(text) => Some(Finder::new(text.as_bytes()).into_owned()),
            Segment::Chars(_) => None,
        });
        Glob { head, searchers: searchers.collect(), tail, fold: self.fold }
    }
}

impl Glob {
    /// Whether the pattern matches a text that begins with `prefix`.
    pub(crate) fn may_begin_with(&self, prefix: &str) -> bool {
        let agrees = self.head.agrees(prefix, self.fold);
        // What follows a star can be any text.
        if self.tail.is_empty() { agrees && prefix.chars().count() <= self.head.length() } else { agrees }
    }

    /// Whether the pattern matches the whole text.
    pub(crate) fn matches(&self, text: &str) -> bool {
        let Some(rest) = self.head.strip_prefix(text, self.fold) else { return false };
        let Some((last, middle)) = self.tail.split_last() else { return rest.is_empty() };
        let Some(rest) = last.strip_suffix(rest, self.fold) else { return false };
        let mut middle = middle.iter().zip(&self.searchers);
        middle
            .try_fold(rest, |rest, (segment, searcher)| segment.after_first(rest, searcher.as_ref(), self.fold))
            .is_some()
    }
}

impl Segment {
    fn empty(fold: bool) -> Self {
        if fold { Self::Chars(Vec::new()) } else { Self::Text(String::new()) }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Text(text) => text.is_empty(),
            Self::Chars(chars) => chars.is_empty(),
        }
    }

    /// The number of characters.
    fn length(&self) -> usize {
        match self {
            Self::Text(text) => text.chars().count(),
            Self::Chars(chars) => chars.len(),
        }
    }

    /// Whether it and a text have the same characters, as far as both have any.
    fn agrees(&self, text: &str, fold: bool) -> bool {
        match self {
            Self::Text(own) => own.chars().zip(text.chars()).all(|(own, char)| own == char),
            Self::Chars(own) => own.iter().zip(text.chars()).all(|(own, char)| fits(*own, Some(char), fold)),
        }
    }

    fn strip_prefix<'t>(&self, text: &'t str, fold: bool) -> Option<&'t str> {
        match self {
            Self::Text(prefix) => text.strip_prefix(prefix.as_str()),
            Self::Chars(expected) => {
                let mut chars = text.chars();
                expected.iter().all(|expected| fits(*expected, chars.next(), fold)).then_some(chars.as_str())
            }
        }
    }

    fn strip_suffix<'t>(&self, text: &'t str, fold: bool) -> Option<&'t str> {
        match self {
            Self::Text(suffix) => text.strip_suffix(suffix.as_str()),
            Self::Chars(expected) => {
                let mut chars = text.chars();
                expected.iter().rev().all(|expected| fits(*expected, chars.next_back(), fold)).then_some(chars.as_str())
            }
        }
    }

    /// What follows the first occurrence; `searcher` is that of a text.
    fn after_first<'t>(&self, text: &'t str, searcher: Option<&Finder<'_>>, fold: bool) -> Option<&'t str> {
        if let Some(searcher) = searcher {
            let at = searcher.find(text.as_bytes())?;
            return text.get(at + searcher.needle().len()..);
        }
        let mut chars = text.chars();
        loop {
            if let Some(rest) = self.strip_prefix(chars.as_str(), fold) {
                return Some(rest);
            }
            chars.next()?;
        }
    }
}

fn fits(expected: Option<char>, char: Option<char>, fold: bool) -> bool {
    match (expected, char) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(expected), Some(char)) => expected == char || (fold && expected.to_lowercase().eq(char.to_lowercase())),
    }
}
