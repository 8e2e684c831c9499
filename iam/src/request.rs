//! What is evaluated: a request with its caller and its context keys.

use std::borrow::Cow;

/// The values of a context key in one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values<'a> {
    /// The request does not have the key.
    None,
    /// The usual form: one value, which can be borrowed from the request.
    One(Cow<'a, str>),
    /// A key with a set of values. An empty list is the same as [`Values::None`].
    Many(Vec<Cow<'a, str>>),
}

impl<'a> Values<'a> {
    /// One borrowed value, or none.
    pub fn borrowed(value: Option<&'a str>) -> Self {
        value.map_or(Self::None, |value| Self::One(Cow::Borrowed(value)))
    }

    pub(crate) fn as_slice(&self) -> &[Cow<'a, str>] {
        match self {
            Self::None => &[],
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

/// The context keys of a request. Values are computed only for the keys that a policy names.
pub trait Context {
    /// The values of a key. The key is in lower case, such as `aws:sourceip`: IAM ignores the case of keys.
    fn values(&self, key: &str) -> Values<'_>;
}

/// Who sent a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Principal<'a> {
    /// A request without verified credentials of IAM. Only `"*"` matches it.
    Anonymous,
    /// A user, a role, or a session of one.
    Aws {
        /// The account, 12 digits.
        account: &'a str,
        /// The ARN, such as `arn:aws:iam::123456789012:user/ann` or
        /// `arn:aws:sts::123456789012:assumed-role/reader/session`.
        arn: &'a str,
        /// For a session of a role: the ARN of the role, `arn:aws:iam::123456789012:role/reader`. A policy that names
        /// the role matches its sessions.
        role_arn: Option<&'a str>,
    },
}

/// A request to authorize.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The action, such as `execute-api:Invoke`. Upper and lower case are equal.
    pub action: &'a str,
    /// The ARN of the resource. The caller limits its length (API Gateway: 1,600 bytes).
    pub resource: &'a str,
    /// Who sent the request. Policies of [`Kind::Resource`](crate::Kind::Resource) match it; others apply to the caller
    /// that they belong to.
    pub principal: Principal<'a>,
    /// The context keys.
    pub context: &'a dyn Context,
}
