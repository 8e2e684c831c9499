//! Authorization: who may call the rules of an ApiRoute.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::reference::Reference;

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.authorizer) == (self.type == 'Authorizer')",
    "message": "type Authorizer requires the field authorizer, which is not allowed with type None"
}, {
    "rule": "self.type == 'Authorizer' || !has(self.scopes)",
    "message": "scopes are allowed with type Authorizer only"
}]))]
pub struct Authorization {
    /// `Authorizer`: the Authorizer accepts or rejects each request. `None`: every client may call. Example: `Authorizer`.
    #[serde(rename = "type")]
    pub type_: AuthorizationType,
    /// The Authorizer. Required with type `Authorizer`, not allowed with `None`. Example: `{name: customers}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<Reference>,
    /// Scopes of which the token must have at least one. Empty: no scope is required. At most 10 of at most 128
    /// characters. Example: `[orders.read]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 10),
        inner(length(min = 1, max = 128), regex(pattern = crate::field::SCOPE)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub scopes: Vec<String>,
}

/// How callers are authorized.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum AuthorizationType {
    /// An Authorizer accepts or rejects each request.
    Authorizer,
    /// Every client may call.
    None,
}
