//! What a Principal configures: whose signatures are accepted, and what they may call.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ObjectRef, PartName};

/// One Principal. It never has a secret access key: what it has is worth as many days as there are signing keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrincipalPart {
    /// The Principal.
    pub object: ObjectRef,
    /// Its account, 12 digits.
    pub account: String,
    /// `arn:aws:iam::ACCOUNT:user/NAME`.
    pub arn: String,
    /// Its tags, for conditions of policies.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// The Authorizers that accept it: it goes to the fleets that these go to.
    pub authorizers: Vec<PartName>,
    /// Its access keys.
    pub keys: Vec<AccessKey>,
    /// Of a role: the keys that open its session tokens, of the days on which those were issued.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub session_keys: Vec<SessionDayKey>,
    /// Its identity policies: documents in the language of IAM.
    pub policies: Vec<String>,
    /// Set if it cannot be served as written: the reason. All its requests are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

/// An access key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccessKey {
    /// Its id. No other Principal has it.
    pub id: String,
    /// Its keys of each day.
    pub signing_keys: Vec<DayKey>,
}

/// A key that verifies the signatures of one day.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct DayKey {
    /// The day of the credential scope, `YYYYMMDD` in UTC.
    pub date: String,
    /// The region of the scope.
    pub region: String,
    /// The service of the scope.
    pub service: String,
    /// The signing key, 32 bytes as base64.
    pub key: String,
}

/// A key that opens the session tokens of one day.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionDayKey {
    /// The day on which the tokens were issued, `YYYYMMDD` in UTC.
    pub date: String,
    /// The key, 32 bytes as base64.
    pub key: String,
}

impl fmt::Debug for SessionDayKey {
    // It holds a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionDayKey({})", self.date)
    }
}

impl fmt::Debug for DayKey {
    // It holds a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DayKey({}/{}/{})", self.date, self.region, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signing_key_is_never_printed() {
        let (date, region, service) = ("20261127".into(), "eu-west-1".into(), "execute-api".into());
        let key = DayKey { date, region, service, key: "s3cret".into() };
        let key = AccessKey { id: "AKIA".into(), signing_keys: vec![key] };
        assert_eq!(
            format!("{key:?}"),
            r#"AccessKey { id: "AKIA", signing_keys: [DayKey(20261127/eu-west-1/execute-api)] }"#
        );
        let key = SessionDayKey { date: "20261127".into(), key: "s3cret".into() };
        assert_eq!(format!("{key:?}"), "SessionDayKey(20261127)");
    }
}
