//! A verified caller: what its token says.
//! Reading the token is `token`'s, believing it `authorizer`'s.

use std::borrow::Cow;
use std::time::SystemTime;

use serde_json::{Map, Value};

/// Whoever a verified token speaks for.
#[derive(Clone, PartialEq)]
pub(crate) struct Caller {
    /// `iss`.
    pub(crate) issuer: String,
    /// `sub`.
    pub(crate) subject: Option<String>,
    /// Everything the token says.
    pub(crate) claims: Map<String, Value>,
    /// `scope` and `scp`.
    pub(crate) scopes: Vec<String>,
    /// `exp`.
    pub(crate) expires: SystemTime,
}

impl std::fmt::Debug for Caller {
    // Claims are personal data.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Caller(of {})", self.issuer)
    }
}

impl Caller {
    /// Whether one of `asked` is among its scopes; true when nothing is asked.
    pub(crate) fn has_any_scope(&self, asked: &[String]) -> bool {
        asked.is_empty() || asked.iter().any(|scope| self.scopes.contains(scope))
    }

    /// A claim as text; lists and objects as JSON.
    pub(crate) fn claim(&self, name: &str) -> Option<Cow<'_, str>> {
        match self.claims.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }
}
