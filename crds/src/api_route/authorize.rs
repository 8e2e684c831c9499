//! Expressions that authorize requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest list of expressions of an ApiRoute or a rule.
pub const MAX_EXPRESSIONS: usize = 16;
/// The longest expression, in characters.
pub const MAX_EXPRESSION: usize = 4096;
/// The longest message, in characters.
pub const MAX_MESSAGE: usize = 1024;

/// A condition that a request must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeExpression {
    /// The condition, in CEL. A request for which it is false, or cannot be evaluated, gets 403. It reads the variables `request`,
    /// `source`, `identity`, `certificate`, `key`, `stage` and `params`. At most 4096 characters.
    /// Example: `identity.claims.tenant == params.tenant`.
    #[schemars(length(min = 1, max = MAX_EXPRESSION))]
    pub expression: String,
    /// What a rejected client reads. Unset: a general sentence. At most 1024 characters.
    /// Example: `Only members of the tenant may call this operation.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = MAX_MESSAGE))]
    pub message: Option<String>,
}
