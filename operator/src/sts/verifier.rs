//! Verifies tokens of ServiceAccounts.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use kube::Client;
use sluice_wire::ServiceAccountUser;

use crate::objects::ObjectKey;
use crate::publish::{AuthError, TokenReviews, claims, review_token};

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// It is no token of a ServiceAccount of the cluster.
    Invalid,
    /// It has another audience.
    Audience,
    /// It has expired.
    Expired,
    /// It cannot be verified now.
    Unavailable,
}

/// Verifies a token without an API server: the ServiceAccount whose token it is.
type Verify = dyn Fn(&str) -> Result<ObjectKey, TokenError> + Send + Sync;

/// How tokens are verified. Clones are the same.
#[derive(Clone)]
pub struct Verifier(Kind);

#[derive(Clone)]
enum Kind {
    ApiServer { client: Client, audience: Arc<str>, reviews: TokenReviews },
    Local(Arc<Verify>),
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Verifier")
    }
}

impl Verifier {
    /// By reviews of the API server, for tokens with this audience.
    #[must_use]
    pub fn api_server(client: Client, audience: &str) -> Self {
        Self(Kind::ApiServer { client, audience: audience.into(), reviews: TokenReviews::new() })
    }

    /// By a function, where there is no API server.
    #[must_use]
    pub fn local(verify: impl Fn(&str) -> Result<ObjectKey, TokenError> + Send + Sync + 'static) -> Self {
        Self(Kind::Local(Arc::new(verify)))
    }

    /// The ServiceAccount whose token it is; the request comes from the address `source`.
    pub(super) async fn verify(&self, token: &str, source: u128) -> Result<ObjectKey, TokenError> {
        let (client, audience, reviews) = match &self.0 {
            Kind::Local(verify) => return verify(token),
            Kind::ApiServer { client, audience, reviews } => (client, audience, reviews),
        };
        // What cannot be valid causes no review.
        claims(token).ok_or(TokenError::Invalid)?.check(audience, SystemTime::now()).map_err(|error| reason(&error))?;
        let review = review_token(client.clone(), audience.to_string(), token.to_owned());
        let user = reviews.run(source, review).await.map_err(|error| {
            if matches!(error, AuthError::Review(_)) {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "cannot review a token for temporary credentials");
            }
            reason(&error)
        })?;
        let name = user.username.unwrap_or_default();
        let account = ServiceAccountUser::parse(&name).ok_or(TokenError::Invalid)?;
        Ok(ObjectKey::new(account.namespace, account.name))
    }
}

fn reason(error: &AuthError) -> TokenError {
    match error {
        AuthError::OtherAudience => TokenError::Audience,
        AuthError::Expired => TokenError::Expired,
        AuthError::Timeout | AuthError::Busy | AuthError::Review(_) => TokenError::Unavailable,
        AuthError::Missing | AuthError::WrongSecret | AuthError::NotAuthenticated | AuthError::OtherAccount(_) => {
            TokenError::Invalid
        }
    }
}
