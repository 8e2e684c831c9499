//! Names of sessions, and their ARNs.

/// Whether a text can be the name of a session: 2 to 64 letters, digits and characters of `_+=,.@-`, as for AWS.
#[must_use]
pub fn is_session_name(text: &str) -> bool {
    let is_permitted = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (2..=64).contains(&text.len()) && text.bytes().all(is_permitted)
}

/// The ARN of a session of a role, from the role's: `arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION`. The path of the role is not part
/// of it. None: the other ARN is not that of a role with a name.
#[must_use]
pub fn assumed_role(role_arn: &str, session: &str) -> Option<String> {
    let (partition, rest) = role_arn.strip_prefix("arn:")?.split_once(":iam::")?;
    let (account, path) = rest.split_once(":role/")?;
    let role = path.rsplit('/').next().filter(|role| !role.is_empty())?;
    Some(format!("arn:{partition}:sts::{account}:assumed-role/{role}/{session}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_sessions_have_the_characters_that_aws_permits() {
        for (name, valid) in [
            ("ab", true),
            ("app1@example.com", true),
            ("a+b=c,d.e@f-g_h", true),
            (&*"a".repeat(64), true),
            (&*"a".repeat(65), false),
            ("a", false),
            ("", false),
            ("a b", false),
            ("a/b", false),
            ("a:b", false),
            ("äb", false),
        ] {
            assert_eq!(is_session_name(name), valid, "{name}");
        }
    }

    #[test]
    fn the_arn_of_a_session_has_the_name_of_its_role_without_the_path() {
        for (role, expected) in [
            ("arn:aws:iam::111122223333:role/reporting", Some("arn:aws:sts::111122223333:assumed-role/reporting/one")),
            ("arn:aws:iam::111122223333:role/team/a/b", Some("arn:aws:sts::111122223333:assumed-role/b/one")),
            ("arn:aws-cn:iam::111122223333:role/b", Some("arn:aws-cn:sts::111122223333:assumed-role/b/one")),
            ("arn:aws-us-gov:iam::111122223333:role/b", Some("arn:aws-us-gov:sts::111122223333:assumed-role/b/one")),
            ("arn:aws:iam::111122223333:role/team/", None),
            ("arn:aws:iam::111122223333:user/reporting", None),
            ("reporting", None),
        ] {
            assert_eq!(assumed_role(role, "one").as_deref(), expected, "{role}");
        }
    }
}
