//! Errors of parsing, with the place in the document.

use std::fmt;

/// Why a document is not a valid policy. The first error that is found is reported; nothing of the document is used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct PolicyError {
    /// The JSON path of the invalid value, such as `$.Statement[1].Condition.IpAddress["aws:SourceIp"][0]`.
    pub path: String,
    /// What is wrong with it: lower case, no full stop.
    pub reason: String,
}

/// A JSON path, built on the stack while the document is walked and written out for an error only.
#[derive(Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Key(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl<'a> Path<'a> {
    pub(crate) fn key(&'a self, key: &'a str) -> Path<'a> {
        Path::Key(self, key)
    }

    pub(crate) fn index(&'a self, index: usize) -> Path<'a> {
        Path::Index(self, index)
    }

    pub(crate) fn error(&self, reason: impl Into<String>) -> PolicyError {
        PolicyError { path: self.to_string(), reason: reason.into() }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Path::Root => f.write_str("$"),
            Path::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Path::Key(parent, key) if is_plain(key) => write!(f, "{parent}.{key}"),
            Path::Key(parent, key) => write!(f, "{parent}[{}]", serde_json::Value::from(*key)),
        }
    }
}

fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
}
