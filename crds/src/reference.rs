//! References from one object to another: one form for all kinds, `{name, namespace?}`. Without a namespace the object is in
//! the namespace of the object that refers. [`FIELDS`] lists every field that holds a reference. The operator resolves them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{DATA_KEY, NAMESPACE_NAME, OBJECT_NAME, SERVER_NAME};

/// A reference to an object by name. The field determines the kind.
///
/// Every other reference contains this one: a new member here is a member of all of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reference {
    /// The name of the object. At most 253 characters. Example: `prod`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The namespace of the object. Unset: the namespace of the object with this field. For another namespace, a
    /// ReferenceGrant there must permit the reference; a Stage permits ApiRoutes by its field `accepts` instead. At most
    /// 63 characters. Example: `shared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = NAMESPACE_NAME))]
    pub namespace: Option<String>,
}

impl Reference {
    /// The reference to the object of that name in the same namespace.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), namespace: None }
    }
}

/// A reference to one key of a ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyReference {
    /// The ConfigMap or Secret.
    #[serde(flatten)]
    pub object: Reference,
    /// The key in its `data` that holds the key set. Unset: `jwks.json`. At most 253 characters. Example: `keys.json`.
    #[serde(default = "default_jwks_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

/// A reference to one key of a Secret that holds the secret of a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyReference {
    /// The Secret.
    #[serde(flatten)]
    pub object: Reference,
    /// The key in its `data` that holds the client secret. Unset: `client-secret`. At most 253 characters.
    /// Example: `password`.
    #[serde(default = "default_client_secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

fn default_client_secret_key() -> String {
    "client-secret".to_owned()
}

/// A reference to one key of a ConfigMap that holds an IAM policy document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReference {
    /// The ConfigMap.
    #[serde(flatten)]
    pub object: Reference,
    /// The key in its `data` that holds the document as JSON. Unset: `policy.json`. At most 253 characters.
    /// Example: `read-only.json`.
    #[serde(default = "default_policy_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

fn default_policy_key() -> String {
    "policy.json".to_owned()
}

/// A reference to one port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "size(self.name) <= 63 && !self.name.contains('.')",
    "message": "the name of a Service has at most 63 characters and no dots"
}]))]
pub struct ServiceReference {
    /// The Service.
    #[serde(flatten)]
    pub object: Reference,
    /// The number of the port in the Service's `ports` (not its `targetPort`). From 1 to 65535. Example: `80`.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// TLS to the Service, and how its certificate is verified. Unset: TLS if the `appProtocol` of the port is `https`,
    /// `grpcs` or `kubernetes.io/wss`, with the values that the fields of `tls` have when they are unset.
    /// Example: `{ca: {type: ConfigMap, configMap: {name: internal-ca}}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<BackendTls>,
}

/// TLS to a Service. The proxy always verifies its certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// The name that the certificate must have; also sent as server name (SNI). Unset: `NAME.NAMESPACE.svc` of the Service;
    /// of a Service of type ExternalName its external name. At most 253 characters. Example: `orders.internal.example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = SERVER_NAME))]
    pub hostname: Option<String>,
    /// The certificate authorities that may have issued the certificate; no others are trusted then. Unset: those of the
    /// system of the proxy. Example: `{type: ConfigMap, configMap: {name: internal-ca}}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<CaSource>,
}

/// Certificates of authorities, as PEM, in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.configMap) == (self.type == 'ConfigMap')",
    "message": "type ConfigMap requires the field configMap, which is not allowed with other types"
}, {
    "rule": "has(self.secret) == (self.type == 'Secret')",
    "message": "type Secret requires the field secret, which is not allowed with other types"
}]))]
pub struct CaSource {
    /// The kind of the object with the certificates. Example: `ConfigMap`.
    #[serde(rename = "type")]
    pub type_: CaSourceType,
    /// The ConfigMap and its data key. Required with type `ConfigMap`. Example: `{name: internal-ca}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<CaReference>,
    /// The Secret and its data key. Required with type `Secret`. Example: `{name: internal-ca}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<CaReference>,
}

/// The kind of object that has certificates of authorities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum CaSourceType {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// A reference to one key of a ConfigMap or Secret that holds certificates.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CaReference {
    /// The ConfigMap or Secret.
    #[serde(flatten)]
    pub object: Reference,
    /// The key in its `data` that holds the certificates. Unset: `ca.crt`. At most 253 characters. Example: `bundle.pem`.
    #[serde(default = "default_ca_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = DATA_KEY))]
    pub key: String,
}

fn default_ca_key() -> String {
    "ca.crt".to_owned()
}

fn default_jwks_key() -> String {
    "jwks.json".to_owned()
}

/// A field that holds a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReferenceField {
    /// The kind that has the field.
    pub kind: &'static str,
    /// The path of the field; `[]` is each item of a list.
    pub path: &'static str,
    /// The kind of object that it refers to.
    pub target: &'static str,
}

const fn field(kind: &'static str, path: &'static str, target: &'static str) -> ReferenceField {
    ReferenceField { kind, path, target }
}

/// Every field of every kind that holds a reference.
pub const FIELDS: &[ReferenceField] = &[
    field("ApiKey", "spec.plans[]", "UsagePlan"),
    field("ApiKey", "spec.secret", "Secret"),
    field("ApiRoute", "spec.authorization.authorizer", "Authorizer"),
    field("ApiRoute", "spec.rules[].authorization.authorizer", "Authorizer"),
    field("ApiRoute", "spec.rules[].integration.service", "Service"),
    field("ApiRoute", "spec.rules[].integration.service.tls.ca.configMap", "ConfigMap"),
    field("ApiRoute", "spec.rules[].integration.service.tls.ca.secret", "Secret"),
    field("ApiRoute", "spec.stages[]", "Stage"),
    field("Authorizer", "spec.introspection.client.secret", "Secret"),
    field("Authorizer", "spec.jwt.issuers[].jwks.configMap", "ConfigMap"),
    field("Authorizer", "spec.jwt.issuers[].jwks.secret", "Secret"),
    field("Authorizer", "spec.lambda.function.invoke.credentials", "Secret"),
    field("Authorizer", "spec.lambda.function.invoke.service", "Service"),
    field("Authorizer", "spec.lambda.function.invoke.service.tls.ca.configMap", "ConfigMap"),
    field("Authorizer", "spec.lambda.function.invoke.service.tls.ca.secret", "Secret"),
    field("Authorizer", "spec.lambda.function.service", "Service"),
    field("Authorizer", "spec.lambda.function.service.tls.ca.configMap", "ConfigMap"),
    field("Authorizer", "spec.lambda.function.service.tls.ca.secret", "Secret"),
    field("Principal", "spec.accessKeys[].secret", "Secret"),
    field("Principal", "spec.policies[].configMap", "ConfigMap"),
    field("Stage", "spec.tls.certificates[]", "Secret"),
    field("Stage", "spec.tls.clientAuth.ca[].configMap", "ConfigMap"),
    field("Stage", "spec.tls.clientAuth.ca[].secret", "Secret"),
    field("Stage", "spec.tls.clientAuth.revocation[].configMap", "ConfigMap"),
    field("Stage", "spec.tls.clientAuth.revocation[].secret", "Secret"),
    field("UsagePlan", "spec.stages[]", "Stage"),
    field("UsagePlan", "spec.stages[].throttles[].route", "ApiRoute"),
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Names of callers, as the subjects of a RoleBinding are: nothing reads these objects.
    const SUBJECTS: [&str; 1] = ["spec.trust[].serviceAccount"];

    /// Every place below which a schema has a `name` that is the name of an object.
    fn references(path: &str, schema: &Value, found: &mut Vec<String>) {
        let name = &schema["properties"]["name"];
        if name["pattern"] == json!(OBJECT_NAME) && name["maxLength"] == json!(253) {
            found.push(path.to_owned());
        }
        for (name, child) in schema["properties"].as_object().into_iter().flatten() {
            references(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, child, found);
        }
        for child in ["items", "additionalProperties"].into_iter().filter_map(|key| schema.get(key)) {
            references(&format!("{path}[]"), child, found);
        }
    }

    #[test]
    fn the_table_has_every_reference_of_every_schema_and_no_other() {
        for definition in crate::manifest::definitions().unwrap() {
            let mut found = Vec::new();
            references("", definition.schema(), &mut found);
            found.retain(|path| !SUBJECTS.contains(&path.as_str()));
            found.sort();
            let listed: Vec<&str> =
                FIELDS.iter().filter(|field| field.kind == definition.kind).map(|field| field.path).collect();
            assert_eq!(found, listed, "{}", definition.kind);
        }
    }

    #[test]
    fn lists_of_references_are_atomic_and_unique_by_rule() {
        for definition in crate::manifest::definitions().unwrap() {
            for field in FIELDS.iter().filter(|field| field.kind == definition.kind) {
                let Some(list) = field.path.strip_suffix("[]") else { continue };
                let schema = list.split('.').fold(definition.schema(), |schema, step| &schema["properties"][step]);
                assert_eq!(schema["x-kubernetes-list-type"], json!("atomic"), "{} {list}", definition.kind);
                let rules = schema["x-kubernetes-validations"].to_string();
                assert!(rules.contains("exists_one"), "{} {list}: {rules}", definition.kind);
            }
        }
    }
}
