//! A caller that an authorizer has identified, in a form that does not depend on the kind of authorizer.

use std::borrow::Cow;
use std::time::SystemTime;

use serde_json::{Map, Value};

/// A verified caller.
#[derive(Clone, PartialEq)]
pub(crate) struct Identity {
    /// The kind of authorizer that identified it.
    pub(crate) kind: &'static str,
    /// The caller's name; none: it has none. Of a token its `sub`.
    pub(crate) id: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// The attributes of the caller; those of a token are its claims.
    pub(crate) attributes: Map<String, Value>,
    /// When the decision must be made again.
    pub(crate) expires: SystemTime,
    /// Distinguishes this caller from all others in cache keys. Where `id` is set it is sufficient: with any credential
    /// the caller shows next, the responses are the same.
    pub(crate) cache_identity: Box<[u8]>,
}

impl std::fmt::Debug for Identity {
    // Names and attributes are personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.kind)
    }
}

impl Identity {
    /// Whether one of `required` is among its scopes; true when none is required.
    pub(crate) fn has_any_scope(&self, required: &[String]) -> bool {
        required.is_empty() || required.iter().any(|scope| self.scopes.contains(scope))
    }

    /// An attribute as text; lists and objects as JSON.
    pub(crate) fn attribute(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.attributes.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }
}

/// Fields as one text that no other list of fields has. The first is the kind of authorizer.
pub(super) fn cache_identity(fields: &[&[u8]]) -> Box<[u8]> {
    let mut out = Vec::with_capacity(fields.iter().map(|field| 8 + field.len()).sum());
    for field in fields {
        out.extend_from_slice(&(field.len() as u64).to_be_bytes());
        out.extend_from_slice(field);
    }
    out.into_boxed_slice()
}
