//! Access reviews: the operator asks the API server on a proxy's behalf whether a ServiceAccount may call an ApiRoute.

use serde::{Deserialize, Serialize};

/// How the user names of ServiceAccounts begin.
const USER: &str = "system:serviceaccount:";
/// Longer names are not valid in Kubernetes.
const MAX_NAME: usize = 253;

/// A question to the operator. It becomes a SubjectAccessReview for the resource `apiroutes/invoke`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessReview {
    /// Distinguishes it from the others of the stream.
    pub id: u64,
    /// `system:serviceaccount:NAMESPACE:NAME`.
    pub user: String,
    /// The method of the request in lower case.
    pub verb: String,
    /// The namespace of the ApiRoute.
    pub namespace: String,
    /// The ApiRoute.
    pub route: String,
}

/// The result of an [`AccessReview`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reviewed {
    /// That of the question.
    pub id: u64,
    /// Whether the call is allowed; none: the API server has not decided.
    #[serde(default)]
    pub allowed: Option<bool>,
}

/// A ServiceAccount, by its user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceAccountUser<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl<'a> ServiceAccountUser<'a> {
    /// The ServiceAccount of a user name; none: the user is none.
    #[must_use]
    pub fn parse(user: &'a str) -> Option<Self> {
        let (namespace, name) = user.strip_prefix(USER)?.split_once(':')?;
        let is_name = |text: &str| {
            let permitted = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
            !text.is_empty() && text.len() <= MAX_NAME && text.bytes().all(permitted)
        };
        (is_name(namespace) && is_name(name)).then_some(Self { namespace, name })
    }

    /// The groups that the API server gives it.
    #[must_use]
    pub fn groups(&self) -> [String; 3] {
        let all = "system:serviceaccounts";
        [all.to_owned(), format!("{all}:{}", self.namespace), "system:authenticated".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_name_is_that_of_a_service_account_or_of_none() {
        let parsed = ServiceAccountUser::parse("system:serviceaccount:shop:orders.v1").unwrap();
        assert_eq!((parsed.namespace, parsed.name), ("shop", "orders.v1"));
        let groups = ["system:serviceaccounts", "system:serviceaccounts:shop", "system:authenticated"];
        assert_eq!(parsed.groups(), groups);
        for bad in [
            "",
            "ann",
            "system:serviceaccount:",
            "system:serviceaccount:shop",
            "system:serviceaccount:shop:",
            "system:serviceaccount::orders",
            "system:serviceaccount:shop:a:b",
            "system:serviceaccount:shop:Orders",
            "system:serviceaccount:sh op:orders",
            "System:serviceaccount:shop:orders",
            " system:serviceaccount:shop:orders",
            "system:masters",
        ] {
            assert_eq!(ServiceAccountUser::parse(bad), None, "{bad}");
        }
        let long = format!("system:serviceaccount:shop:{}", "a".repeat(254));
        assert_eq!(ServiceAccountUser::parse(&long), None);
    }
}
