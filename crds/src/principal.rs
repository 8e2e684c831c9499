//! Principal: a caller with AWS credentials. Its secret access keys are in Secrets.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::condition::conditions_schema;
use crate::field::{ACCOUNT, DNS_LABEL, Duration, IAM_ARN, OBJECT_NAME};
use crate::policy_document::PolicyDocument;
use crate::reference::{PolicyReference, Reference};

/// The data key of the access key id in its Secret. A Pod can use the Secret as its environment (`envFrom`).
pub const ID_DATA_KEY: &str = "AWS_ACCESS_KEY_ID";

/// The data key of the secret access key in its Secret.
pub const SECRET_DATA_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// The suffix of the name of a Secret that the operator creates.
pub const SECRET_NAME_SUFFIX: &str = "-access-key";

/// The most access keys that a status lists: two that are accepted, and ids that are kept while a Secret cannot be read.
pub const MAX_STATUS_KEYS: usize = 4;

/// The data key of the secret that the session tokens of a role depend on.
pub const SESSION_DATA_KEY: &str = "SESSION_KEY";

/// The suffix of the name of the Secret that the operator creates for a role.
pub const SESSION_SECRET_NAME_SUFFIX: &str = "-session-key";

/// For how long temporary credentials are valid at most, unless the Principal says something else.
pub const DEFAULT_SESSION_DURATION: Duration = Duration::from_secs(3_600);

/// The account of a Principal that names none.
pub const DEFAULT_ACCOUNT: &str = "000000000000";

/// One caller with AWS credentials.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "Principal",
    plural = "principals",
    shortname = "princ",
    category = "sluice",
    namespaced,
    status = "PrincipalStatus",
    derive = "PartialEq",
    doc = "A Principal is a caller with AWS credentials that the cluster issued (AWS: IAM user or role). It may call rules whose Authorizer has the type Iam and is in its namespace. Secret access keys are in Secrets; proxies receive keys that are derived from them for single days only.",
    printcolumn(
        name = "Key ID",
        type_ = "string",
        json_path = ".status.accessKeys[0].id",
        description = "The id of the first access key."
    ),
    printcolumn(
        name = "Last used",
        type_ = "date",
        json_path = ".status.accessKeys[0].lastUsed",
        description = "How long ago the first access key was last used, to the hour. Empty: it was not used."
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
        description = "Whether each connected proxy has this generation of the Principal."
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].reason",
        description = "Reason of the first condition that is False; empty if there is none."
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "ARN",
        type_ = "string",
        priority = 1,
        json_path = ".status.arn",
        description = "The name of the Principal in policies."
    ),
    printcolumn(
        name = "Key ID 2",
        type_ = "string",
        priority = 1,
        json_path = ".status.accessKeys[1].id",
        description = "The id of the second access key; empty if there is none."
    ),
    printcolumn(
        name = "Last used 2",
        type_ = "date",
        priority = 1,
        json_path = ".status.accessKeys[1].lastUsed",
        description = "How long ago the second access key was last used, to the hour. Empty: it was not used."
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
    "rule": "!has(self.arn) || !has(self.accountId) || self.arn.contains(':iam::' + self.accountId + ':')",
    "message": "the account in arn must be accountId; remove one of them"
}, {
    "rule": "!has(self.trust) || !has(self.accessKeys)",
    "message": "a Principal with trust is a role, whose credentials are temporary; remove accessKeys or trust"
}, {
    "rule": "!has(self.trust) || !has(self.arn) || self.arn.contains(':role/')",
    "message": "a Principal with trust is a role: its arn must be that of a role, arn:aws:iam::ACCOUNT:role/NAME"
}, {
    "rule": "!has(self.maxSessionDuration) || has(self.trust)",
    "message": "maxSessionDuration requires trust"
}]))]
pub struct PrincipalSpec {
    /// The access keys: each in a Secret with the data keys `AWS_ACCESS_KEY_ID` (16 to 128 capital letters and digits) and
    /// `AWS_SECRET_ACCESS_KEY` (16 to 128 visible ASCII characters). Two at a time, so that clients can change from one to the
    /// other. Unset: the operator generates a key and stores it in the Secret `<name>-access-key`, which is deleted together
    /// with the Principal. To replace a generated key, list its Secret and another one. From 1 to 2.
    /// Example: `[{secret: {name: reporting-key}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 2),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x == y))",
            "message": "each Secret may be listed once"
        }])
    )]
    pub access_keys: Vec<AccessKey>,
    /// Who may get temporary credentials of the Principal (AWS: the trust policy of a role). They are issued by the token service of
    /// the operator, for a token of a ServiceAccount. Such a Principal is a role and has no access keys. A ServiceAccount of another
    /// namespace may be listed: it needs no ReferenceGrant, because it is the Principal that grants. Unset: the
    /// Principal has access keys. From 1 to 32. Example: `[{serviceAccount: {name: reporting}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 32),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x == y))",
            "message": "each ServiceAccount may be listed once"
        }])
    )]
    pub trust: Vec<Trusted>,
    /// For how long temporary credentials are valid at most. Clients can ask for less, from 15 minutes on; without a wish they get
    /// one hour, or this if it is shorter. Unset: `1h`. Whole seconds, from `15m` to `12h`. Example: `8h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('15m') && duration(self) <= duration('12h')",
        "message": "maxSessionDuration must be from 15m to 12h"
    }, {
        "rule": "!self.contains('ms')",
        "message": "maxSessionDuration must be in whole seconds: do not use the unit ms"
    }]))]
    pub max_session_duration: Option<Duration>,
    /// What the Principal may call: IAM policies (AWS: identity policies), which are combined with the policy of the Stage. Empty:
    /// it may call nothing, unless the policy of the Stage allows it. At most 10.
    /// Example: `[{configMap: {name: read-only}}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10), extend("x-kubernetes-list-type" = "atomic"))]
    pub policies: Vec<IdentityPolicy>,
    /// The name of the Principal in policies. Unset: `arn:aws:iam::ACCOUNT:user/NAME`, with `trust`
    /// `arn:aws:iam::ACCOUNT:role/NAME`, with `accountId` and the name of the object. At most 512 characters. Example: `arn:aws:iam::111122223333:role/reporting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = IAM_ARN))]
    pub arn: Option<String>,
    /// The number of its account, 12 digits. With the account of a Stage (`aws.accountId`), a policy of either side is enough to
    /// allow a request; with another one both have to. Unset: that of `arn`, else `000000000000`. Example: `"111122223333"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 12), regex(pattern = ACCOUNT))]
    pub account_id: Option<String>,
    /// Tags, for `aws:PrincipalTag/NAME` in conditions of policies. Names have letters, digits, spaces and `+-=._:/@`, and differ
    /// not only in case. Empty: none. At most 50. Example: `{team: reporting}`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "tags_schema")]
    pub tags: BTreeMap<String, String>,
}

/// One access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessKey {
    /// The Secret with the key, data keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`. Example: `{name: reporting-key}`.
    pub secret: Reference,
}

/// Who may get temporary credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Trusted {
    /// A ServiceAccount, whose Pods get the credentials. Example: `{name: reporting}`.
    pub service_account: TrustedServiceAccount,
}

/// A ServiceAccount that may get temporary credentials.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrustedServiceAccount {
    /// Its name. At most 253 characters. Example: `reporting`.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// Its namespace. Unset: that of the Principal. At most 63 characters. Example: `jobs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub namespace: Option<String>,
}

/// An identity policy: a document, or a ConfigMap with one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.document) != has(self.configMap)",
    "message": "a policy requires either document or configMap"
}]))]
pub struct IdentityPolicy {
    /// Its name, for messages. Unset: the messages have the position in the list. At most 63 characters. Example: `read-only`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub name: Option<String>,
    /// An IAM policy document, whose statements name no principal. At most 20,480 bytes as JSON. Unset: it is in a ConfigMap.
    /// Example: `{Version: "2012-10-17", Statement: [{Effect: Allow, Action: "execute-api:Invoke", Resource: "*"}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<PolicyDocument>,
    /// The ConfigMap with the document as JSON. Unset: it is in `document`. Example: `{name: read-only}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map: Option<PolicyReference>,
}

/// The observed state of a Principal. It never has a secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PrincipalStatus {
    /// Accepted, ResolvedRefs and Programmed; Warnings while there are any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "conditions_schema")]
    pub conditions: Vec<Condition>,
    /// The most recent generation observed by the operator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// Its access keys: first those that proxies accept. An id remains listed, so that no other Principal can take it, until each
    /// Secret of the Principal can be read and none of them has the id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = MAX_STATUS_KEYS),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["id"])
    )]
    pub access_keys: Vec<AccessKeyStatus>,
    /// Its ARN. Example: `arn:aws:iam::000000000000:user/reporting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub arn: Option<String>,
}

/// The observed state of an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AccessKeyStatus {
    /// Its id, which is not secret.
    #[schemars(length(min = 1, max = 128))]
    pub id: String,
    /// When a request was last signed with it. The last use can be up to an hour later than this time. Unset: it was not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "time_schema")]
    pub last_used: Option<Time>,
}

fn time_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "format": "date-time"})
}

fn tags_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 50,
        "additionalProperties": {"type": "string", "maxLength": 256},
        "x-kubernetes-validations": [{
            "rule": "self.all(name, size(name) <= 128 && name.matches('^[A-Za-z0-9 +=._:/@-]+$'))",
            "message": "names of tags have 1 to 128 letters, digits, spaces and the characters + - = . _ : / @"
        }],
    })
}
