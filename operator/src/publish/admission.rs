//! Authentication of proxies: by a shared secret, or by a token of a service account of proxies, which can be bound to a fleet.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use aws_lc_rs::digest;
use sluice_wire::{FleetName, ParseFleetError};

use crate::publish::token_review::{AuthError, Reviews, claims, review};

/// Extra field of a TokenReview for a token that is bound to a Pod.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
/// Shorter secrets can be guessed.
const MIN_SECRET_BYTES: usize = 16;
/// Maximum length of an unauthenticated name in logs.
const MAX_USER_CHARS: usize = 253;
/// Longer credentials are rejected.
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
#[error("{0:?} is not a service account: use NAMESPACE/NAME")]
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

/// A service account of proxies, and the fleet that they may join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyAccount {
    /// The account.
    pub account: Account,
    /// The only fleet that its proxies may join, unless the account is listed again; none: every fleet.
    pub fleet: Option<FleetName>,
}

/// The text is neither `NAMESPACE/NAME` nor `NAMESPACE/NAME=FLEET`.
#[derive(Debug, thiserror::Error)]
pub enum ParseProxyAccountError {
    /// The account.
    #[error(transparent)]
    Account(#[from] ParseAccountError),
    /// The fleet.
    #[error(transparent)]
    Fleet(#[from] ParseFleetError),
}

impl From<Account> for ProxyAccount {
    fn from(account: Account) -> Self {
        Self { account, fleet: None }
    }
}

impl std::str::FromStr for ProxyAccount {
    type Err = ParseProxyAccountError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once('=') {
            Some((account, fleet)) => Self { account: account.parse()?, fleet: Some(fleet.parse()?) },
            None => Self { account: text.parse()?, fleet: None },
        })
    }
}

/// How proxies authenticate.
#[derive(Clone)]
pub enum Admission {
    /// No authentication: on a loopback address only.
    Open,
    /// By a shared secret.
    Secret(Secret),
    /// By a TokenReview of a projected token.
    Token {
        /// The client for TokenReviews.
        client: kube::Client,
        /// The required audience.
        audience: String,
        /// The accepted accounts.
        accounts: Arc<[ProxyAccount]>,
        /// Limits concurrent reviews.
        reviews: Reviews,
    },
}

/// A shared secret, as its SHA-256.
#[derive(Clone)]
pub struct Secret {
    hash: Arc<RwLock<[u8; 32]>>,
    /// The file, which is reloaded periodically.
    file: Option<PathBuf>,
}

/// Why there is no shared secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("cannot read the secret in {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The secret is invalid.
    #[error("the secret in {0} is shorter than {MIN_SECRET_BYTES} characters: use at least 32 random characters")]
    Short(PathBuf),
}

/// An authenticated proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    /// The Pod that the credential is bound to, if it is bound to any.
    pub(crate) pod: Option<String>,
    /// The fleets that it may join; none: every fleet.
    pub(crate) fleets: Option<Vec<FleetName>>,
}

impl Admitted {
    const ANY: Self = Self { pod: None, fleets: None };

    /// Whether the bearer may join a fleet.
    pub(crate) fn may_join(&self, fleet: &FleetName) -> bool {
        self.fleets.as_ref().is_none_or(|fleets| fleets.contains(fleet))
    }
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

impl Admission {
    /// Authentication by a shared secret; surrounding whitespace is ignored.
    #[must_use]
    pub fn secret(text: &str) -> Self {
        let hash = Arc::new(RwLock::new(sha256(text.trim().as_bytes())));
        Self::Secret(Secret { hash, file: None })
    }

    /// Authentication by the shared secret in a file, which is reloaded.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub async fn secret_file(path: PathBuf) -> Result<Self, SecretError> {
        let hash = Arc::new(RwLock::new(read(&path).await?));
        Ok(Self::Secret(Secret { hash, file: Some(path) }))
    }

    /// Authentication by tokens of service accounts with an audience.
    #[must_use]
    pub fn token(client: kube::Client, audience: String, accounts: Vec<ProxyAccount>) -> Self {
        Self::Token { client, audience, accounts: accounts.into(), reviews: Reviews::new() }
    }

    /// Reloads the secret.
    pub(crate) async fn reload(&self) {
        let Self::Secret(Secret { hash, file: Some(path) }) = self else { return };
        match read(path).await {
            Ok(now) => *hash.write().unwrap_or_else(PoisonError::into_inner) = now,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "cannot reload the shared secret; keeping the current one");
            }
        }
    }

    /// Authenticates the bearer of a credential that comes from `source` (`sluice_daemon::source_of`).
    pub(crate) async fn admit(&self, credential: Option<&str>, source: u128) -> Result<Admitted, AuthError> {
        if matches!(self, Self::Open) {
            return Ok(Admitted::ANY);
        }
        let credential = credential.and_then(|text| text.split_once(' '));
        let credential =
            credential.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, text)| text.trim());
        let credential = credential.filter(|text| !text.is_empty() && text.len() <= MAX_CREDENTIAL_BYTES);
        let credential = credential.ok_or(AuthError::Missing)?;
        match self {
            Self::Open => Ok(Admitted::ANY),
            Self::Secret(Secret { hash, .. }) => {
                let (given, expected) =
                    (sha256(credential.as_bytes()), *hash.read().unwrap_or_else(PoisonError::into_inner));
                let same = aws_lc_rs::constant_time::verify_slices_are_equal(&given, &expected);
                same.map(|()| Admitted::ANY).map_err(|_| AuthError::WrongSecret)
            }
            Self::Token { client, audience, accounts, reviews } => {
                // A token that does not claim to be a proxy's causes no review.
                let claims = claims(credential).ok_or(AuthError::NotAuthenticated)?;
                let (account, fleets) = own(accounts, &claims.sub)
                    .ok_or_else(|| AuthError::OtherAccount(claims.sub.chars().take(MAX_USER_CHARS).collect()))?;
                claims.check(audience, SystemTime::now())?;
                let (client, audience, account) = (client.clone(), audience.clone(), account.clone());
                let pod = reviews.run(source, pod(client, audience, account, credential.to_owned())).await?;
                Ok(Admitted { pod, fleets })
            }
        }
    }
}

impl Account {
    /// The user name in a TokenReview.
    fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.name)
    }
}

/// The account of a user, and the fleets that it may join; none: every fleet.
fn own<'a>(accounts: &'a [ProxyAccount], user: &str) -> Option<(&'a Account, Option<Vec<FleetName>>)> {
    let own: Vec<&ProxyAccount> = accounts.iter().filter(|own| own.account.user() == user).collect();
    let fleets = own.iter().map(|own| own.fleet.clone()).collect();
    own.first().map(|own| (&own.account, fleets))
}

async fn read(path: &PathBuf) -> Result<[u8; 32], SecretError> {
    let text = tokio::fs::read_to_string(path).await;
    let text = text.map_err(|source| SecretError::Read { path: path.clone(), source })?;
    let text = text.trim();
    if text.len() < MIN_SECRET_BYTES {
        return Err(SecretError::Short(path.clone()));
    }
    Ok(sha256(text.as_bytes()))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The Pod that a token of an account is bound to.
async fn pod(
    client: kube::Client,
    audience: String,
    account: Account,
    token: String,
) -> Result<Option<String>, AuthError> {
    let user = review(client, audience, token).await?;
    let name = user.username.unwrap_or_default();
    if name != account.user() {
        return Err(AuthError::OtherAccount(name));
    }
    Ok(user.extra.and_then(|mut extra| extra.remove(POD_NAME)).and_then(|names| names.into_iter().next()))
}

#[cfg(test)]
mod tests;
