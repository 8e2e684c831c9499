//! Expressions that authorize requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A condition that a request must meet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizeExpression {
    /// The condition, in CEL. A request for which it is false, or cannot be evaluated, gets 403. It reads the variables `request`,
    /// `source`, `identity`, `certificate`, `stage` and `params`. At most 4096 characters.
    /// Example: `identity.claims.tenant == params.tenant`.
    #[schemars(length(min = 1, max = 4096))]
    pub expression: String,
    /// What a rejected client reads. Unset: a general sentence. At most 1024 characters.
    /// Example: `Only members of the tenant may call this operation.`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub message: Option<String>,
}
