//! The names of a Stage in its ARNs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{ACCOUNT, DNS_LABEL, REGION};

/// The names of a Stage in AWS's terms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AwsNames {
    /// The region. At most 32 characters. Unset: `us-east-1`. Example: `eu-west-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32), regex(pattern = REGION))]
    pub region: Option<String>,
    /// The number of the account, 12 digits. Unset: `000000000000`. Example: `"111122223333"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(equal = 12), regex(pattern = ACCOUNT))]
    pub account_id: Option<String>,
    /// The id of the API. At most 63 characters. Unset: the namespace of the Stage. Example: `a1b2c3d4e5`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = DNS_LABEL))]
    pub api_id: Option<String>,
}
