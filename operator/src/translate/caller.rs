//! A caller with AWS credentials, as the token service sees it: `translate` makes one for each valid Principal, and no part has it.

use std::fmt;

use crate::objects::ObjectKey;

/// A Principal with its secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its account, 12 digits.
    pub account: String,
    /// Its ARN: that of a user or of a role.
    pub arn: String,
    /// The ids of its access keys, with the secrets.
    pub access_keys: Vec<(String, SecretText)>,
    /// What a role has besides.
    pub role: Option<Role>,
}

/// A Principal whose credentials are temporary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// The ServiceAccounts that may get its credentials.
    pub trusted: Vec<ObjectKey>,
    /// For how long a session is valid at most, in seconds.
    pub max_duration_s: u64,
    /// What its session tokens depend on.
    pub seed: SecretText,
}

/// A text that is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_prints_none_of_its_secrets() {
        let secret = |text: &str| SecretText(text.to_owned());
        let role = Role { trusted: Vec::new(), max_duration_s: 3_600, seed: secret("s3ed") };
        let caller = Caller {
            account: "000000000000".into(),
            arn: "arn:aws:iam::000000000000:role/a".into(),
            access_keys: vec![("SLCE".into(), secret("s3cret"))],
            role: Some(role),
        };
        let printed = format!("{caller:?}");
        assert!(printed.contains("SLCE") && !printed.contains("s3"), "{printed}");
    }
}
