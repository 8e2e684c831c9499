//! ApiKey: one key of one customer, and its usage plans. The key itself is in a Secret.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{condition::conditions_schema, reference::Reference};

/// The data key of an API key in its Secret.
pub const SECRET_DATA_KEY: &str = "api-key";

/// The suffix of the name of a Secret that the operator creates.
pub const SECRET_NAME_SUFFIX: &str = "-api-key";

/// One API key.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "ApiKey",
    plural = "apikeys",
    shortname = "akey",
    category = "sluice",
    namespaced,
    status = "ApiKeyStatus",
    derive = "PartialEq",
    doc = "An ApiKey lets a customer's program call rules with `apiKey: Required` (AWS: API key). The key itself is in a Secret; proxies receive its SHA-256 digest only.",
    printcolumn(
        name = "Enabled",
        type_ = "boolean",
        json_path = ".spec.enabled",
        description = "Whether the key is accepted."
    ),
    printcolumn(
        name = "Customer",
        type_ = "string",
        json_path = ".spec.customerId",
        description = "The customer of the key."
    ),
    printcolumn(
        name = "Plans",
        type_ = "string",
        json_path = ".spec.plans[*].name",
        description = "The first usage plan of the key."
    ),
    printcolumn(
        name = "Prefix",
        type_ = "string",
        json_path = ".status.prefix",
        description = "The first characters of the key."
    ),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the object is valid and has no conflict."
    ),
    printcolumn(
        name = "ResolvedRefs",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ResolvedRefs\")].status",
        description = "Whether each referenced object exists and is usable."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether each connected proxy has this generation of the key."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason",
        description = "Reason of the first condition that is False; empty if there is none."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Secret",
        type_ = "string",
        priority = 1,
        json_path = ".status.secretName",
        description = "The Secret with the key."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "Message of the first condition that is False."
    )
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.secret) == has(oldSelf.secret)",
    "message": "secret cannot be added or removed: the key that clients use would stop working; create another ApiKey"
}]))]
pub struct ApiKeySpec {
    /// Whether the key is accepted. `false`: requests with it are rejected with 403. Unset: `true`.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// The customer of the key, for the access log. Unset: none. At most 128 characters. Example: `acme`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = crate::field::PRINTABLE))]
    pub customer_id: Option<String>,
    /// The UsagePlans of the key, which define its stages and throttles. Empty: the key is valid for no stage. At most 16.
    /// Example: `[{name: gold}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x == y))",
            "message": "each UsagePlan may be listed once"
        }])
    )]
    pub plans: Vec<Reference>,
    /// The Secret with the key, data key `api-key`. Unset: the operator generates a key and stores it in the
    /// Secret `<name>-api-key`, which is deleted together with the ApiKey. It cannot be added or removed later; the name of
    /// the Secret can be changed. Example: `{name: acme-key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
}

/// The observed state of an ApiKey.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyStatus {
    /// Accepted, ResolvedRefs and Programmed; Warnings while there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The most recent generation observed by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// The first characters of the key. Example: `sk_7f3a…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub prefix: Option<String>,
    /// The Secret with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
}

const fn default_true() -> bool {
    true
}
