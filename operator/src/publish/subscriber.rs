//! Who may subscribe to configuration: holders of a shared secret, or of a token of the proxies' service account.
//! What subscribers get is the sessions'.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use kube::api::{Api, PostParams};

const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// Longer credentials are not looked at.
const MAX_CREDENTIAL_BYTES: usize = 16 * 1024;

/// A service account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The text is not `NAMESPACE/NAME`.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a service account: write NAMESPACE/NAME")]
pub struct ParseAccountError(String);

impl std::str::FromStr for Account {
    type Err = ParseAccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned() })
            }
            _ => Err(ParseAccountError(text.to_owned())),
        }
    }
}

/// How subscribers prove who they are.
#[derive(Clone)]
pub enum Admission {
    /// Everybody is let in: on a loopback address only.
    Open,
    /// By the SHA-256 of a shared secret.
    Secret([u8; 32]),
    /// By asking the API server about a projected token.
    Token {
        /// Asks with it.
        client: kube::Client,
        /// The token must be meant for this audience.
        audience: String,
        /// The token must be this account's.
        account: Account,
    },
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Secret(_) => "Secret",
            Self::Token { .. } => "Token",
        })
    }
}

/// Why somebody is not let in. For the log; the caller learns nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("no bearer credential")]
    Missing,
    #[error("the shared secret is wrong")]
    WrongSecret,
    #[error("the API server does not accept the token")]
    NotAuthenticated,
    #[error("the token is that of {0}, not of the proxies' service account")]
    OtherAccount(String),
    #[error("the token is meant for another audience")]
    OtherAudience,
    #[error("the API server does not answer")]
    Unanswered,
    #[error("cannot ask the API server about a token")]
    Review(#[from] kube::Error),
}

impl Admission {
    /// Admission by a shared secret; space around it does not count.
    #[must_use]
    pub fn secret(text: &str) -> Self {
        Self::Secret(sha256(text.trim().as_bytes()))
    }

    /// Lets the bearer of a credential in, or not.
    pub(crate) async fn admit(&self, credential: Option<&str>) -> Result<(), Refused> {
        if matches!(self, Self::Open) {
            return Ok(());
        }
        let credential = credential.and_then(|text| text.split_once(' '));
        let credential =
            credential.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim());
        let credential = credential.filter(|text| !text.is_empty() && text.len() <= MAX_CREDENTIAL_BYTES);
        let credential = credential.ok_or(Refused::Missing)?;
        match self {
            Self::Open => Ok(()),
            Self::Secret(wanted) => {
                let given = sha256(credential.as_bytes());
                let same = aws_lc_rs::constant_time::verify_slices_are_equal(&given, wanted);
                same.map_err(|_| Refused::WrongSecret)
            }
            Self::Token { client, audience, account } => review(client, audience, account, credential).await,
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

async fn review(client: &kube::Client, audience: &str, account: &Account, token: &str) -> Result<(), Refused> {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(client.clone());
    let parameters = PostParams::default();
    let asked = tokio::time::timeout(REVIEW_TIMEOUT, api.create(&parameters, &review)).await;
    let status = asked.map_err(|_| Refused::Unanswered)??.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Err(Refused::NotAuthenticated);
    }
    // An API server that ignores audiences answers without them: such a token could be anybody's.
    if !status.audiences.unwrap_or_default().iter().any(|given| given == audience) {
        return Err(Refused::OtherAudience);
    }
    let user = status.user.and_then(|user| user.username).unwrap_or_default();
    if user != format!("system:serviceaccount:{}:{}", account.namespace, account.name) {
        return Err(Refused::OtherAccount(user));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_right_secret_is_let_in() {
        let admission = Admission::secret("s3cret-s3cret\n");
        assert!(admission.admit(Some("Bearer s3cret-s3cret")).await.is_ok());
        for bad in
            [None, Some(""), Some("Bearer "), Some("Bearer x"), Some("Basic s3cret-s3cret"), Some("s3cret-s3cret")]
        {
            assert!(admission.admit(bad).await.is_err(), "{bad:?}");
        }
        assert!(!format!("{admission:?}").contains("s3cret"));
    }

    #[test]
    fn an_account_is_namespace_and_name() {
        assert!("sluice/proxy".parse::<Account>().is_ok());
        for bad in ["", "a", "/a", "a/", "a/b/c"] {
            assert!(bad.parse::<Account>().is_err(), "{bad}");
        }
    }
}
