//! ApiKey: one key of one customer, and the usage plans it belongs to.
//! The key's text stands in a Secret and never in the object.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{condition::conditions_schema, reference::Reference};

/// The key of the Secret's data below which an API key stands.
pub const SECRET_DATA_KEY: &str = "api-key";

/// What follows the ApiKey's name in the name of a Secret that the operator makes.
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
    doc = "An ApiKey lets a customer's program call rules with `apiKey: Required` (AWS: API key). The key itself stands in a Secret; only its SHA-256 digest leaves the operator.",
    printcolumn(
        name = "Enabled",
        type_ = "boolean",
        json_path = ".spec.enabled",
        description = "Whether the key is accepted."
    ),
    printcolumn(name = "Customer", type_ = "string", json_path = ".spec.customerId", description = "Whose key it is."),
    printcolumn(
        name = "Plans",
        type_ = "string",
        json_path = ".spec.plans[*].name",
        description = "The first usage plan of the key."
    ),
    printcolumn(name = "Prefix", type_ = "string", json_path = ".status.prefix", description = "How the key begins."),
    printcolumn(
        name = "Accepted",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Accepted\")].status",
        description = "Whether the object is valid and free of conflicts."
    ),
    printcolumn(
        name = "ResolvedRefs",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"ResolvedRefs\")].status",
        description = "Whether everything that it names exists and can be used."
    ),
    printcolumn(
        name = "Programmed",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Programmed\")].status",
        description = "Whether every proxy knows the key."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason",
        description = "Why the first condition that does not hold does not; empty when all is well."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Secret",
        type_ = "string",
        priority = 1,
        json_path = ".status.secretName",
        description = "The Secret that holds the key."
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        priority = 1,
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "What is wrong with the object, if anything."
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeySpec {
    /// Whether the key is accepted. Unset: `true`. `false` refuses it with 403 and keeps its place.
    #[serde(default = "default_true")]
    pub enabled: bool,
    /// Whose key it is; appears in access logs. Unset: nobody's in particular. At most 128 characters. Example: `acme`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = r"^[!-~]([ -~]*[!-~])?$"))]
    pub customer_id: Option<String>,
    /// The UsagePlans that the key belongs to. Empty: no stage accepts the key, since a key is valid for the stages of its
    /// plans. At most 16. Example: `[{name: gold}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 16),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x == y))",
            "message": "each UsagePlan may be listed once"
        }])
    )]
    pub plans: Vec<Reference>,
    /// The Secret that holds the key in its entry `api-key`. Unset: the operator generates a key and stores it in the
    /// Secret `<name>-api-key`, which is deleted together with the ApiKey. Example: `{name: acme-key}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<Reference>,
}

/// What became of an ApiKey.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKeyStatus {
    /// Accepted, ResolvedRefs and Programmed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The generation of the object that these words are about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// How the key begins, to tell keys apart without knowing them. Example: `sk_7f3a…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub prefix: Option<String>,
    /// The Secret that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub secret_name: Option<String>,
}

const fn default_true() -> bool {
    true
}
