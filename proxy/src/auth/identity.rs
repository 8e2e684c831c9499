//! A caller that an authorizer has identified, in a form that does not depend on the kind of authorizer.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};

use crate::key::Presented;
use crate::permission::CallerPolicies;

/// A verified caller.
#[derive(Clone)]
pub(crate) struct Identity {
    /// The kind of authorizer that identified it.
    pub(crate) kind: &'static str,
    /// The caller's name; none: it has none. Of a token its `sub`.
    pub(crate) id: Option<String>,
    pub(crate) scopes: Vec<String>,
    /// The attributes of the caller; those of a token are its claims.
    pub(crate) attributes: Map<String, Value>,
    /// The policies of the caller; none: it may call everything that the other checks allow.
    pub(crate) policies: Option<Arc<CallerPolicies>>,
    /// The API key that a Lambda authorizer names for the caller.
    pub(crate) api_key: Presented,
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
    /// A caller that has signed a request with an access key: `user` is `namespace/name` of a Principal, with the name of a session.
    pub(super) fn signed_by(
        access_key: &str,
        account: &str,
        arn: &str,
        user: &str,
        policies: Arc<CallerPolicies>,
        expires: SystemTime,
    ) -> Self {
        let attributes =
            [("accessKey", access_key), ("accountId", account), ("caller", user), ("user", user), ("userArn", arn)];
        Self {
            kind: "Iam",
            id: Some(arn.to_owned()),
            scopes: Vec::new(),
            attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect(),
            policies: Some(policies),
            api_key: Presented::Nothing,
            expires,
            cache_identity: cache_identity(&[b"Iam", user.as_bytes()]),
        }
    }

    /// Whether its attributes are the context that a Lambda authorizer returned, and not claims of a token.
    pub(crate) fn has_context(&self) -> bool {
        self.kind == "Lambda"
    }

    /// Whether one of `required` is among its scopes; true when none is required.
    pub(crate) fn has_any_scope(&self, required: &[String]) -> bool {
        required.is_empty() || required.iter().any(|scope| self.scopes.contains(scope))
    }

    /// The attribute with that name, or at that path: `realm_access.roles` is `roles` of the object `realm_access`, unless an
    /// attribute has the whole name.
    pub(crate) fn value(&self, path: &str) -> Option<&Value> {
        let (mut object, mut path) = (&self.attributes, path);
        loop {
            if let Some(value) = object.get(path) {
                return Some(value);
            }
            // The shortest name that exists, so that there is one reading of each path.
            let mut ends = path.match_indices('.').map(|(at, _)| path.split_at(at));
            let (inner, rest) = ends.find_map(|(name, rest)| Some((object.get(name)?, rest)))?;
            object = inner.as_object()?;
            path = rest.strip_prefix('.')?;
        }
    }

    /// The memory that it takes, roughly.
    pub(super) fn memory(&self) -> usize {
        let own = self.cache_identity.len() + self.scopes.iter().map(|scope| 32 + scope.len()).sum::<usize>();
        own + members(&self.attributes)
    }

    /// An attribute as text; lists and objects as JSON.
    pub(crate) fn attribute(&self, path: &str) -> Option<Cow<'_, str>> {
        match self.value(path)? {
            Value::Null => None,
            Value::String(text) => Some(Cow::Borrowed(text)),
            other => Some(Cow::Owned(other.to_string())),
        }
    }
}

/// The memory of an object's members. How deep they are is limited by the parser.
fn members(object: &Map<String, Value>) -> usize {
    object.iter().map(|(name, value)| 2 * size_of::<Value>() + name.len() + inner(value)).sum()
}

/// The memory of what a value contains.
fn inner(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(|value| size_of::<Value>() + inner(value)).sum(),
        Value::Object(object) => members(object),
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn memory_counts_small_values_and_not_only_their_text() {
        let memory = |attributes: Value| {
            let attributes = attributes.as_object().unwrap().clone();
            let identity = Identity {
                kind: "Jwt",
                id: None,
                scopes: Vec::new(),
                attributes,
                policies: None,
                api_key: Presented::Nothing,
                expires: SystemTime::UNIX_EPOCH,
                cache_identity: Box::default(),
            };
            identity.memory()
        };
        assert_eq!(memory(json!({})), 0);
        assert!(memory(json!({"a": "x".repeat(1000)})) >= 1000);
        assert!(memory(json!({"a": vec![1; 1000]})) >= 1000 * size_of::<Value>());
        assert!(memory(json!({"a": {"b": {"c": vec!["x"; 10]}}})) >= 10 * size_of::<Value>());
    }

    #[test]
    fn an_attribute_is_found_by_its_name_or_its_path() {
        let attributes = json!({
            "sub": "ann",
            "realm_access": {"roles": ["a", "b"], "": "empty", "deep": {"er": {"x.y": 1, "no": null}}},
            "realm_access.roles.0": "literal",
            "https://shop.example/role": "admin",
            "a.b": {"c": "dotted"},
            "list": [{"name": "first"}],
        });
        let identity = Identity {
            kind: "Jwt",
            id: None,
            scopes: Vec::new(),
            attributes: attributes.as_object().unwrap().clone(),
            policies: None,
            api_key: Presented::Nothing,
            expires: SystemTime::UNIX_EPOCH,
            cache_identity: Box::default(),
        };
        for (path, expected) in [
            ("sub", Some("ann")),
            ("realm_access.roles", Some(r#"["a","b"]"#)),
            ("realm_access.roles.0", Some("literal")),
            ("realm_access.", Some("empty")),
            ("realm_access.deep.er.x.y", Some("1")),
            ("realm_access.deep.er.no", None),
            ("realm_access.deep.other", None),
            ("https://shop.example/role", Some("admin")),
            ("a.b.c", Some("dotted")),
            ("a.b.c.d", None),
            ("list.0.name", None),
            ("sub.x", None),
            (".sub", None),
            ("", None),
        ] {
            assert_eq!(identity.attribute(path).as_deref(), expected, "{path}");
        }
    }
}
