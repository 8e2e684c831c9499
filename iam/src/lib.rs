//! Policies of AWS Identity and Access Management (IAM): a strict parser and an evaluator, without I/O.
//!
//! The package knows the language of policies and no service: action, ARN and context keys of a request are given by
//! the caller.
//!
//! ```
//! use sluice_iam::{Context, Kind, Options, Policy, Principal, Request, Values, Verdict};
//!
//! struct Call {
//!     source_ip: String,
//! }
//!
//! impl Context for Call {
//!     fn values(&self, key: &str) -> Values<'_> {
//!         Values::borrowed((key == "aws:sourceip").then_some(self.source_ip.as_str()))
//!     }
//! }
//!
//! let document = r#"{
//!     "Version": "2012-10-17",
//!     "Statement": {
//!         "Sid": "Office",
//!         "Effect": "Allow",
//!         "Principal": "*",
//!         "Action": "execute-api:Invoke",
//!         "Resource": "execute-api:/prod/GET/pets/*",
//!         "Condition": {"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}
//!     }
//! }"#;
//! let options = Options { resource_prefix: Some("arn:aws:execute-api:eu-west-1:123456789012:abc123") };
//! let policy = Policy::parse(document, Kind::Resource, options)?;
//!
//! let verdict = policy.evaluate(&Request {
//!     action: "execute-api:Invoke",
//!     resource: "arn:aws:execute-api:eu-west-1:123456789012:abc123/prod/GET/pets/7",
//!     principal: Principal::Anonymous,
//!     context: &Call { source_ip: "192.0.2.7".to_owned() },
//! });
//! assert!(matches!(verdict, Verdict::Allow(decided) if decided.sid == Some("Office")));
//! # Ok::<(), sluice_iam::PolicyError>(())
//! ```
//!
//! # Where the documentation of IAM leaves a choice
//!
//! * A variable whose key has several values, or none and no default, makes its value of `Resource` or `Condition`
//!   match nothing. A statement does not apply if the variable is in `NotResource`, or in a negated operator whose key
//!   is present.
//! * A key with several values and an operator without a prefix: one value that matches is enough; negated operators
//!   are the opposite, so that no value may match.
//! * A value of the request that does not have the form of the operator (a number, a date, an address, an ARN, base64)
//!   matches nothing: negated operators are true.
//! * `BinaryEquals` compares bytes; the context gives them as base64, as the policy does.
//! * Both `*` and `?` are literal in `StringEquals`; `?` matches one character of Unicode.
//! * `NotPrincipal` leaves out a caller if its account and its own ARN, or that of its role, are named. It needs the
//!   effect `Deny`.
//! * Principals of the types `Service`, `Federated` and `CanonicalUser` are parsed and match no caller.

mod arn;
mod condition;
mod error;
mod glob;
mod json;
mod operator;
mod policy;
mod principal;
mod request;
mod scalar;
mod statement;
mod template;
mod verdict;

pub use error::PolicyError;
pub use json::MAX_NESTING;
pub use policy::{MAX_DOCUMENT, MAX_RESOURCE_DOCUMENT, MAX_STATEMENTS, Policy};
pub use request::{Context, Principal, Request, Values};
pub use statement::{Kind, MAX_AUTHORIZER_RESOURCE, MAX_VALUES, Options};
pub use verdict::{Accounts, Decided, Verdict, WithoutEffect, combine};
