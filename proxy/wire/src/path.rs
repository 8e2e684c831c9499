//! Path templates: `/orders/{id}`, `/orders/`, `/files/{proxy+}`. Parsed here; the proxy's router matches canonical paths to them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One segment of a template.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Segment {
    /// Matches itself.
    Static(String),
    /// `{name}`: matches one segment that is not empty.
    Param(String),
    /// `{name+}`: matches the rest, at least one character. Only as the last segment.
    Greedy(String),
}

/// A parsed path template. No two spellings are equal to a router unless they are equal here.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathTemplate {
    segments: Vec<Segment>,
    slash: bool,
}

/// Why a text is not a path template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParsePathError {
    /// Does not begin with `/`.
    #[error("a path must start with /")]
    NoSlash,
    /// More than 1,024 bytes or 64 segments.
    #[error("a path must have at most 1024 characters and 64 segments")]
    TooLong,
    /// `//`.
    #[error("a path must not have empty segments: use one / between segments, and at most one at the end")]
    Empty,
    /// `.` or `..`.
    #[error("a path must not have dot segments")]
    Dots,
    /// A character that would make two readings of one path.
    #[error("the segment {0:?} must have only letters, digits and - . _ ~ ! $ & ' ( ) * + , = : @")]
    Character(String),
    /// Not `{name}` or `{name+}`.
    #[error("{0:?} is not a parameter: use {{name}} for one segment or {{name+}} for the rest, as a whole segment")]
    Parameter(String),
    /// `{name+}` before the end.
    #[error("the greedy parameter {0:?} must be the last segment")]
    GreedyNotLast(String),
    /// Used twice.
    #[error("the parameter {0:?} is used twice")]
    Twice(String),
}

impl PathTemplate {
    /// The segments in order; none for `/`.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether it ends with a slash: `/orders/` is another template than `/orders`. Not `/`, which has no segments.
    #[must_use]
    pub fn ends_with_slash(&self) -> bool {
        self.slash
    }

    /// The names of its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Static(_) => None,
            Segment::Param(name) | Segment::Greedy(name) => Some(name.as_str()),
        })
    }
}

fn segment(text: &str) -> Result<Segment, ParsePathError> {
    if text.is_empty() {
        return Err(ParsePathError::Empty);
    }
    if text == "." || text == ".." {
        return Err(ParsePathError::Dots);
    }
    if text.contains(['{', '}']) {
        let bad = || ParsePathError::Parameter(text.to_owned());
        let inner = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).ok_or_else(bad)?;
        let (name, greedy) = inner.strip_suffix('+').map_or((inner, false), |name| (name, true));
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
        if name.is_empty() || name.len() > 64 || !name.bytes().all(good) {
            return Err(bad());
        }
        let name = name.to_owned();
        return Ok(if greedy { Segment::Greedy(name) } else { Segment::Param(name) });
    }
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&b);
    if text.bytes().all(good) {
        Ok(Segment::Static(text.to_owned()))
    } else {
        Err(ParsePathError::Character(text.to_owned()))
    }
}

impl FromStr for PathTemplate {
    type Err = ParsePathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix('/').ok_or(ParsePathError::NoSlash)?;
        if rest.is_empty() {
            return Ok(Self { segments: Vec::new(), slash: false });
        }
        let (rest, slash) = rest.strip_suffix('/').map_or((rest, false), |rest| (rest, true));
        let segments = rest.split('/').map(segment).collect::<Result<Vec<_>, _>>()?;
        if text.len() > 1024 || segments.len() > 64 {
            return Err(ParsePathError::TooLong);
        }
        let template = Self { segments, slash };
        let last = template.segments.len() - 1;
        for (at, segment) in template.segments.iter().enumerate() {
            if let Segment::Greedy(name) = segment
                && at != last
            {
                return Err(ParsePathError::GreedyNotLast(name.clone()));
            }
        }
        let names: Vec<&str> = template.parameters().collect();
        for (at, name) in names.iter().enumerate() {
            if names.iter().take(at).any(|earlier| earlier == name) {
                return Err(ParsePathError::Twice((*name).to_owned()));
            }
        }
        Ok(template)
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            return f.write_str("/");
        }
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Static(text) => write!(f, "/{text}"),
            Segment::Param(name) => write!(f, "/{{{name}}}"),
            Segment::Greedy(name) => write!(f, "/{{{name}+}}"),
        })?;
        if self.slash { f.write_str("/") } else { Ok(()) }
    }
}

impl TryFrom<String> for PathTemplate {
    type Error = ParsePathError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PathTemplate> for String {
    fn from(path: PathTemplate) -> Self {
        path.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_templates_round_trip() {
        for good in ["/", "/orders", "/orders/{id}", "/a/{b}/c/{rest+}", "/v1.0/a@b:c", "/{proxy+}"] {
            let template: PathTemplate = good.parse().unwrap();
            assert_eq!((template.to_string().as_str(), template.ends_with_slash()), (good, false));
        }
        for good in ["/orders/", "/orders/{id}/", "/files/{rest+}/", "/{x}/"] {
            let template: PathTemplate = good.parse().unwrap();
            assert_eq!((template.to_string().as_str(), template.ends_with_slash()), (good, true));
            assert_ne!(template, good.trim_end_matches('/').parse().unwrap());
        }
    }

    type IsExpected = fn(&ParsePathError) -> bool;

    #[test]
    fn each_bad_template_has_its_own_error() {
        let rows: [(&str, IsExpected); 14] = [
            ("", |e| matches!(e, ParsePathError::NoSlash)),
            ("orders", |e| matches!(e, ParsePathError::NoSlash)),
            ("/a//b", |e| matches!(e, ParsePathError::Empty)),
            ("/a//", |e| matches!(e, ParsePathError::Empty)),
            ("//", |e| matches!(e, ParsePathError::Empty)),
            ("/{a+}//", |e| matches!(e, ParsePathError::Empty)),
            ("/a/../b", |e| matches!(e, ParsePathError::Dots)),
            ("/a;b", |e| matches!(e, ParsePathError::Character(_))),
            ("/a%2fb", |e| matches!(e, ParsePathError::Character(_))),
            ("/a{b}", |e| matches!(e, ParsePathError::Parameter(_))),
            ("/{}", |e| matches!(e, ParsePathError::Parameter(_))),
            ("/{a+}/b", |e| matches!(e, ParsePathError::GreedyNotLast(_))),
            ("/{a}/{a}", |e| matches!(e, ParsePathError::Twice(_))),
            ("/é", |e| matches!(e, ParsePathError::Character(_))),
        ];
        for (text, expected) in rows {
            let error = text.parse::<PathTemplate>().unwrap_err();
            assert!(expected(&error), "{text}: {error:?}");
        }
    }
}
