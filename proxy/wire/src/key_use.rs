//! Uses of access keys: a proxy reports when requests were last signed with them.

use serde::{Deserialize, Serialize};

use crate::PartName;

/// The most keys of one report: a proxy sends others with the next one, and the operator ignores further ones.
pub const MAX_KEY_USES: usize = 4096;

/// The access keys that were used since the last report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// Each key once.
    pub keys: Vec<KeyUse>,
}

/// The last use of an access key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyUse {
    /// The part of the Principal that has it.
    pub principal: PartName,
    /// Its id.
    pub id: String,
    /// The minute of the last request that was signed with it, in seconds since 1970.
    pub at: u64,
}
